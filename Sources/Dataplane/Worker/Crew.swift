internal import Linux

/// The workers there are, by their numbers. A worker keeps its number for as long as it lives, whoever comes and goes; a new
/// one gets the lowest that is free.
///
/// Whoever waits for all of them (`Quiescence`) takes the list first: one that comes later knows nothing of what has been
/// replaced before, as it is given its first queue after that.
final class Crew: Sendable {
  private let list: Lock<[WorkerThread?]>

  init(_ workers: [WorkerThread]) { list = Lock(workers) }

  /// Those there are, by their numbers.
  var all: [WorkerThread] { list.withLock { $0.compactMap { $0 } } }

  /// The lowest number that no worker has.
  var free: Int { list.withLock { list in list.firstIndex { $0 == nil } ?? list.count } }

  func find(_ number: Int) -> WorkerThread? {
    list.withLock { $0.indices.contains(number) ? $0[number] : nil }
  }

  /// The worker of a number that has one.
  subscript(number: Int) -> WorkerThread {
    guard let worker = find(number) else { preconditionFailure("there is no worker \(number)") }
    return worker
  }

  func add(_ worker: WorkerThread) {
    list.withLock { list in
      let number = worker.placement.index
      while list.count <= number { list.append(nil) }
      precondition(list[number] == nil, "there is a worker \(number)")
      list[number] = worker
    }
  }

  func remove(_ number: Int) { list.withLock { $0[number] = nil } }
}
