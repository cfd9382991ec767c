/// When queues go to other workers without anybody having asked: seldom, and not to and fro. A value that is told what was
/// measured, so that tests run it on machines and days that do not exist.
///
/// A worker has too much when it does something in most of its turns and another could take a good part of that. It must have had
/// too much in some looks in a row, and what goes is chosen by all of them together: guests are busy by turns, and what one look
/// finds is gone with the next. A queue that has been moved stays where it is for a while, whatever is found.
struct AutomaticBalance {
  /// Between two looks.
  static let interval = Duration.seconds(10)
  /// Looks in a row in which the same worker has had too much.
  static let patience = 3
  /// Looks for which a queue stays where it was moved to: five minutes.
  static let stay = 30
  /// The part of its turns in which a worker has found something, from which on it may have too much. One that sleeps now and
  /// then, or polls in vain, has time left.
  static let busy = 0.5
  /// A move is to take at least this part of its load off the worker: more than where somebody asks (`Balance.leastGain`), who
  /// may know that it will last.
  static let leastGain = 0.25

  private struct Streak {
    var worker: Int
    var loads: [QueueKey: Double] = [:]
    var looks = 0
  }

  private var streak: Streak?
  private var looks = 0
  /// In which look a queue was moved.
  private var moved: [QueueKey: Int] = [:]

  /// `AutomaticBalance.busy` and `leastGain`, but in tests.
  var enough = AutomaticBalance.busy
  var gain = AutomaticBalance.leastGain

  /// - Parameters:
  ///   - queues: with what they have cost since the last look.
  ///   - busy: the part of each worker's turns in which it found something, by its number.
  ///   - nodes: as of `Balance.moves`.
  /// - Returns: moves, which are taken to be made.
  mutating func look(
    _ queues: [Balance.Queue], busy: [Int: Double], nodes: [Int?]
  ) -> [Balance.Move] {
    looks += 1
    moved = moved.filter { looks - $0.value < AutomaticBalance.stay }
    var loads: [Int: Double] = [:]
    for queue in queues { loads[queue.worker, default: 0] += queue.load }
    let busiest = loads.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
    guard let busiest, busy[busiest] ?? 0 >= enough,
      !moves(queues, nodes).isEmpty
    else {
      streak = nil
      return []
    }
    var now = streak.flatMap { $0.worker == busiest ? $0 : nil } ?? Streak(worker: busiest)
    now.looks += 1
    for queue in queues { now.loads[queue.key, default: 0] += queue.load }
    streak = now
    if now.looks < AutomaticBalance.patience { return [] }
    streak = nil
    let all = queues.map { queue in
      var queue = queue
      queue.load = now.loads[queue.key] ?? 0
      return queue
    }
    let made = moves(all, nodes)
    for move in made { moved[QueueKey(port: move.port, queue: move.queue)] = looks }
    return made
  }

  private func moves(_ queues: [Balance.Queue], _ nodes: [Int?]) -> [Balance.Move] {
    Balance.moves(
      queues, nodes: nodes, leastGain: gain, fixed: Set(moved.keys))
  }
}
