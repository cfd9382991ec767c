/// Which worker polls which transmitq: the least loaded of those beside the guest's memory, else the least
/// loaded of all. A value, so that tests run it on machines that do not exist.
struct Placement {
  /// Memory node of each worker.
  let nodes: [Int]
  /// Transmitqs each worker polls now.
  private(set) var loads: [Int]

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

  /// Takes one queue from a worker.
  mutating func release(_ worker: Int) {
    loads[worker] -= 1
  }
}
