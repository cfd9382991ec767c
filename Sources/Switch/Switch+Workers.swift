public import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging

/// Workers come and go while frames move.
///
/// One that goes gets no queue any more; then others poll what it polls, a port after the other, each at a moment between two messages
/// of its front-end (`SwitchPort.move`); and only when it has none left it ends. One that comes is placed queues as any other is.
extension Switch {
  /// The workers as they are shown.
  public func workers() -> [Worker] {
    let polled = allPorts.flatMap { port in
      port.polled.map { (worker: $0.worker, name: "\(port.request.name)/\($0.queue)") }
    }
    return dataplane.workerSamples().map { sample in
      // One that was not pinned is where the machine likes, and belongs nowhere.
      let pinned = cpu(ofWorker: sample.number)
      let cpu = configuration.pinned ? sample.cpu ?? pinned : pinned
      return Worker(
        id: sample.number, cpu: cpu, node: configuration.topology.node(ofCPU: cpu),
        state: sample.sleeping ? "sleeping" : "polling", turns: sample.turns,
        busyTurns: sample.busyTurns, sleeps: sample.sleeps, memory: sample.pages.description,
        queues: polled.filter { $0.worker == sample.number }.map(\.name).sorted())
    }
  }

  /// The CPU that a worker was given; 0 when there is none of the number.
  func cpu(ofWorker number: Int) -> Int { workerCPUs.withLock { $0[number] ?? 0 } }

  /// Starts a worker on a CPU, which polls nothing yet.
  public func addWorker(_ request: WorkerRequest) throws(ServiceError) -> Worker {
    let cpu = request.cpu
    let number = workerChanges.withLock { _ in
      Result<Int, ServiceError> { () throws(ServiceError) in try begin(cpu: cpu) }
    }
    let added = try number.get()
    noteChange()
    return workers().first { $0.id == added }
      ?? Worker(
        id: added, cpu: cpu, node: configuration.topology.node(ofCPU: cpu), state: "sleeping")
  }

  /// Ends a worker when others poll what it polls. Takes as long as the front-ends of their ports need to end what they are saying; if
  /// one does not within two seconds, the worker stays, and what has been moved is moved.
  public func removeWorker(_ number: Int) throws(ServiceError) {
    let done = workerChanges.withLock { _ in
      Result<Void, ServiceError> { () throws(ServiceError) in
        repeat { try vacate(number) } while try !end(number)
      }
    }
    try done.get()
    noteChange()
  }

  /// Has workers run on the CPUs `wanted`, while `body` is done: those that are to go poll nothing then. If it fails, or they
  /// can't be had, the workers are as they were.
  ///
  /// - Parameter owned: CPUs whose workers go when they are not wanted. Others, which came otherwise, stay.
  public func replaceWorkers<Value: Sendable>(
    _ wanted: [Int], owned: Set<Int>, _ body: () throws(ServiceError) -> Value
  ) throws(ServiceError) -> (value: Value, changes: WorkerChanges?) {
    let result = workerChanges.withLock { _ in
      Result<(value: Value, changes: WorkerChanges?), ServiceError> { () throws(ServiceError) in
        let present = workerCPUs.withLock { $0 }
        let coming = wanted.filter { !present.values.contains($0) }
        let going = present.filter { owned.contains($0.value) && !wanted.contains($0.value) }
          .sorted { $0.key < $1.key }
        var begun: [Int] = []
        var vacated: [Int] = []
        let value: Value
        do throws(ServiceError) {
          for cpu in coming { begun.append(try begin(cpu: cpu)) }
          for (number, _) in going {
            try vacate(number)
            vacated.append(number)
          }
          value = try body()
        } catch {
          for number in vacated { placement.withLock { $0.reopen(number) } }
          for number in begun { endAnyway(number) }
          throw error
        }
        for number in vacated { endAnyway(number) }
        if coming.isEmpty && going.isEmpty { return (value, nil) }
        return (value, WorkerChanges(added: coming, removed: going.map(\.value)))
      }
    }
    noteChange()
    return try result.get()
  }

  // ---- Steps ----

  /// Starts a worker, and returns its number.
  private func begin(cpu: Int) throws(ServiceError) -> Int {
    if let usable = configuration.usableCPUs, !usable.contains(cpu) {
      let list = usable.map(String.init).joined(separator: ", ")
      throw ServiceError(
        .refused, "CPU \(cpu) is not among those this process may use: \(list)")
    }
    let holder = workerCPUs.withLock { $0.first { $0.value == cpu }?.key }
    if configuration.pinned, let holder {
      throw ServiceError(.conflict, "worker \(holder) runs on CPU \(cpu) already")
    }
    let node = configuration.topology.node(ofCPU: cpu)
    let number: Int
    do {
      number = try dataplane.addWorker(.init(cpu: configuration.pinned ? cpu : nil, node: node))
    } catch {
      let kind = (error as? SystemError).map { ServiceError.Kind($0) } ?? .failed
      throw ServiceError(kind, "no worker can be started on CPU \(cpu): \(error)")
    }
    workerCPUs.withLock { $0[number] = cpu }
    placement.withLock { $0.open(number, node: node) }
    giveWay()
    logger.info("worker \(number) runs on CPU \(cpu), node \(node)")
    return number
  }

  /// Has other workers poll what a worker polls, which gets nothing more.
  private func vacate(_ number: Int) throws(ServiceError) {
    let isOpen = placement.withLock { placement in
      guard placement.open.contains(number) else { return false }
      if placement.open.count > 1 { placement.close(number) }
      return true
    }
    guard isOpen else { throw ServiceError(.notFound, "there is no worker \(number)") }
    if placement.withLock({ $0.open == [number] }) {
      throw ServiceError(
        .conflict,
        "worker \(number) is the last one, and without a worker no frame moves; add another first")
    }
    let deadline = ContinuousClock.now + .seconds(2)
    while true {
      let failure = moveAll(from: number)
      // A queue that was placed here before may be about to start, or its port about to end.
      let isFree = placement.withLock { $0.loads[number] == 0 }
      if isFree && failure == nil { return }
      if ContinuousClock.now >= deadline {
        placement.withLock { $0.reopen(number) }
        throw failure
          ?? ServiceError(.conflict, "worker \(number): a queue that it is to poll does not start")
      }
      Pause.milliseconds(2)
    }
  }

  /// Returns why a port's queues could not be moved.
  private func moveAll(from number: Int) -> ServiceError? {
    changes.withLock { _ in
      // A copy: what is moved counts itself.
      var targets = placement.withLock { $0 }
      for port in allPorts {
        var moves: [Int: Int] = [:]
        for entry in port.polled where entry.worker == number {
          moves[entry.queue] = targets.place(node: port.home)
        }
        if let announcer = dataplane.announcer(port: port.number), announcer.worker == number {
          moves[announcer.queue] = targets.place(node: port.home)
        }
        if moves.isEmpty { continue }
        do throws(ServiceError) {
          try port.move(moves)
        } catch {
          // Nobody is to wait for each of a thousand front-ends that keep silent.
          return error
        }
      }
      return nil
    }
  }

  /// Ends a worker that polls nothing any more. Returns whether it has: a port's first announcement may have come meanwhile, and
  /// its queue; then it is as if it had not been vacated.
  private func end(_ number: Int) throws(ServiceError) -> Bool {
    let patience = Duration.milliseconds(configuration.translationPatience) + .seconds(1)
    do {
      guard try dataplane.removeWorker(number, within: patience) else {
        placement.withLock { $0.reopen(number) }
        return false
      }
    } catch {
      placement.withLock { $0.reopen(number) }
      throw ServiceError(.conflict, "\(error)")
    }
    let cpu = workerCPUs.withLock { $0.removeValue(forKey: number) }
    giveWay()
    logger.info("worker \(number), on CPU \(cpu ?? 0), has ended")
    return true
  }

  private func endAnyway(_ number: Int) {
    do throws(ServiceError) {
      if placement.withLock({ $0.open.contains(number) }) { try vacate(number) }
      while try !end(number) { try vacate(number) }
    } catch {
      logger.error("worker \(number) stays: \(error)")
    }
  }

  /// Has whatever is no worker run on the CPUs that the workers leave, where there are any. A thread that is started at this moment
  /// has the CPUs of the one that starts it, which has them or gets them: so it is done twice.
  private func giveWay() {
    guard configuration.pinned, let usable = configuration.usableCPUs else { return }
    let taken = workerCPUs.withLock { Set($0.values) }
    let others = usable.filter { !taken.contains($0) }
    if others.isEmpty {
      logger.notice("the workers have all CPUs of this process; control shares them")
    }
    for _ in 0..<2 {
      let workers = Set(dataplane.workerThreads)
      for thread in Thread.all.union([Affinity.firstThread]).subtracting(workers) {
        // One that has ended meanwhile needs none.
        try? Affinity.confine(thread, to: others.isEmpty ? usable : others)
      }
    }
  }
}
