import Foundation
import Glibc
import Linux
import Logging
import Testing

@testable import Switch
@testable import swiveld

@Suite struct WatchdogTests {
  private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private func pulse(rounds: UInt64) -> Pulse { Pulse(rounds: rounds, workers: []) }

  /// The next datagram, waited for as long as a busy machine needs.
  private func next(_ socket: OwnedFD) throws -> String {
    try #require(try Poller.wait([(socket.raw, .read)], milliseconds: 60_000)[0])
    return try ReadinessTests.receive(socket)
  }

  /// Takes what has come, and says whether that was anything.
  private func drain(_ socket: OwnedFD) throws -> Bool {
    var any = false
    while try Poller.wait([(socket.raw, .read)], milliseconds: 0)[0] {
      _ = try ReadinessTests.receive(socket)
      any = true
    }
    return any
  }

  @Test func theManagerHearsOfItForAsLongAsTheSwitchLives() throws {
    let address = "@swivel-watchdog-\(UUID().uuidString.prefix(8))"
    let socket = try ReadinessTests.manager(at: address)
    let readiness = Readiness(
      environment: ["NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000"])
    let rounds = Lock<UInt64>(0)
    let stands = Lock(false)
    let looks = Lock(0)
    let watchdog = try #require(
      try Watchdog(readiness, logger: quiet) {
        looks.withLock { $0 += 1 }
        let isStill = stands.withLock { $0 }
        return pulse(
          rounds: rounds.withLock {
            if !isStill { $0 += 1 }
            return $0
          })
      })
    for _ in 0..<5 { #expect(try next(socket) == "WATCHDOG=1") }

    // A look that has begun may still have seen it move; the next does not.
    stands.withLock { $0 = true }
    func pass(_ count: Int) {
      let goal = looks.withLock { $0 } + count
      while looks.withLock({ $0 }) < goal { Pause.milliseconds(1) }
    }
    pass(3)
    _ = try drain(socket)
    pass(5)
    #expect(try !drain(socket))

    // Whatever held it up has gone in time.
    stands.withLock { $0 = false }
    #expect(try next(socket) == "WATCHDOG=1")
    watchdog.stop()
    _ = try drain(socket)
    Pause.milliseconds(20)
    #expect(try !drain(socket))
  }

  @Test func nobodyWatches() throws {
    let readiness = Readiness(environment: ["NOTIFY_SOCKET": "/run/nobody"])
    #expect(try Watchdog(readiness, logger: quiet) { pulse(rounds: 0) } == nil)
  }
}
