import Glibc
import Linux
import Testing

@testable import VhostUser

@Suite struct IOTLBTests {
  static let features: Features = [.version1, .vhostUserProtocol, .accessPlatform]
  static let protocolFeatures: ProtocolFeatures = [.mq, .replyAck, .backendReq]

  /// A front-end with an IOMMU, memory, and a channel, of which the front-end's end is `ours`.
  private func translated() throws -> (frontEnd: FrontEnd, ours: OwnedFD) {
    let frontEnd = try FrontEnd(
      FakeBackend(features: FakeBackend.offered.union([.accessPlatform]), translates: true))
    try frontEnd.negotiate(IOTLBTests.features, protocolFeatures: IOTLBTests.protocolFeatures)
    try frontEnd.setMemory()
    let (ours, theirs) = try UnixSocket.pair()
    #expect(try frontEnd.acknowledged(.setBackendReqFD, fds: [theirs]) == 0)
    _ = frontEnd.backend.takeCalls()
    return (frontEnd, ours)
  }

  static func message(
    _ type: UInt8, _ address: UInt64 = 0x1000, _ size: UInt64 = 0x1000,
    user: UInt64 = 0x7000_0000, access: UInt8 = 3
  ) -> [UInt8] {
    IOTLBMessage(address: address, size: size, userAddress: user, access: access, type: type).bytes
  }

  private func eventually(_ condition: () -> Bool) -> Bool {
    for _ in 0..<20_000 {
      if condition() { return true }
      usleep(1000)
    }
    return false
  }

  /// What has come on the channel.
  private func asked(_ channel: OwnedFD, _ count: Int = 1) throws -> [IOTLBMessage] {
    var bytes: [UInt8] = []
    while bytes.count < 44 * count {
      try #require(try Poller.wait([(channel.raw, .read)], milliseconds: 20_000)[0], "no request")
      var buffer = [UInt8](repeating: 0, count: 44)
      let received = try unsafe buffer.withUnsafeMutableBytes {
        try unsafe UnixSocket.receive(channel, into: $0)
      }
      bytes += buffer.prefix(received?.count ?? 0)
    }
    return (0..<count).map { index in
      let message = Array(bytes[(44 * index)..<(44 * index + 44)])
      #expect(Header(message) == Header(code: 1, flags: 1, size: 32), "no reply is asked for")
      return IOTLBMessage(Array(message[12...]))
    }
  }

  @Test("Updates and invalidations reach the back-end, and are answered (E98)")
  func changes() throws {
    let (frontEnd, _) = try translated()
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 0)
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(3, 0x1000, 0x800)) == 0)
    // All of the address space, as QEMU and as the kernel say it.
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(3, 0, 0)) == 0)
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(3, 0x3000, .max)) == 0)
    #expect(
      frontEnd.backend.takeCalls() == [
        .insert(
          IOTLBEntry(
            address: 0x1000, size: 0x1000, userAddress: 0x7000_0000, access: [.read, .write])),
        .removeTranslations(0x1000, 0x17FF), .removeTranslations(0, .max),
        .removeTranslations(0x3000, .max),
      ])
    _ = try frontEnd.close()
  }

  @Test("An update that can't be is refused, and changes nothing (HP-13)")
  func refused() throws {
    let (frontEnd, _) = try translated()
    let bad = [
      IOTLBTests.message(2, 0x1000, 0), IOTLBTests.message(2, .max - 0xFFF, 0x2000),
      IOTLBTests.message(2, user: .max - 0xFFF), IOTLBTests.message(2, user: 0x7000_0000 - 1),
      IOTLBTests.message(2, 0x1000, 1 << 20, user: 0x7000_0001),
      IOTLBTests.message(2, 0x1000, .max, user: 0x7000_0000),
      IOTLBTests.message(2, user: 0x100_0000), IOTLBTests.message(2, access: 0),
      IOTLBTests.message(2, access: 4), IOTLBTests.message(0), IOTLBTests.message(1),
      IOTLBTests.message(4), IOTLBTests.message(5), IOTLBTests.message(255),
    ]
    for payload in bad {
      #expect(try frontEnd.acknowledged(.iotlbMsg, payload) == 1, "\(payload)")
    }
    #expect(frontEnd.backend.takeCalls() == [])
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 0)
    _ = try frontEnd.close()
  }

  @Test("The last page of the address space is told and taken back like any other (HP-13)")
  func lastPage() throws {
    let (frontEnd, _) = try translated()
    let last = UInt64.max - 0xFFF
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2, last)) == 0)
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(3, last)) == 0)
    #expect(
      frontEnd.backend.takeCalls() == [
        .insert(
          IOTLBEntry(
            address: last, size: 0x1000, userAddress: 0x7000_0000, access: [.read, .write])),
        .removeTranslations(last, .max),
      ])
    _ = try frontEnd.close()
  }

  @Test(
    "Who takes nothing back is asked once more; an answer counts unless it was taken back since")
  func checks() throws {
    let (frontEnd, ours) = try translated()
    let backend = frontEnd.backend
    let entry = IOTLBEntry(
      address: 0x1000, size: 0x1000, userAddress: 0x7000_0000, access: [.read, .write])
    backend.state.withLock { $0.known = [IOTLBMiss(address: 0x1234, access: [.read, .write])] }
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 0)
    #expect(try asked(ours).map(\.address) == [0x1234])
    _ = backend.takeCalls()
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 0)
    #expect(backend.takeCalls() == [.check(entry)])
    // Asked again, and taken back before it is answered.
    _ = try asked(ours)
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(3)) == 0)
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 0)
    #expect(backend.takeCalls() == [.removeTranslations(0x1000, 0x1FFF), .insert(entry)])
    _ = try frontEnd.close()
  }

  @Test("A message of the wrong length ends the session (HP-13)", arguments: [0, 26, 31, 33, 64])
  func wrongLength(_ length: Int) throws {
    let (frontEnd, _) = try translated()
    try frontEnd.send(.iotlbMsg, [UInt8](repeating: 0, count: length))
    #expect(try frontEnd.failure().kind == .malformed)
  }

  @Test("Without ACCESS_PLATFORM, or without being offered, there is no IOTLB (E98)")
  func notNegotiated() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate(protocolFeatures: IOTLBTests.protocolFeatures)
    try frontEnd.setMemory()
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 1)
    _ = try frontEnd.close()
    let other = try FrontEnd(FakeBackend(protocolFeatures: [.mq, .replyAck]))
    try other.negotiate()
    let (_, theirs) = try UnixSocket.pair()
    #expect(try other.acknowledged(.setBackendReqFD, fds: [theirs]) == 1)
    #expect(try other.acknowledged(.iotlbMsg, IOTLBTests.message(3)) == 1)
    _ = try other.close()
  }

  @Test("The channel must be a socket; a new one takes the old one's place; all are closed (HP-08)")
  func channel() throws {
    let (frontEnd, ours) = try translated()
    let file = try TestFile()
    #expect(
      try frontEnd.acknowledged(.setBackendReqFD, fds: [try file.descriptor.duplicate()]) == 1)
    #expect(
      try frontEnd.acknowledged(.setBackendReqFD, fds: [try EventFD().descriptor]) == 1)
    #expect(file.openCount == 1)
    let (second, theirs) = try UnixSocket.pair()
    #expect(try frontEnd.acknowledged(.setBackendReqFD, fds: [theirs]) == 0)
    // Nobody has the other end of the first any more.
    #expect(try Poller.wait([(ours.raw, .read)], milliseconds: 20_000) == [true])
    frontEnd.backend.miss(IOTLBMiss(address: 0x5000, access: .read))
    #expect(try asked(second).map(\.address) == [0x5000])
    try frontEnd.send(.setBackendReqFD)
    #expect(try frontEnd.failure().kind == .malformed, "without a descriptor")
  }

  @Test("The channel must be one of a pair: never a way back to here (HP-14)")
  func ownEnd() throws {
    let (frontEnd, _) = try translated()
    let listener = try UnixListener(path: "/tmp/vhost-user-test-\(getpid())-own.sock")
    let client = try UnixSocket.connect(path: listener.path)
    let server = try #require(try UnixSocket.accept(listener.descriptor))
    let unconnected = OwnedFD(taking: socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0))
    // Whoever accepted, and what may be connected later on.
    for descriptor in [client, server, listener.descriptor, unconnected] {
      #expect(try frontEnd.acknowledged(.setBackendReqFD, fds: [descriptor]) == 1)
    }
    #expect(
      frontEnd.events.last == .refused("SET_BACKEND_REQ_FD: the socket is not one of a pair"))
    // One whose other end has gone is of a pair all the same.
    let (_, theirs) = try UnixSocket.pair()
    #expect(try frontEnd.acknowledged(.setBackendReqFD, fds: [theirs]) == 0)
    _ = try frontEnd.close()
  }

  @Test("Rings that an invalidation concerns stop at once, and start so when all is known (E98)")
  func batches() throws {
    let (frontEnd, _) = try translated()
    let backend = frontEnd.backend
    for index in 0..<4 { try frontEnd.send(together: FrontEnd.setUp(index)) }
    try frontEnd.settle()
    _ = backend.takeBatches()
    backend.state.withLock {
      $0.staleRings = [0, 1, 3]
      $0.untranslatedRings = [0, 1, 3]
    }
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(3)) == 0)
    #expect(backend.takeBatches() == [.stop([0, 1, 3]), .start([0, 1, 3])])
    #expect(backend.running.keys.sorted() == [2])
    backend.state.withLock {
      $0.staleRings = []
      $0.untranslatedRings = []
    }
    // Two updates that are there at once are one change.
    try frontEnd.send(together: [
      (.iotlbMsg, IOTLBTests.message(2)), (.iotlbMsg, IOTLBTests.message(2, 0x2000)),
      (.getFeatures, []),
    ])
    #expect(try frontEnd.reply() != nil)
    #expect(backend.takeBatches() == [.start([0, 1, 3])])
    _ = try frontEnd.close()
  }

  @Test("A miss is asked for once, until it is answered with what it asks for (E98)")
  func misses() throws {
    let (frontEnd, ours) = try translated()
    let read = IOTLBMiss(address: 0x1234, access: .read)
    let write = IOTLBMiss(address: 0x1238, access: .write)
    frontEnd.backend.miss(read, read, write, IOTLBMiss(address: 0x1FFF, access: .read))
    let first = try asked(ours, 2)
    #expect(first.map(\.address) == [0x1234, 0x1238])
    #expect(first.map(\.access) == [1, 2])
    #expect(first.allSatisfy { $0.type == 1 && $0.size == 0 && $0.userAddress == 0 })
    // Only reading is allowed: writing is refused, and not asked for again at once.
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2, access: 1)) == 0)
    frontEnd.backend.miss(write, read)
    #expect(try asked(ours).map(\.address) == [0x1234])
    // What nobody answers is asked for again, when it still is missed.
    #expect(
      eventually { frontEnd.backend.takeCalls().contains(.renewMisses) }, "it is asked again")
    frontEnd.backend.miss(write)
    #expect(try asked(ours).map(\.address) == [0x1238])
    _ = try frontEnd.close()
  }

  @Test("A front-end that reads nothing from the channel, or has closed it, is served on (HP-15)")
  func deafFrontEnd() throws {
    let (frontEnd, ours) = try translated()
    for round in 0..<50 as Range<UInt64> {
      frontEnd.backend.miss(
        (0..<100).map { IOTLBMiss(address: (round * 100 + $0) << 12, access: .read) })
      #expect(try frontEnd.acknowledged(.setVringNum, FrontEnd.state(0, 64)) == 0)
      #expect(
        try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2, 0, 1 << 20)) == 0)
    }
    _ = shutdown(ours.raw, CInt(SHUT_RDWR))
    #expect(
      eventually {
        frontEnd.backend.miss(IOTLBMiss(address: 1 << 50, access: .write))
        return frontEnd.events.contains { event in
          if case .refused(let what) = event { what.contains("can't be asked") } else { false }
        }
      })
    #expect(try frontEnd.acknowledged(.setVringNum, FrontEnd.state(0, 128)) == 0)
    _ = try frontEnd.close()
  }

  @Test("A ring waits for its translations, starts with them, and stops without (E82, E98)")
  func rings() throws {
    let (frontEnd, _) = try translated()
    let backend = frontEnd.backend
    backend.state.withLock {
      $0.untranslatedRings = [1]
      $0.progress = 7
    }
    let error = try EventFD()
    try frontEnd.send(.setVringErr, UInt64(1).bytes, fds: [error.descriptor])
    try frontEnd.configure(1, base: 5)
    try frontEnd.settle()
    #expect(backend.running.isEmpty && error.drain() == 0, "that is no error")
    _ = backend.takeCalls()
    // It is tried at each change of the IOTLB.
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 0)
    #expect(backend.running.isEmpty)
    backend.state.withLock { $0.untranslatedRings = [] }
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2, 0x2000)) == 0)
    #expect(backend.running[1]?.base == 5)
    #expect(backend.running[1]?.descriptors == 0x7000_0000, "as it was given: a device address")
    // Stopped before the invalidation is answered, and begun again where it ended.
    backend.state.withLock {
      $0.staleRings = [1]
      $0.untranslatedRings = [1]
    }
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(3)) == 0)
    #expect(backend.running.isEmpty)
    backend.state.withLock {
      $0.staleRings = []
      $0.untranslatedRings = []
    }
    #expect(try frontEnd.acknowledged(.iotlbMsg, IOTLBTests.message(2)) == 0)
    #expect(backend.running[1]?.base == 12)
    // With the last ring everything known goes: the front-end tells no more of what changes.
    _ = backend.takeCalls()
    _ = try frontEnd.ask(.getVringBase, FrontEnd.state(1, 0))
    #expect(backend.takeCalls() == [.stop(1), .removeTranslations(0, .max)])
    _ = try frontEnd.close()
  }

  @Test("HP-14: what waits on the channel is thrown away, descriptors too; nothing more comes")
  func deafChannel() throws {
    let (frontEnd, _) = try translated()
    let (ours, theirs) = try UnixSocket.pair()
    let file = try TestFile()
    let bytes = [UInt8](repeating: 1, count: 10_000)
    func send(_ descriptors: [OwnedFD]) throws -> Int {
      try unsafe bytes.withUnsafeBytes {
        try unsafe UnixSocket.send(ours, $0, descriptors: descriptors)
      }
    }
    for _ in 0..<3 { #expect(try send([file.descriptor, theirs]) == bytes.count) }
    #expect(try frontEnd.acknowledged(.setBackendReqFD, fds: [theirs]) == 0)
    #expect(file.openCount == 1)
    #expect(throws: SystemError.self) { try send([]) }
    _ = try frontEnd.close()
  }
}
