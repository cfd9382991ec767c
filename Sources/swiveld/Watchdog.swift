import Linux
import Logging
import Switch

/// Tells the service manager again and again that the switch lives, and leaves it out when it does not: a daemon whose
/// workers or housekeeping stand still is ended and started anew by who watches it (systemd's `WatchdogSec=`).
///
/// A thread of its own, as every other may have to wait for what has gone wrong: main for a reload, and that for the
/// workers.
final class Watchdog: Sendable {
  private let finish: EventFD
  private let thread: Linux.Thread

  /// `nil`: nobody watches.
  ///
  /// - Parameter pulse: a reading of what moves while the switch lives.
  init?(
    _ readiness: Readiness, logger: Logger, pulse: @escaping @Sendable () -> Pulse
  ) throws(SystemError) {
    guard let patience = readiness.patience else { return nil }
    // Three looks in that time: a single one at a machine that has just stood still as a whole costs nothing.
    let interval = max(1, Int(patience / .milliseconds(1)) / 3)
    let finish = try EventFD()
    self.finish = finish
    thread = try Linux.Thread(name: "watchdog") {
      var last = pulse()
      var isSilent = false
      readiness.alive()
      while !Poller.pause(milliseconds: interval, unless: finish) {
        let now = pulse()
        let standing = now.standing(since: last)
        last = now
        if standing.isEmpty {
          readiness.alive()
        } else if !isSilent {
          logger.critical(
            "\(standing.joined(separator: "; ")) in \(interval) ms: the service manager is not told that this daemon lives, and ends it if that lasts"
          )
        }
        isSilent = !standing.isEmpty
      }
    }
  }

  func stop() {
    finish.signal()
    thread.join()
  }
}
