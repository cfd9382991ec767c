import Glibc
import Linux
import SystemPackage
import Testing

@testable import VhostUser

@Suite struct ConnectionTests {
  @Test func `HP-05: messages a byte at a time`() throws {
    let frontEnd = try FrontEnd()
    let features = Header(code: 2, flags: 1, size: 8).bytes + Features.version1.rawValue.bytes
    let call = Header(code: 13, flags: 1, size: 8).bytes + UInt64(0).bytes
    let descriptor = try EventFD().descriptor
    for byte in features { try frontEnd.send(bytes: [byte]) }
    for (place, byte) in call.enumerated() {
      try frontEnd.send(bytes: [byte], fds: place == 0 ? [descriptor] : [])
    }
    try frontEnd.setMemory()
    try frontEnd.send(.setVringNum, FrontEnd.state(0, 64))
    try frontEnd.send(.setVringAddr, FrontEnd.address(0).bytes)
    try frontEnd.send(.setVringKick, UInt64(0x100).bytes)
    try frontEnd.settle()
    #expect(frontEnd.backend.running[0]?.call != nil)
    _ = try frontEnd.close()
  }

  @Test func `several messages in one piece, descriptors to each its own`() throws {
    let frontEnd = try FrontEnd()
    let get = Header(code: 1, flags: 1, size: 0).bytes
    try frontEnd.send(bytes: get + get + get)
    for _ in 0..<3 { #expect(try frontEnd.reply()?.code == 1) }
    _ = try frontEnd.close()
  }

  @Test(arguments: [1, 11, 12, 19])
  func `HP-05, HP-09: the end in the middle of a message`(length: Int) throws {
    let frontEnd = try FrontEnd()
    let message = Header(code: 2, flags: 1, size: 8).bytes + UInt64(0).bytes
    let file = try TestFile()
    try frontEnd.send(bytes: Array(message.prefix(length)), fds: [file.descriptor])
    guard case .failed(let error) = try frontEnd.close() else {
      Issue.record("taken for an orderly end")
      return
    }
    #expect(error.kind == .malformed)
    #expect(file.openCount == 1)
  }

  @Test(arguments: [1, 12, 15])
  func `a front-end that stalls in a message is let go`(length: Int) throws {
    var limits = Connection.Limits()
    limits.message = .milliseconds(20)
    let frontEnd = try FrontEnd(limits: limits)
    let message = Header(code: 2, flags: 1, size: 8).bytes + UInt64(0).bytes
    try frontEnd.send(bytes: Array(message.prefix(length)))
    #expect(try frontEnd.failure().kind == .connection)
  }

  @Test func `the stop event ends a session in the middle of a message`() throws {
    let door = try Door("middle")
    let frontEnd = try FrontEnd(listener: door.listener.descriptor)
    try frontEnd.send(bytes: [1, 0, 0])
    // Who is turned away first may be so with the bytes unread; the second not before they are read.
    for _ in 0..<2 { try door.knock() }
    frontEnd.stop.signal()
    #expect(try frontEnd.end() == .stopped)
  }

  @Test func `HP-15: a peer that never reads is let go`() throws {
    var limits = Connection.Limits()
    limits.reply = .milliseconds(20)
    let frontEnd = try FrontEnd(limits: limits)
    let socket = try #require(frontEnd.socket)
    let request = Header(code: 1, flags: 1, size: 0).bytes
    while true {
      do {
        let sent = try unsafe request.withUnsafeBytes { try unsafe UnixSocket.send(socket, $0) }
        if sent == 0 { _ = try Poller.wait([(socket.raw, .write)], milliseconds: 20_000) }
      } catch {
        break
      }
    }
    let error = try frontEnd.failure()
    #expect(error.kind == .connection)
    #expect(error.message.contains("has not read a reply"))
  }

  @Test func `HP-15: the stop event ends a session that waits for its peer to read`() throws {
    let door = try Door("writing")
    let frontEnd = try FrontEnd(listener: door.listener.descriptor)
    let socket = try #require(frontEnd.socket)
    let request = Header(code: 1, flags: 1, size: 0).bytes
    // Between two knocks a session that can still answer takes a message, which makes room for another.
    var isStuck = false
    while !isStuck {
      isStuck = true
      while try unsafe request.withUnsafeBytes({ try unsafe UnixSocket.send(socket, $0) }) > 0 {
        isStuck = false
      }
      for _ in 0..<2 { try door.knock() }
    }
    frontEnd.stop.signal()
    #expect(try frontEnd.end() == .stopped)
  }

  @Test func `HP-14: a second front-end is turned away, the first served on`() throws {
    let door = try Door("second")
    let frontEnd = try FrontEnd(listener: door.listener.descriptor)
    for _ in 0..<3 { try door.knock() }
    try frontEnd.settle()
    #expect(frontEnd.events == [SessionEvent](repeating: .refusedSecondFrontEnd, count: 3))
    #expect(try frontEnd.close() == .frontEndClosed)
  }

  /// A server's socket, where other front-ends come.
  private struct Door {
    let listener: UnixListener

    init(_ name: String) throws {
      listener = try UnixListener(path: "/tmp/vhost-user-test-\(getpid())-\(name).sock")
    }

    /// Connects, and returns when the session has hung up.
    func knock() throws {
      let socket = try UnixSocket.connect(path: listener.path)
      try #require(try Poller.wait([(socket.raw, .read)], milliseconds: 20_000) == [true])
      var bytes = [UInt8](repeating: 0, count: 1)
      let received = try unsafe bytes.withUnsafeMutableBytes {
        try unsafe UnixSocket.receive(socket, into: $0)
      }
      #expect(received?.count == 0)
    }
  }

  @Test func `HP-04, E67: more descriptors than can be taken end the session and leak nothing`()
    throws
  {
    let frontEnd = try FrontEnd()
    let file = try TestFile()
    try sendTooMany(file.descriptor, count: 40, to: try #require(frontEnd.socket))
    let error = try frontEnd.failure()
    #expect(error.message == "more descriptors attached to a message than can be taken")
    #expect(file.openCount == 1)
  }

  @Test func `HP-04: descriptors in the middle of a message end the session`() throws {
    let frontEnd = try FrontEnd()
    let file = try TestFile()
    try frontEnd.send(bytes: Header(code: 13, flags: 1, size: 8).bytes)
    try frontEnd.send(bytes: UInt64(0).bytes, fds: [file.descriptor])
    #expect(try frontEnd.failure().kind == .malformed)
    #expect(file.openCount == 1)
  }

  /// One GET_FEATURES with `count` descriptors, more than `UnixSocket.send` lets through.
  private func sendTooMany(_ descriptor: OwnedFD, count: Int, to socket: OwnedFD) throws {
    var control = [UInt64](repeating: 0, count: 2 + (count + 1) / 2)
    control[0] = UInt64(16 + 4 * count)
    control[1] = UInt64(SOL_SOCKET) | UInt64(0x01) << 32  // SCM_RIGHTS
    for place in 0..<count {
      control[2 + place / 2] |= UInt64(descriptor.raw) << (place % 2 == 0 ? 0 : 32)
    }
    var bytes = Header(code: 1, flags: 1, size: 0).bytes
    let sent = unsafe bytes.withUnsafeMutableBytes { bytes in
      unsafe control.withUnsafeMutableBytes { control in
        var vector = unsafe iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        return unsafe withUnsafeMutablePointer(to: &vector) { vector in
          var message = unsafe msghdr()
          unsafe message.msg_iov = vector
          unsafe message.msg_iovlen = 1
          unsafe message.msg_control = control.baseAddress
          unsafe message.msg_controllen = 16 + 4 * count
          return unsafe sendmsg(socket.raw, &message, 0)
        }
      }
    }
    try #require(sent == Header.length)
  }
}
