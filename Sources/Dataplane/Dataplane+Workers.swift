internal import Linux

/// Workers come and go while the others turn. No two of these calls at a time.
extension Dataplane {
  /// Those there are now, by their numbers.
  var workers: [WorkerThread] { crew.all }

  /// The threads of the workers, as the kernel numbers them.
  public var workerThreads: [Int] { workers.compactMap { $0.threadID.withLock { $0 } } }

  /// Starts another worker, which may poll queues from the moment this returns.
  ///
  /// - Returns: its number: the lowest that no worker has.
  public func addWorker(_ place: Configuration.Worker) throws -> Int {
    let number = crew.free
    let worker = try makeWorker(
      .init(index: number, cpu: place.cpu, node: place.node, poll: configuration.poll),
      workers.count + 1)
    interrupts.tell(worker)
    try configuration.threads ? worker.start() : worker.rest()
    let isStopped = state.withLock { state in
      if state.stopped { return true }
      if number == state.slots.count {
        state.slots.append(Slots())
        state.publications.append(0)
        state.plans.append(nil)
      }
      crew.add(worker)
      state.crew = (state.crew + [number]).sorted()
      state.closed.insert(number)
      tellAll(&state)
      return false
    }
    if isStopped {
      worker.stop()
      throw DataplaneError("the workers have ended")
    }
    // A worker that was alone took no lock of a receiveq, and now does, before another delivers there.
    reclaim()
    state.withLock { state in _ = state.closed.remove(number) }
    return number
  }

  /// Ends a worker that polls no queue any more, once no frame waits for a translation that it is to come back to.
  ///
  /// - Parameter patience: for those frames.
  /// - Returns: whether it was done; not while it polls queues.
  public func removeWorker(_ number: Int, within patience: Duration) throws -> Bool {
    let free = try state.withLock { state -> WorkerThread? in
      let available = state.available
      guard available.contains(number), let worker = crew.find(number) else {
        throw DataplaneError("there is no worker \(number)")
      }
      guard available.count > 1 else {
        throw DataplaneError("worker \(number) is the last one")
      }
      guard state.slots[number].isEmpty else { return nil }
      state.closed.insert(number)
      return worker
    }
    guard let worker = free else { return false }
    let deadline = ContinuousClock.now + patience
    while worker.state.waits {
      if ContinuousClock.now >= deadline {
        state.withLock { state in _ = state.closed.remove(number) }
        throw DataplaneError("worker \(number) keeps frames that wait for translations")
      }
      Pause.milliseconds(1)
    }
    worker.stop()
    state.withLock { state in
      // Then everything has been taken from it already.
      if state.stopped { return }
      state.gone[number, default: WorkerCounts()] += WorkerCounts(worker.state)
      // Its thread has ended: nobody holds it.
      state.plans[number]?.free(arena)
      state.plans[number] = nil
      crew.remove(number)
      state.crew.removeAll { $0 == number }
      state.closed.remove(number)
      // Only now: while there were two, each had to take the locks of receiveqs.
      tellAll(&state)
    }
    return true
  }

  /// Gives all that have a plan another, with the workers there are now. Those without deliver nothing.
  private func tellAll(_ state: inout State) {
    for number in state.crew {
      if state.plans[number] == nil { continue }
      post(to: number, &state)
    }
  }
}

extension Dataplane.State {
  /// The workers that may be given queues.
  var available: [Int] {
    let closed = closed
    return crew.filter { !closed.contains($0) }
  }
}
