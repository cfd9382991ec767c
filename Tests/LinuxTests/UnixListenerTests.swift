import Foundation
import Linux
import Testing

/// Sockets' files: put in each other's place, changed, and what is around them.
@Suite struct UnixListenerTests {
  @Test("A listener made aside takes another's place in one step")
  func aside() throws {
    let scratch = Scratch()
    let path = scratch.path + "/a.sock"
    let old = try UnixListener(path: path)
    var new: UnixListener? = try UnixListener(path: path, permissions: 0o640, aside: true)
    let early = try UnixSocket.connect(path: path)
    #expect(try UnixSocket.accept(old.descriptor) != nil)
    try new?.takePlace()
    let late = try UnixSocket.connect(path: path)
    #expect(try UnixSocket.accept(try #require(new).descriptor) != nil)
    #expect(try UnixSocket.accept(old.descriptor) == nil)
    // Whoever is connected stays so, and the old one's end takes nothing away.
    withExtendedLifetime((old, early, late)) {}
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == ["a.sock"])
    new = nil
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == [])
    // One that never takes its place leaves nothing behind either.
    new = try UnixListener(path: path, aside: true)
    new = nil
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == [])
    let long = scratch.path + "/" + String(repeating: "x", count: 106 - scratch.path.utf8.count)
    #expect(long.utf8.count == 107)
    try UnixListener(path: long, aside: true).takePlace()
  }

  @Test("A socket's file gets another mode while it is listened on, but not another's file")
  func change() throws {
    let scratch = Scratch()
    let path = scratch.path + "/a.sock"
    let listener = try UnixListener(path: path)
    func mode() throws -> UInt16 {
      let all = try FileManager.default.attributesOfItem(atPath: path)
      return try #require(all[.posixPermissions] as? NSNumber).uint16Value
    }
    try listener.change(owner: nil, group: nil, permissions: 0o666)
    #expect(try mode() == 0o666)
    #expect(throws: SystemError.self) {
      try listener.change(owner: "no-such-user.", group: nil, permissions: 0o600)
    }
    #expect(try mode() == 0o666)
    unlink(path)
    let other = try UnixListener(path: path, permissions: 0o600)
    #expect(throws: SystemError.self) {
      try listener.change(owner: nil, group: nil, permissions: 0o660)
    }
    #expect(try mode() == 0o600)
    withExtendedLifetime(other) {}
  }

  @Test("Whatever the umask, others can reach what is in a directory that was made")
  func umaskIsNoHindrance() async {
    await #expect(processExitsWith: .success) {
      umask(0o077)
      let place = "/tmp/swivel-umask-\(getpid())"
      let listener = try UnixListener(path: place + "/a.sock", permissions: 0o660)
      var status = stat()
      guard stat(place, &status) == 0, status.st_mode & 0o777 == 0o755 else { exit(2) }
      guard stat(place + "/a.sock", &status) == 0, status.st_mode & 0o777 == 0o660 else { exit(3) }
      withExtendedLifetime(listener) {}
      unlink(place + "/a.sock")
      rmdir(place)
      exit(0)
    }
  }
}
