internal import Dataplane
internal import Linux
internal import Logging

/// The thread for what must be done from time to time: letting addresses age, and noticing queues that a
/// guest has broken.
final class Housekeeping: Sendable {
  private let finish: EventFD
  private let thread: Linux.Thread

  init(_ parent: Switch) throws {
    let finish = try EventFD()
    let dataplane = parent.dataplane
    let step = Duration.seconds(parent.configuration.macAge / Double(Dataplane.lifetime))
    // A port is at most this long broken before its front-end and the log hear of it; one whose memory has vanished, which
    // whoever has touched it tells of, not even that.
    let look = Duration.milliseconds(200)
    weak let weakParent = parent
    thread = try Linux.Thread(name: "housekeeping") {
      var nextAge = ContinuousClock.now + step
      var failures = LogLimit()
      var stalls = dataplane.stalls
      while true {
        let time = ContinuousClock.now
        if time >= nextAge {
          dataplane.age()
          // After a pause of the whole machine addresses are not to age all at once.
          nextAge = max(nextAge + step, time)
        }
        let wait = min(look, time.duration(to: nextAge))
        let milliseconds = max(1, Int(wait / .milliseconds(1)))
        let watched = [finish, Mapping.vanished].compactMap { $0 }
        do throws(SystemError) {
          let ready = try Poller.wait(
            watched.map { ($0.descriptor.raw, .read) }, milliseconds: milliseconds)
          if ready[0] { return }
        } catch {
          // What it waits for can be looked for without being waited for.
          if failures.allows("\(error)") {
            weakParent?.logger.error("housekeeping can't wait as it should: \(error)")
          }
          if Poller.pause(milliseconds: milliseconds, unless: finish) { return }
        }
        Mapping.vanished?.drain()
        for port in weakParent?.allPorts ?? [] { port.inspect() }
        let now = dataplane.stalls
        if now.count != stalls.count {
          weakParent?.endStalls(milliseconds: Int((now.microseconds - stalls.microseconds) / 1000))
          stalls = now
        }
      }
    }
    self.finish = finish
  }

  func stop() {
    finish.signal()
    thread.join()
  }
}
