import ControlAPI
import Foundation
import Linux
import Testing

@testable import Control

/// What clients do that are broken, slow or ill-meaning, and that the next client must not notice.
@Suite struct AbuseTests {
  static let hasty = Limits(
    connections: 4, idle: .milliseconds(300), request: .milliseconds(300),
    reply: .milliseconds(300))

  /// Whether a good request is served. On a busy machine it, too, may take longer than the limits allow.
  private func isServed(_ fixture: Fixture) -> Bool {
    (0..<100).contains { _ in (try? fixture.ask("GET", "/v1/macs").status) == 200 }
  }

  @Test func aSilentClientIsClosed() async throws {
    try await Fixture.run(limits: AbuseTests.hasty) { fixture in
      let client = try fixture.client()
      #expect(try client.isClosed())
      #expect(isServed(fixture))
    }
  }

  @Test func halfARequestIs408() async throws {
    try await Fixture.run(limits: AbuseTests.hasty) { fixture in
      let head = try fixture.client()
      try head.send("GET /v1/ports HTTP/1.1\r\nHo")
      let body = try fixture.client()
      try body.send("POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
      #expect(isServed(fixture))
      #expect(try head.reply().status == 408)
      #expect(try body.reply().status == 408)
    }
  }

  /// The limit is on the request, not on each of its bytes.
  @Test func aByteAtATimeIs408() async throws {
    try await Fixture.run(limits: AbuseTests.hasty) { fixture in
      let client = try fixture.client()
      await #expect(throws: SystemError.self, "the server took bytes for twenty seconds") {
        for _ in 0..<400 {
          try client.send("G")
          try await Task.sleep(for: .milliseconds(50))
        }
      }
    }
  }

  @Test func aClientThatNeverReadsIsClosed() async throws {
    let ports = (0..<3000).map {
      ControlAPI.Port(
        name: "port\($0)", kind: .tap, state: .running,
        explanation: String(repeating: "x", count: 1000))
    }
    var limits = AbuseTests.hasty
    limits.connections = 1
    try await Fixture.run(service: FakeService(ports: ports), limits: limits) { fixture in
      let client = try fixture.client()
      try client.send("GET /v1/ports HTTP/1.1\r\nHost: x\r\n\r\n")
      // It has the only place until it is given up.
      var status = 503
      for _ in 0..<200 where status != 200 {
        // A refused connection may be closed before the request is sent.
        status = (try? fixture.ask("GET", "/v1/macs").status) ?? 503
        if status != 200 { try await Task.sleep(for: .milliseconds(100)) }
      }
      #expect(status == 200)
      // What fitted into the socket's buffer is there; the rest was never sent.
      #expect(throws: ClientFailure.self) { _ = try client.reply() }
    }
  }

  @Test func connectionsAreLimitedAndFreedAgain() async throws {
    // The first is still there when the last comes, on a busy machine too.
    let limits = Limits(connections: 4, idle: .seconds(600))
    try await Fixture.run(limits: limits) { fixture in
      var silent = try (0..<4).map { _ in try fixture.client() }
      let refused = try fixture.client()
      let reply = try refused.reply()
      #expect(reply.status == 503)
      #expect(try reply.error().contains("4 connections"))
      #expect(silent.count == 4)
      silent = []
      // The thread of a closed connection may need a moment to end.
      var status = 0
      for _ in 0..<200 where status != 200 {
        status = (try? fixture.ask("GET", "/v1/macs").status) ?? 0
        if status != 200 { try await Task.sleep(for: .milliseconds(100)) }
      }
      #expect(status == 200)
    }
  }

  @Test func anOversizedBodyIs413() async throws {
    try await Fixture.run { fixture in
      let padding = String(repeating: " ", count: 64 * 1024)
      let reply = try fixture.ask("POST", "/v1/ports", padding + "{}")
      #expect(reply.status == 413)
      #expect(reply.headers["connection"] == "close")
      #expect(try reply.error() == "a request's body may have 65536 bytes at most")
      let largest = #"{"name":"a","tap":{"device":"t"}}"#
      let fits = largest + String(repeating: " ", count: 64 * 1024 - largest.utf8.count)
      #expect(try fixture.ask("POST", "/v1/ports", fits).status == 201)
    }
  }

  @Test func endlessHeadersAre431() async throws {
    try await Fixture.run { fixture in
      let oneLine = try fixture.client()
      try oneLine.send([UInt8](repeating: UInt8(ascii: "x"), count: 20000))
      #expect(try oneLine.reply().status == 431)
      let manyLines = try fixture.client()
      try manyLines.send(
        "GET / HTTP/1.1\r\n" + String(repeating: "X: y\r\n", count: 4000) + "\r\n")
      #expect(try manyLines.reply().status == 431)
    }
  }

  @Test(arguments: [
    ("GET /v1/ports\r\n\r\n", 400),
    ("get /v1/ports HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("GET v1/ports HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("GET /v1/ports HTTP/1.1\r\n\r\n", 400),
    ("GET /v1/ports HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ("GET /v1/ports HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
    ("GET /v1/ports HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    ("GET /v1/ports HTTP/1.1\r\nHost: x, y\r\n\r\n", 400),
    ("GET /v1/ports HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    ("GET /v1/ports HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    ("GET /v1/ports?a=%ZZ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("GET /v1/ports HTTP/2\r\nHost: x\r\n\r\n", 505),
    ("GET /v1/ports HTTP/1.x\r\nHost: x\r\n\r\n", 505),
    ("GET /v1/ports HTTP/1.10\r\nHost: x\r\n\r\n", 505),
    ("POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    ("POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ("POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    ("POST /v1/ports HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
  ])
  func whatIsNotHTTPIsRefused(bytes: String, status: Int) async throws {
    try await Fixture.run { fixture in
      let client = try fixture.client()
      try client.send(bytes)
      let reply = try client.reply()
      #expect(reply.status == status)
      #expect(try !reply.error().isEmpty)
    }
  }

  /// RFC 9112, 2.3: a client of a later minor version is answered as one of 1.1.
  @Test func laterMinorVersionsAreServed() async throws {
    try await Fixture.run { fixture in
      let client = try fixture.client()
      for host in ["x", "", "swivel:80", "[::1]:80"] {
        try client.send("GET /v1/macs HTTP/1.2\r\nHost: \(host)\r\n\r\n")
        let reply = try client.reply()
        #expect(reply.status == 200)
        #expect(reply.headers["connection"] == nil)
      }
    }
  }

  @Test("Out of descriptors the command line is answered all the same")
  func outOfDescriptors() async {
    await #expect(processExitsWith: .success) {
      let fixture = try Fixture()
      try await fixture.server.start()
      // Fewer than one: those there are stay, and no other comes.
      var limit = rlimit(rlim_cur: 200, rlim_max: 200)
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      // The client's own end is made first; only the server's is lacking.
      let sockets = (0..<3).map { _ in
        OwnedFD(taking: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0))
      }
      var hoard: [OwnedFD] = []
      while true {
        let next = open("/dev/null", O_RDONLY)
        if next < 0 { break }
        hoard.append(OwnedFD(taking: next))
      }
      for socket in sockets {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: fixture.path.utf8) }
        let connected = withUnsafePointer(to: &address) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(socket.raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
          }
        }
        let request = "GET /v1/macs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        guard connected == 0, write(socket.raw, request, request.utf8.count) == request.utf8.count
        else { exit(3) }
        var reply = [UInt8](repeating: 0, count: 4096)
        let count = read(socket.raw, &reply, reply.count)
        guard count > 0,
          String(decoding: reply.prefix(count), as: UTF8.self).hasPrefix("HTTP/1.1 200 ")
        else { exit(4) }
      }
      withExtendedLifetime(hoard) {}
      exit(0)
    }
  }

  @Test func bytesThatAreNotUTF8AreRefused() async throws {
    try await Fixture.run { fixture in
      let client = try fixture.client()
      try client.send([0xff, 0xfe] + Array(" / HTTP/1.1\r\n\r\n".utf8))
      #expect(try client.reply().status == 400)
    }
  }

  @Test func requestsMayShareAConnectionAndAPacket() async throws {
    try await Fixture.run { fixture in
      let client = try fixture.client()
      let request = "GET /v1/macs HTTP/1.1\r\nHost: x\r\n\r\n"
      try client.send(request + request + "GET /v1/workers HTTP/1.0\n\n")
      for _ in 0..<2 { #expect(try client.reply().status == 200) }
      let last = try client.reply()
      #expect(try last.decoded(as: [Worker].self).count == 1)
      #expect(last.headers["connection"] == "close")
      #expect(try client.isClosed())
    }
  }

  @Test func anExpectedContinueIsSent() async throws {
    try await Fixture.run { fixture in
      let body = #"{"name":"a","tap":{"device":"t"}}"#
      let client = try fixture.client()
      try client.send(
        "POST /v1/ports HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
          + "Content-Length: \(body.utf8.count)\r\n\r\n")
      #expect(try client.reply().status == 100)
      try client.send(body)
      #expect(try client.reply().status == 201)
    }
  }

  @Test func slowCallsDoNotHoldUpOthers() async throws {
    let service = FakeService(delay: 0.3)
    try await Fixture.run(service: service) { fixture in
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<16 {
          group.addTask {
            try await withCheckedThrowingContinuation { continuation in
              Foundation.Thread.detachNewThread {
                continuation.resume(with: Result { try fixture.ask("GET", "/v1/ports").status })
              }
            }
          }
        }
        for try await status in group { #expect(status == 200) }
      }
      #expect(service.mostCallsAtOnce > 1)
    }
  }
}
