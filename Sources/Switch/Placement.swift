/// Which worker polls which transmitq: the least loaded of those beside the guest's memory, else the least
/// loaded of all. A value, so that tests run it on machines that do not exist.
struct Placement {
  /// Memory node of each worker.
  let nodes: [Int]
  /// Transmitqs each worker polls now.
  private(set) var loads: [Int]
  /// Where queues are to go that are about to be started.
  private var wishes: [QueueKey: Int] = [:]

  init(nodes: [Int]) {
    precondition(!nodes.isEmpty)
    self.nodes = nodes
    loads = nodes.map { _ in 0 }
  }

  /// Chooses a worker for a queue whose guest's memory is on `node`, and counts the queue as its own.
  mutating func place(node: Int?) -> Int {
    let near = nodes.indices.filter { nodes[$0] == node }
    let candidates = near.isEmpty ? Array(nodes.indices) : near
    var best = candidates[0]
    for worker in candidates where loads[worker] < loads[best] { best = worker }
    loads[best] += 1
    return best
  }

  /// `place`, but where somebody has asked for a worker.
  mutating func place(_ queue: QueueKey, node: Int?) -> Int {
    guard let worker = wishes.removeValue(forKey: queue) else { return place(node: node) }
    loads[worker] += 1
    return worker
  }

  /// Asks for workers the next time that queues are placed.
  mutating func wish(_ queues: [QueueKey: Int]) { wishes.merge(queues) { $1 } }

  /// Takes back what was asked for and did not come to be.
  mutating func forget(_ queues: some Sequence<QueueKey>) {
    for queue in queues { wishes[queue] = nil }
  }

  /// A queue has gone from one worker to another.
  mutating func move(_ from: Int, _ to: Int) {
    loads[from] -= 1
    loads[to] += 1
  }

  /// Takes one queue from a worker.
  mutating func release(_ worker: Int) {
    loads[worker] -= 1
  }
}
