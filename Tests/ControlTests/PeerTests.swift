import ControlAPI
import Foundation
import Linux
import Logging
import Testing

@testable import Control

/// Who may use the control interface, whatever the mode of its file.
@Suite struct PeerTests {
  @Test func rootTheDaemonTheOwnerAndTheGroupMay() throws {
    let own = Identity.current.user
    func peers(_ socket: ControlSocket) throws -> ControlPeers { try socket.peers() }
    let plain = try peers(ControlSocket(path: "/s"))
    #expect(plain == ControlPeers(users: [0, own], group: nil))
    #expect(plain.allow(Identity(user: 0, group: 5)))
    #expect(!plain.allow(Identity(user: own + 1, group: 0, groups: [0])))

    let owned = try peers(ControlSocket(path: "/s", owner: "77", group: "88", permissions: "0660"))
    #expect(owned.allow(Identity(user: 77, group: 1)))
    #expect(owned.allow(Identity(user: 5, group: 88)))
    #expect(owned.allow(Identity(user: 5, group: 1, groups: [3, 88])))
    #expect(!owned.allow(Identity(user: 88, group: 77, groups: [1])))

    // Without the group's bit its members are not meant; without a group, it is the daemon's own.
    #expect(try peers(ControlSocket(path: "/s", group: "88", permissions: "0606")).group == nil)
    #expect(
      try peers(ControlSocket(path: "/s", permissions: "0666")).group == Identity.current.group)
  }

  @Test func refusalsAreLoggedOnceInTenSeconds() {
    var refusals = Refusals()
    let start = ContinuousClock.now
    #expect(refusals.next(at: start) == 0)
    for second in 1...9 { #expect(refusals.next(at: start + .seconds(second)) == nil) }
    #expect(refusals.next(at: start + .seconds(10)) == 9)
    #expect(refusals.next(at: start + .seconds(11)) == nil)
    #expect(refusals.next(at: start + .seconds(20)) == 1)
  }

  /// `python3 -c` as another user and group; what it printed.
  private func ask(_ path: String, as user: UInt32, groups: String) throws -> String {
    let program = """
      import os, socket, sys
      os.setgroups([int(g) for g in sys.argv[3].split()]); os.setgid(\(user)); os.setuid(\(user))
      s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
      try:
          s.sendall(b'GET /v1/macs HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
      except BrokenPipeError: pass
      sys.stdout.write(s.recv(4096).decode())
      """
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["python3", "-c", program, path, "-", groups]
    process.standardOutput = output
    try process.run()
    let data = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return String(decoding: data, as: UTF8.self)
  }

  @Test(
    "A stranger is refused even where the file lets everybody in",
    .enabled(if: geteuid() == 0, "needs root"))
  func strangersAreRefused() async throws {
    let fixture = try Fixture()
    let server = ControlServer(
      socket: ControlSocket(path: fixture.path, owner: "4242", group: "4343", permissions: "0666"),
      service: fixture.service, logger: .init(label: "test"))
    try await server.start()
    let stranger = try ask(fixture.path, as: 5151, groups: "")
    #expect(stranger.hasPrefix("HTTP/1.1 403 "), "\(stranger)")
    #expect(stranger.contains("user 5151 may not use"), "\(stranger)")
    for (user, groups) in [(UInt32(4242), ""), (5151, "1 4343"), (4343, "")] {
      let reply = try ask(fixture.path, as: user, groups: groups)
      #expect(reply.hasPrefix("HTTP/1.1 200 "), "\(user) \(groups): \(reply)")
    }
    #expect(try fixture.ask("GET", "/v1/macs").status == 200)
    await server.stop()
  }
}
