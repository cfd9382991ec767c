public import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging

/// Queues go from worker to worker while frames move.
extension Switch {
  /// Measures for `time` what each transmitq brings, and has workers that do less than others take some of theirs. A queue stands still
  /// for the moment that its worker needs to let go of it; its frames wait in the ring.
  public func rebalance(measuring time: Duration = .seconds(1)) -> BalanceReport {
    guard placement.withLock({ $0.open.count }) > 1 else { return BalanceReport() }
    let before = costs()
    Pause.milliseconds(Int(time / .milliseconds(1)))
    let after = costs()
    return changes.withLock { _ in
      make(Balance.moves(queues(before, after), nodes: placement.withLock { $0.openNodes }))
    }
  }

  /// What was read of workers and queues at a look.
  struct Look {
    var costs: [QueueKey: Double] = [:]
    var workers: [Int: (turns: UInt64, busy: UInt64)] = [:]
  }

  /// Does by itself what has turned out to be needed for a while. Housekeeping calls it, every `AutomaticBalance.interval`.
  func balance(_ automatic: inout AutomaticBalance, _ last: inout Look) {
    let samples = dataplane.workerSamples().map { ($0.number, ($0.turns, $0.busyTurns)) }
    let now = Look(costs: costs(), workers: Dictionary(uniqueKeysWithValues: samples))
    let before = last
    last = now
    let busy = now.workers.reduce(into: [Int: Double]()) { busy, worker in
      let old = before.workers[worker.key] ?? worker.value
      let turns = worker.value.turns &- old.turns
      busy[worker.key] = turns == 0 ? 0 : Double(worker.value.busy &- old.busy) / Double(turns)
    }
    // Ports and workers are to be those that the moves are of.
    automatic = changes.withLock { [automatic] _ in
      var next = automatic
      let nodes = placement.withLock { $0.openNodes }
      let moves = next.look(queues(before.costs, now.costs), busy: busy, nodes: nodes)
      if !moves.isEmpty { _ = make(moves) }
      return next
    }
  }

  /// What is polled, and what it has cost between two readings.
  private func queues(_ before: [QueueKey: Double], _ after: [QueueKey: Double]) -> [Balance.Queue]
  {
    allPorts.flatMap { port in
      port.polled.map { entry in
        let key = QueueKey(port: port.number, queue: entry.queue)
        return Balance.Queue(
          port: port.number, index: entry.queue, worker: entry.worker, node: port.home,
          // One that was made since has nothing to be judged by.
          load: before[key].flatMap { old in after[key].map { max(0, $0 - old) } } ?? 0)
      }
    }
  }

  private func make(_ moves: [Balance.Move]) -> BalanceReport {
    var report = BalanceReport()
    for port in allPorts {
      let own = moves.filter { $0.port == port.number }
      if own.isEmpty { continue }
      let name = port.request.name
      do throws(ServiceError) {
        try port.move(Dictionary(uniqueKeysWithValues: own.map { ($0.queue, $0.to) }))
        for move in own {
          report.moves.append(
            .init(port: name, queue: move.queue, from: move.from, to: move.to))
          logger.info("port '\(name)': worker \(move.to) polls queue \(move.queue) now")
        }
      } catch {
        report.left.append(.init(port: name, reason: error.message))
        logger.warning("port '\(name)' keeps its workers: \(error.message)")
      }
    }
    return report
  }

  /// What each transmitq has cost since its port was made: a frame counts one, and one more for each 512 bytes, whose copy takes
  /// about as long as the rest.
  private func costs() -> [QueueKey: Double] {
    var costs: [QueueKey: Double] = [:]
    for port in allPorts {
      for (queue, _) in port.polled {
        guard let sample = dataplane.counters(port: port.number, queue: queue) else { continue }
        costs[QueueKey(port: port.number, queue: queue)] =
          Double(sample.frames + sample.drops.values.reduce(0, +)) + Double(sample.bytes) / 512
      }
    }
    return costs
  }
}

/// A queue among those of all ports.
struct QueueKey: Hashable {
  var port: Int
  var queue: Int
}
