/// Which transmitqs had better be polled by another worker, by what they brought of late. A value, so that tests run it on
/// machines that do not exist.
struct Balance {
  /// A transmitq that is polled.
  struct Queue: Equatable {
    var port: Int
    var index: Int
    var worker: Int
    /// Memory node of its guest, where that is known.
    var node: Int?
    /// What it cost its worker, in any unit.
    var load: Double

    var key: QueueKey { QueueKey(port: port, queue: index) }
  }

  struct Move: Equatable {
    var port: Int
    var queue: Int
    var from: Int
    var to: Int
  }

  /// A move is to take at least this part of its load off the busiest worker: what is gained must be more than what measuring twice
  /// may differ by, or queues would wander.
  static let leastGain = 0.1

  /// Moves, one after another, each of a queue of the busiest worker to where the busier of the two has least to do then; a guest's memory is
  /// not left for another node as long as a worker is beside it.
  ///
  /// - Parameters:
  ///   - nodes: memory node of each worker, by its number; `nil`: it takes no queue.
  ///   - fixed: queues that stay.
  static func moves(
    _ queues: [Queue], nodes: [Int?], leastGain: Double = leastGain, fixed: Set<QueueKey> = []
  ) -> [Move] {
    var queues = queues
    let open = nodes.indices.filter { nodes[$0] != nil }
    var loads = [Double](repeating: 0, count: nodes.count)
    for queue in queues { loads[queue.worker] += queue.load }
    var moves: [Move] = []
    for _ in queues.indices {
      guard let busiest = loads.indices.max(by: { loads[$0] < loads[$1] }) else { break }
      var best: (queue: Int, to: Int, peak: Double)?
      for (place, queue) in queues.enumerated()
      where queue.worker == busiest && queue.load > 0 && !fixed.contains(queue.key) {
        let near = open.filter { queue.node != nil && nodes[$0] == queue.node }
        for worker in near.isEmpty ? open : near where worker != busiest {
          let peak = max(loads[busiest] - queue.load, loads[worker] + queue.load)
          if best.map({ peak < $0.peak }) ?? true { best = (place, worker, peak) }
        }
      }
      guard let best, best.peak <= loads[busiest] * (1 - leastGain) else { break }
      let queue = queues[best.queue]
      loads[busiest] -= queue.load
      loads[best.to] += queue.load
      queues[best.queue].worker = best.to
      // One that goes on from where it has just come to goes there at once.
      if let earlier = moves.firstIndex(where: { $0.port == queue.port && $0.queue == queue.index })
      {
        moves[earlier].to = best.to
      } else {
        moves.append(Move(port: queue.port, queue: queue.index, from: busiest, to: best.to))
      }
    }
    return moves.filter { $0.from != $0.to }
  }
}
