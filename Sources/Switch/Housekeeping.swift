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
    let links: LinkWatch?
    do throws(SystemError) {
      links = try LinkWatch()
    } catch {
      links = nil
      parent.logger.notice(
        "interfaces can't be watched (\(error)): what becomes of an uplink is seen later")
    }
    weak let weakParent = parent
    let rounds = parent.housekeepingRounds
    let balances = parent.configuration.balances
    thread = try Linux.Thread(name: "housekeeping") {
      var nextAge = ContinuousClock.now + step
      var failures = LogLimit()
      var stalls = dataplane.stalls
      var finder = LoopGuard()
      var lastLoops = ContinuousClock.now
      var nextLinks = ContinuousClock.now
      var automatic = AutomaticBalance()
      var lastLook = Switch.Look()
      var nextBalance = ContinuousClock.now
      while true {
        // What tells that this thread lives (`Pulse`).
        rounds.withLock { $0 &+= 1 }
        let time = ContinuousClock.now
        if time >= nextAge {
          dataplane.age()
          // After a pause of the whole machine addresses are not to age all at once.
          nextAge = max(nextAge + step, time)
        }
        let wait = min(look, time.duration(to: nextAge))
        let milliseconds = max(1, Int(wait / .milliseconds(1)))
        let watched = [finish.descriptor, Mapping.vanished?.descriptor, links?.descriptor]
          .compactMap { $0 }
        var isLinkChange = false
        do throws(SystemError) {
          let ready = try Poller.wait(
            watched.map { ($0.raw, .read) }, milliseconds: milliseconds)
          if ready[0] { return }
          isLinkChange = links != nil && ready[ready.count - 1]
        } catch {
          // What it waits for can be looked for without being waited for.
          if failures.allows("\(error)") {
            weakParent?.logger.error("housekeeping can't wait as it should: \(error)")
          }
          if Poller.pause(milliseconds: milliseconds, unless: finish) { return }
        }
        Mapping.vanished?.drain()
        if isLinkChange { links?.drain() }
        // Without a watch one looks now and then.
        if links == nil, time >= nextLinks {
          isLinkChange = true
          nextLinks = time + .seconds(1)
        }
        weakParent?.saveState()
        for port in weakParent?.allPorts ?? [] {
          port.inspect()
          if isLinkChange { port.inspectLink() }
        }
        if lastLoops.duration(to: time) >= Switch.loopInterval {
          weakParent?.findLoops(&finder, since: lastLoops)
          lastLoops = ContinuousClock.now
        }
        if balances, time >= nextBalance {
          weakParent?.balance(&automatic, &lastLook)
          nextBalance = .now + AutomaticBalance.interval
        }
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
