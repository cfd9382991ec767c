/// Which worker polls which transmitq: the least loaded of those beside the guest's memory, else the least
/// loaded of all. A value, so that tests run it on machines that do not exist.
struct Placement {
  /// Memory node of each worker, by its number; of one that is gone: the last that it had.
  private(set) var nodes: [Int]
  /// Transmitqs each worker polls now.
  private(set) var loads: [Int]
  /// Workers that get none: they are gone, or about to go.
  private var closed: Set<Int> = []
  /// Where queues are to go that are about to be started.
  private var wishes: [QueueKey: Int] = [:]

  init(nodes: [Int]) {
    precondition(!nodes.isEmpty)
    self.nodes = nodes
    loads = nodes.map { _ in 0 }
  }

  /// The workers that get queues.
  var open: [Int] { nodes.indices.filter { !closed.contains($0) } }

  /// Memory node of each worker that gets queues, by its number.
  var openNodes: [Int?] { nodes.indices.map { closed.contains($0) ? nil : nodes[$0] } }

  /// A worker gets queues from now on.
  mutating func open(_ worker: Int, node: Int) {
    while nodes.count <= worker {
      closed.insert(nodes.count)
      nodes.append(node)
      loads.append(0)
    }
    nodes[worker] = node
    closed.remove(worker)
  }

  /// A worker gets no more; what it has, it keeps until that is moved or released. There is to be another that does.
  mutating func close(_ worker: Int) {
    precondition(open.contains { $0 != worker })
    closed.insert(worker)
  }

  /// A worker that was closed gets queues again.
  mutating func reopen(_ worker: Int) { closed.remove(worker) }

  /// Chooses a worker for a queue whose guest's memory is on `node`, and counts the queue as its own.
  mutating func place(node: Int?) -> Int {
    let open = open
    let near = open.filter { nodes[$0] == node }
    let candidates = near.isEmpty ? open : near
    var best = candidates[0]
    for worker in candidates where loads[worker] < loads[best] { best = worker }
    loads[best] += 1
    return best
  }

  /// `place`, but where somebody has asked for a worker.
  mutating func place(_ queue: QueueKey, node: Int?) -> Int {
    guard let worker = wishes.removeValue(forKey: queue), !closed.contains(worker) else {
      return place(node: node)
    }
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
