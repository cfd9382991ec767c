import ControlAPI
import Foundation
import Linux
import Logging
import Testing

@testable import Control

@Suite struct ControlServerTests {
  private func attribute(_ key: FileAttributeKey, of path: String) throws -> Int {
    let value = try FileManager.default.attributesOfItem(atPath: path)[key]
    return try #require(value as? NSNumber).intValue
  }

  private func server(_ socket: ControlSocket, like fixture: Fixture) -> ControlServer {
    ControlServer(socket: socket, service: fixture.service, logger: .init(label: "test"))
  }

  @Test func theSocketIsItsOwnersAndGoesWithTheServer() async throws {
    let fixture = try Fixture()
    try await fixture.server.start()
    #expect(try attribute(.posixPermissions, of: fixture.path) == 0o600)
    await fixture.server.stop()
    #expect(!FileManager.default.fileExists(atPath: fixture.path))
  }

  @Test func permissionsAreTheOnesAskedFor() async throws {
    let fixture = try Fixture()
    let server = server(
      ControlSocket(
        path: fixture.path, owner: "\(getuid())", group: "\(getgid())", permissions: "0666"),
      like: fixture)
    try await server.start()
    #expect(try attribute(.posixPermissions, of: fixture.path) == 0o666)
    await server.stop()
  }

  @Test func aMissingDirectoryIsMade() async throws {
    let fixture = try Fixture()
    let path = fixture.directory + "/run/control.sock"
    let server = server(ControlSocket(path: path), like: fixture)
    try await server.start()
    #expect(FileManager.default.fileExists(atPath: path))
    await server.stop()
  }

  @Test func itStartsAgainAfterAStop() async throws {
    let fixture = try Fixture()
    for _ in 0..<3 {
      try await fixture.server.start()
      #expect(try fixture.ask("GET", "/v1/macs").status == 200)
      await fixture.server.stop()
    }
  }

  @Test func aLiveDaemonsSocketIsRefused() async throws {
    try await Fixture.run { fixture in
      let second = server(ControlSocket(path: fixture.path), like: fixture)
      await #expect {
        try await second.start()
      } throws: {
        "\($0)".contains("another process listens there")
      }
      let first = try fixture.ask("GET", "/v1/macs")
      #expect(first.status == 200)
    }
  }

  @Test func aStaleSocketIsReplaced() async throws {
    let fixture = try Fixture()
    try await fixture.server.start()
    // A second name for the socket survives the server that made it.
    let stale = fixture.directory + "/stale.sock"
    #expect(link(fixture.path, stale) == 0)
    await fixture.server.stop()
    let server = server(ControlSocket(path: stale), like: fixture)
    try await server.start()
    let client = try RawClient(path: stale)
    try client.send("GET /v1/macs HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try client.reply().status == 200)
    await server.stop()
    #expect(!FileManager.default.fileExists(atPath: stale))
  }

  @Test func aFileThatIsNoSocketIsLeftAlone() async throws {
    let fixture = try Fixture()
    try Data("precious".utf8).write(to: URL(fileURLWithPath: fixture.path))
    await #expect {
      try await fixture.server.start()
    } throws: {
      "\($0)".contains("no socket")
    }
    #expect(FileManager.default.contents(atPath: fixture.path) == Data("precious".utf8))
  }

  @Test(arguments: [
    (ControlSocket(path: "relative.sock"), "absolute path"),
    (ControlSocket(path: "/tmp/" + String(repeating: "x", count: 120)), "107 bytes"),
    (ControlSocket(path: "/tmp/x.sock", permissions: "rw"), "octal"),
    (ControlSocket(path: "/nonexistent/a/b.sock"), "/nonexistent/a/b.sock"),
    (
      ControlSocket(path: "/tmp/swivel-x.sock", owner: "nobody-of-that-name"), "nobody-of-that-name"
    ),
  ])
  func whatCannotBeIsExplained(socket: ControlSocket, message: String) async throws {
    let server = server(socket, like: try Fixture())
    await #expect {
      try await server.start()
    } throws: {
      "\($0)".contains(message)
    }
  }

  /// Without the stop the connection would stay for ten minutes. A test that awaits may itself be left waiting
  /// for minutes on a busy machine, while others hold the threads of Swift's pool: so it has no limit of its own.
  @Test func aStopEndsIdleConnectionsAtOnce() async throws {
    let fixture = try Fixture(limits: Limits(idle: .seconds(600)))
    try await fixture.server.start()
    let idle = try fixture.client()
    try idle.send("GET /v1/macs HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try idle.reply().status == 200)
    let begin = ContinuousClock.now
    await fixture.server.stop()
    #expect(ContinuousClock.now - begin < .seconds(500))
    #expect(try idle.isClosed())
  }

  @Test func aRequestUnderWayIsAnsweredBeforeTheStop() async throws {
    let fixture = try Fixture(service: FakeService(delay: 0.5))
    try await fixture.server.start()
    let client = try fixture.client()
    try client.send("GET /v1/ports HTTP/1.1\r\nHost: x\r\n\r\n")
    while fixture.service.mostCallsAtOnce == 0 { try await Task.sleep(for: .milliseconds(5)) }
    await fixture.server.stop()
    #expect(try client.reply().status == 200)
  }
}
