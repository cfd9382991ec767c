internal import Linux

/// What workers work by, made anew whenever a port or a ring changes.
///
/// SAFETY: a plan is freed only when no worker can hold it (`Quiescence`).
extension Dataplane {
  /// Gives each worker a plan of the ports as they are now, and waits until none uses an older one.
  func publish(_ state: inout State) {
    if state.stopped { return }
    var old: [UnsafeMutablePointer<Plan>] = unsafe []
    for worker in workers {
      let index = worker.placement.index
      let sources = state.ports.enumerated().flatMap { number, port in
        port?.sources(port: number, worker: index) ?? []
      }
      let outputs = state.ports.map { port in
        port?.receivers(worker: index, of: workers.count) ?? Plan.Receivers()
      }
      let mustPoll = state.ports.contains { port in
        port?.queues.enumerated().contains { number, queue in
          guard number % 2 == 1, let ring = queue.ring else { return false }
          return ring.worker == index && ring.setup.kick == nil
        } ?? false
      }
      let plan = unsafe Plan.allocate(sources: sources, outputs: outputs, mustPoll: mustPoll)
      if let replaced = unsafe worker.state.post(plan) { unsafe old.append(replaced) }
      worker.wake.signal()
    }
    Quiescence.wait(for: workers)
    for port in state.ports { port?.forgetFlows() }
    for index in unsafe old.indices { unsafe Plan.deallocate(old[index]) }
  }
}
