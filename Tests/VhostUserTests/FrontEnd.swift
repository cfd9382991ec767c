import Glibc
import Linux
import SystemPackage
import Testing

@testable import VhostUser

/// A scripted front-end, with the session that serves it on a thread of its own.
final class FrontEnd {
  struct Reply: Equatable {
    var code: UInt32
    var flags: UInt32
    var payload: [UInt8]
    var number: UInt64 { payload.count == 8 ? UInt64(payload) : .max }
  }

  private final class Outcome: Sendable {
    let end = Lock<SessionEnd?>(nil)
    let events = Lock<[SessionEvent]>([])
    let isOver: EventFD

    init() throws { isOver = try EventFD() }
  }

  private(set) var socket: OwnedFD?
  let backend: FakeBackend
  let stop: EventFD
  private let outcome: Outcome
  private let thread: Thread

  init(
    _ backend: FakeBackend = FakeBackend(), listener: OwnedFD? = nil,
    limits: Connection.Limits = .init()
  ) throws {
    let (ours, theirs) = try UnixSocket.pair()
    let stop = try EventFD()
    let outcome = try Outcome()
    self.outcome = outcome
    socket = ours
    self.backend = backend
    self.stop = stop
    thread = try Thread(name: "session") {
      let session = Session(
        connection: theirs, backend: backend, stop: stop, listener: listener, limits: limits
      ) { event in
        outcome.events.withLock { $0.append(event) }
      }
      let end = session.run()
      outcome.end.withLock { $0 = end }
      outcome.isOver.signal()
    }
  }

  var events: [SessionEvent] { outcome.events.withLock { $0 } }

  // ---- Sending

  func send(
    _ request: Request, _ payload: [UInt8] = [], fds: [OwnedFD] = [], needReply: Bool = false
  ) throws {
    try send(code: request.rawValue, payload, fds: fds, flags: needReply ? 9 : 1)
  }

  func send(
    code: UInt32, _ payload: [UInt8] = [], fds: [OwnedFD] = [], flags: UInt32 = 1, size: Int? = nil
  ) throws {
    let header = Header(code: code, flags: flags, size: UInt32(size ?? payload.count))
    try send(bytes: header.bytes + payload, fds: fds)
  }

  /// Sends messages without descriptors in one piece, so that the session finds all of them there at once.
  func send(together messages: [(Request, [UInt8])], lastNeedsReply: Bool = false) throws {
    var bytes: [UInt8] = []
    for (place, (request, payload)) in messages.enumerated() {
      let flags: UInt32 = lastNeedsReply && place == messages.count - 1 ? 9 : 1
      let header = Header(code: request.rawValue, flags: flags, size: UInt32(payload.count))
      bytes += header.bytes + payload
    }
    try send(bytes: bytes)
  }

  func send(bytes: [UInt8], fds: [OwnedFD] = []) throws {
    let socket = try #require(self.socket)
    let sent = try unsafe bytes.withUnsafeBytes {
      try unsafe UnixSocket.send(socket, $0, descriptors: fds)
    }
    try #require(sent == bytes.count)
  }

  // ---- Receiving

  /// The next reply; `nil`: the session has closed the connection.
  func reply() throws -> Reply? {
    guard let header = try read(Header.length) else { return nil }
    let decoded = Header(header)
    let payload = decoded.size == 0 ? [] : try #require(try read(Int(decoded.size)))
    return Reply(code: decoded.code, flags: decoded.flags, payload: payload)
  }

  private func read(_ count: Int) throws -> [UInt8]? {
    let socket = try #require(self.socket)
    var bytes: [UInt8] = []
    while bytes.count < count {
      let ready = try Poller.wait([(socket.raw, .read)], milliseconds: 20_000)
      try #require(ready[0], "no reply")
      var buffer = [UInt8](repeating: 0, count: count - bytes.count)
      do {
        let received = try unsafe buffer.withUnsafeMutableBytes {
          try unsafe UnixSocket.receive(socket, into: $0)
        }
        guard let received else { continue }
        if received.count == 0 { return nil }
        bytes += buffer.prefix(received.count)
      } catch let error as SystemError where error.errno == .connectionReset {
        return nil
      }
    }
    return bytes
  }

  /// Sends a request that has a reply of its own and returns that.
  func ask(_ request: Request, _ payload: [UInt8] = []) throws -> Reply {
    try send(request, payload)
    let reply = try #require(try self.reply())
    #expect(reply.code == request.rawValue)
    #expect(reply.flags == 5)
    return reply
  }

  /// Sends a request with need_reply and returns the number in its answer: 0 for success.
  func acknowledged(
    _ request: Request, _ payload: [UInt8] = [], fds: [OwnedFD] = []
  ) throws -> UInt64 {
    try send(request, payload, fds: fds, needReply: true)
    let reply = try #require(try self.reply(), "\(request.name) closed the session")
    #expect(reply.code == request.rawValue)
    #expect(reply.flags == 5)
    #expect(reply.payload.count == 8)
    return reply.number
  }

  /// Returns when everything sent has been handled: a request with a reply goes the same way.
  func settle() throws { _ = try ask(.getFeatures) }

  // ---- Ending

  /// Closes the connection and returns how the session took it.
  func close() throws -> SessionEnd {
    socket = nil
    return try end()
  }

  /// Waits for the session to end of itself.
  func end() throws -> SessionEnd {
    let isOver = outcome.isOver.descriptor.raw
    try #require(
      try Poller.wait([(isOver, .read)], milliseconds: 20_000) == [true], "it goes on")
    thread.join()
    #expect(backend.state.withLock { $0.violations } == [])
    #expect(backend.running.isEmpty)
    #expect(backend.calls.last == .reset)
    return try #require(outcome.end.withLock { $0 })
  }

  /// Waits for the session to end and returns why it closed.
  func failure() throws -> ProtocolError {
    guard case .failed(let error) = try end() else {
      throw ProtocolError(.connection, "the session did not fail")
    }
    return error
  }

  // ---- What front-ends do

  func negotiate(
    _ features: Features = [.version1, .vhostUserProtocol],
    protocolFeatures: ProtocolFeatures = [.mq, .replyAck]
  ) throws {
    try send(.setProtocolFeatures, protocolFeatures.rawValue.bytes)
    try send(.setFeatures, features.rawValue.bytes)
  }

  func setMemory() throws {
    let table = MemoryTable(regions: [FrontEnd.region(0)])
    try send(.setMemTable, table.bytes, fds: [try TestFile().descriptor])
  }

  /// Sends all that makes a ring live, the kick last. Returns kick and call.
  @discardableResult
  func configure(_ index: Int, size: UInt32 = 256, base: UInt32 = 0) throws -> (EventFD, EventFD) {
    let (kick, call) = (try EventFD(), try EventFD())
    try send(.setVringNum, FrontEnd.state(index, size))
    try send(.setVringBase, FrontEnd.state(index, base))
    try send(.setVringAddr, FrontEnd.address(index).bytes)
    try send(.setVringCall, UInt64(index).bytes, fds: [call.descriptor])
    try send(.setVringKick, UInt64(index).bytes, fds: [kick.descriptor])
    return (kick, call)
  }

  /// All that makes a ring run, without descriptors: the driver polls, and so does the back-end.
  static func setUp(_ index: Int) -> [(Request, [UInt8])] {
    let file = (UInt64(index) | 0x100).bytes
    return [
      (.setVringNum, state(index, 256)), (.setVringBase, state(index, 0)),
      (.setVringAddr, address(index).bytes), (.setVringKick, file), (.setVringCall, file),
      (.setVringEnable, state(index, 1)),
    ]
  }

  static func state(_ index: Int, _ number: UInt32) -> [UInt8] {
    VringState(index: UInt32(index), number: number).bytes
  }

  static func address(_ index: Int, flags: UInt32 = 0) -> VringAddress {
    VringAddress(
      index: UInt32(index), flags: flags, descriptor: 0x7000_0000, used: 0x7000_2000,
      available: 0x7000_1000, log: 0x42_000)
  }

  /// The nth region of 1 MiB.
  static func region(_ number: UInt64, size: UInt64 = 1 << 20) -> RegionDescription {
    RegionDescription(
      guestAddress: number << 20, size: size, userAddress: 0x7000_0000 + number << 20,
      mmapOffset: 0)
  }
}

/// An unlinked file whose open descriptors, in this process, can be told from all others: other tests
/// open and close descriptors at the same time.
struct TestFile {
  let descriptor: OwnedFD
  private let inode: UInt64
  private let device: UInt64

  init() throws {
    var path = Array("/tmp/vhost-user-test-XXXXXX".utf8CString)
    let raw = unsafe mkstemp(&path)
    try #require(raw >= 0)
    unsafe unlink(path)
    descriptor = OwnedFD(taking: raw)
    var status = stat()
    try #require(unsafe fstat(raw, &status) == 0)
    inode = UInt64(status.st_ino)
    device = UInt64(status.st_dev)
  }

  /// How many descriptors of this process refer to the file.
  var openCount: Int {
    (0..<4096).count { number in
      var status = stat()
      return unsafe fstat(CInt(number), &status) == 0 && UInt64(status.st_ino) == inode
        && UInt64(status.st_dev) == device
    }
  }
}
