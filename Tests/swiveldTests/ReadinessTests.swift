import Foundation
import Glibc
import Linux
import Testing

@testable import swiveld

@Suite struct ReadinessTests {
  /// A datagram socket at `address`, as a service manager has one.
  static func manager(at address: String) throws -> OwnedFD {
    let socket = OwnedFD(
      taking: Glibc.socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0))
    var target = sockaddr_un()
    target.sun_family = sa_family_t(AF_UNIX)
    var name = Array(address.utf8)
    if name[0] == UInt8(ascii: "@") { name[0] = 0 }
    withUnsafeMutableBytes(of: &target.sun_path) { $0.copyBytes(from: name) }
    let length = socklen_t(2 + name.count + (name[0] == 0 ? 0 : 1))
    let result = withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket.raw, $0, length) }
    }
    try #require(result == 0)
    return socket
  }

  static func receive(_ socket: OwnedFD) throws -> String {
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = recv(socket.raw, &bytes, bytes.count, CInt(MSG_DONTWAIT))
    try #require(count >= 0, "no datagram")
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }

  @Test(arguments: ["/tmp/swivel-notify-", "@swivel-notify-"])
  func theManagerIsTold(prefix: String) throws {
    let address = prefix + UUID().uuidString.prefix(8)
    let socket = try Self.manager(at: address)
    defer { unlink(address) }
    let readiness = Readiness(environment: ["NOTIFY_SOCKET": address])
    readiness.ready("2 ports\non 1 worker")
    #expect(try Self.receive(socket) == "READY=1\nSTATUS=2 ports on 1 worker")
    readiness.reloading()
    let lines = try Self.receive(socket).split(separator: "\n")
    #expect(lines.first == "RELOADING=1")
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    let stamp = try #require(lines.first { $0.hasPrefix("MONOTONIC_USEC=") })
    let microseconds = try #require(Int(stamp.dropFirst("MONOTONIC_USEC=".count)))
    #expect(abs(microseconds - (now.tv_sec * 1_000_000 + now.tv_nsec / 1000)) < 5_000_000)
    readiness.stopping()
    #expect(try Self.receive(socket).hasPrefix("STOPPING=1"))
  }

  /// Nobody there, nothing set, nonsense: the daemon goes on.
  @Test func nobodyNeedsToListen() throws {
    for address in [
      "", "/nonexistent/notify", "relative", "vsock:2:1234",
      "/" + String(repeating: "x", count: 200),
    ] {
      Readiness(environment: ["NOTIFY_SOCKET": address]).ready("up")
    }
    Readiness(environment: [:]).stopping()
    #expect(throws: SystemError.self) { try NotifySocket.send("x", to: "/nonexistent/notify") }
    #expect(throws: SystemError.self) {
      try NotifySocket.send("x", to: "/" + String(repeating: "x", count: 107))
    }
  }

  /// sd_watchdog_enabled(3).
  @Test func whoIsWatchedKnowsForHowLong() {
    func patience(_ more: [String: String]) -> Duration? {
      Readiness(environment: ["NOTIFY_SOCKET": "/run/notify"].merging(more) { $1 }).patience
    }
    #expect(patience([:]) == nil)
    #expect(patience(["WATCHDOG_USEC": "30000000"]) == .seconds(30))
    #expect(patience(["WATCHDOG_USEC": "5", "WATCHDOG_PID": "\(getpid())"]) == .microseconds(5))
    #expect(patience(["WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"]) == nil)
    #expect(patience(["WATCHDOG_USEC": "5", "NOTIFY_SOCKET": ""]) == nil)
    for nonsense in ["", "0", "-5", "30s", "99999999999999999999"] {
      #expect(patience(["WATCHDOG_USEC": nonsense]) == nil)
    }
  }
}
