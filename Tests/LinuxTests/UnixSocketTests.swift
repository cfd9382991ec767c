import CLinux
import Glibc
import Linux
import SystemPackage
import Testing

@Suite struct UnixSocketTests {
  @Test("Bytes and descriptors arrive together, close-on-exec, and are closed when dropped (E67)")
  func descriptors() throws {
    let (one, two) = try UnixSocket.pair()
    let event = try EventFD()
    let sent = try [1, 2, 3].withUnsafeBytes {
      try UnixSocket.send(one, $0, descriptors: [event.descriptor, event.descriptor])
    }
    #expect(sent == 24)
    var buffer = [UInt8](repeating: 0, count: 64)
    var received = try buffer.withUnsafeMutableBytes { try UnixSocket.receive(two, into: $0) }
    let message = try #require(received)
    #expect(message.count == 24 && message.descriptors.count == 2 && !message.truncated)
    let raw = message.descriptors.map(\.raw)
    #expect(raw.allSatisfy { fcntl($0, F_GETFD) == FD_CLOEXEC })
    clx_eventfd_signal(raw[0])
    #expect(event.drain() == 1, "it is the same open file")
    received = nil
    _ = consume message
    #expect(raw.allSatisfy { fcntl($0, F_GETFD) == -1 })
  }

  @Test("HP-04: more descriptors than are taken are reported and leak nothing")
  func tooManyDescriptors() throws {
    let (one, two) = try UnixSocket.pair()
    let event = try EventFD()
    for count in [32, 33, 253] {
      let many = [OwnedFD](repeating: event.descriptor, count: count)
      _ = try [UInt8(1)].withUnsafeBytes { try UnixSocket.send(one, $0, descriptors: many) }
      var buffer = [UInt8](repeating: 0, count: 8)
      let received = try buffer.withUnsafeMutableBytes { try UnixSocket.receive(two, into: $0) }
      #expect(received?.descriptors.count == 32)
      #expect(received?.truncated == (count > 32))
    }
    // The kernel takes no more.
    #expect(throws: SystemError.self) {
      let many = [OwnedFD](repeating: event.descriptor, count: 254)
      _ = try [UInt8(1)].withUnsafeBytes { try UnixSocket.send(one, $0, descriptors: many) }
    }
  }

  @Test func nothingThereIsNotTheEnd() throws {
    let (one, two) = try UnixSocket.pair()
    var buffer = [UInt8](repeating: 0, count: 8)
    let nothing = try buffer.withUnsafeMutableBytes { try UnixSocket.receive(two, into: $0) }
    #expect(nothing == nil)
    _ = consume one
    let end = try buffer.withUnsafeMutableBytes { try UnixSocket.receive(two, into: $0) }
    #expect(end?.count == 0)
  }

  @Test("A listener's file has its mode from the start, and goes with the listener")
  func listenerFile() throws {
    let scratch = Scratch()
    let path = scratch.file("run/x.sock")
    do {
      let listener = try UnixListener(path: path, permissions: 0o640)
      var status = stat()
      #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
      let client = try UnixSocket.connect(path: path)
      #expect(try UnixSocket.accept(listener.descriptor) != nil)
      #expect(try UnixSocket.accept(listener.descriptor) == nil)
      #expect(UnixSocket.peer(client)?.pid == Int(getpid()))
    }
    #expect(!exists(path))
  }

  @Test("A stale socket is replaced; a live one and other files are not touched")
  func staleAndForeign() throws {
    let scratch = Scratch()
    let path = scratch.file("x.sock")
    let first = try UnixListener(path: path)
    let error = #expect(throws: SystemError.self) { _ = try UnixListener(path: path) }
    #expect(error?.errno == .addressInUse)
    #expect(throws: Never.self) { _ = try UnixSocket.connect(path: path) }
    // What a killed daemon leaves: the file, and nobody behind it.
    let stale = scratch.file("stale.sock")
    #expect(link(path, stale) == 0)
    _ = consume first
    #expect(exists(stale) && !exists(path))
    let second = try UnixListener(path: stale)
    #expect(throws: Never.self) { _ = try UnixSocket.connect(path: stale) }
    _ = consume second

    let file = scratch.file("precious")
    let descriptor = open(file, O_CREAT | O_WRONLY, 0o600)
    write(descriptor, "x", 1)
    close(descriptor)
    #expect(throws: SystemError.self) { _ = try UnixListener(path: file) }
    #expect(SmallFile.read(file) == "x")
  }

  @Test("A listener does not remove a file that somebody else has put in its place")
  func replaced() throws {
    let scratch = Scratch()
    let path = scratch.file("x.sock")
    let first = try UnixListener(path: path)
    unlink(path)
    let second = try UnixListener(path: path)
    _ = consume first
    #expect(exists(path))
    _ = consume second
    #expect(!exists(path))
  }

  @Test("What is of a pair is told from either end of a connection, and from all else (HP-14)")
  func pairs() throws {
    let scratch = Scratch()
    let (one, two) = try UnixSocket.pair()
    #expect(UnixSocket.isOfPair(one) && UnixSocket.isOfPair(two))
    _ = consume two
    #expect(UnixSocket.isOfPair(one), "its peer has gone")
    let listener = try UnixListener(path: scratch.file("x.sock"))
    #expect(!UnixSocket.isOfPair(listener.descriptor))
    let client = try UnixSocket.connect(path: listener.path)
    let server = try #require(try UnixSocket.accept(listener.descriptor))
    #expect(!UnixSocket.isOfPair(client), "its peer has the listener's name")
    #expect(!UnixSocket.isOfPair(server), "its peer has the name that connecting gave it")
    _ = consume client
    #expect(!UnixSocket.isOfPair(server), "also when it has gone")
    #expect(!UnixSocket.isOfPair(OwnedFD(taking: socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0))))
    #expect(!UnixSocket.isOfPair(try EventFD().descriptor))
  }

  @Test func unknownOwnersAndLongPathsAreErrors() throws {
    let scratch = Scratch()
    #expect(throws: SystemError.self) {
      _ = try UnixListener(path: scratch.file("x"), owner: "no-such-user-here")
    }
    #expect(!exists(scratch.file("x")))
    #expect(throws: SystemError.self) {
      _ = try UnixListener(path: scratch.file(String(repeating: "x", count: 120)))
    }
    if getuid() == 0 {
      let listener = try UnixListener(path: scratch.file("x"), owner: "65534", group: "65534")
      var status = stat()
      #expect(stat(listener.path, &status) == 0 && status.st_uid == 65534 && status.st_gid == 65534)
    }
  }

  @Test func pollerWaits() throws {
    let event = try EventFD()
    #expect(try Poller.wait([(event.descriptor.raw, .read)], milliseconds: 0) == [false])
    event.signal()
    let other = try EventFD()
    #expect(
      try Poller.wait([(other.descriptor.raw, .read), (event.descriptor.raw, .read)]) == [
        false, true,
      ])
    #expect(event.drain() == 1 && event.drain() == 0)
    #expect(event.descriptor.isEventFD)
    #expect(!(try UnixSocket.pair().0.isEventFD))
  }

  @Test("A pause is one also where poll(2) fails, and takes nothing from who else waits")
  func pause() async throws {
    let event = try EventFD()
    #expect(!Poller.pause(milliseconds: 1, unless: event))
    event.signal()
    #expect(Poller.pause(milliseconds: 60_000, unless: event) && event.drain() == 1)
    await #expect(processExitsWith: .success) {
      let event = try EventFD()
      var limit = rlimit(rlim_cur: 0, rlim_max: 1024)
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      let start = ContinuousClock.now
      guard !Poller.pause(milliseconds: 50, unless: event) else { exit(1) }
      guard start.duration(to: .now) >= .milliseconds(50) else { exit(2) }
      event.signal()
      for _ in 0..<2 where !Poller.pause(milliseconds: 1, unless: event) { exit(3) }
      guard event.drain() == 1 else { exit(4) }
    }
  }
}
