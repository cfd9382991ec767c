internal import Linux

/// From control's records to what workers work by.
///
/// SAFETY: what was replaced is freed only when no worker can hold it: after a wait that began when it had been
/// replaced (`Quiescence`).
extension Dataplane {
  /// What an operation has changed of a port, and so must be made anew.
  struct Change {
    /// The port's output.
    var output = false
    /// The plans of these workers.
    var workers: Set<Int> = []
    /// The plans of these, from which something has been taken.
    var relieved: Set<Int> = []
    /// When the operation returns, no worker is to use what it has taken away.
    var mustWait = false

    /// Something has changed of a queue, which `worker` polls if it is a transmitq.
    mutating func note(_ index: Int, worker: Int) {
      if index % 2 == 1 { workers.insert(worker) } else { output = true }
    }

    /// A queue is gone.
    mutating func noteStop(_ index: Int, worker: Int) {
      if index % 2 == 1 { relieved.insert(worker) } else { output = true }
    }
  }

  /// Replaced pieces that are kept until somebody waits anyway: so many, and so many bytes.
  private static let retiredLimit = 32
  private static let retiredBytes = 256 << 10

  /// Changes one port, and has workers know of it. `body` gets the port's record, if there is one, and notes what it
  /// has changed.
  @discardableResult
  func change<Result>(
    _ number: Int, _ body: (PortRecord?, inout State, inout Change) -> Result
  ) -> Result {
    let (result, forgotten, mustWait) = state.withLock { state in
      var made = Change()
      let result = body(port(number, state), &state, &made)
      let forgotten = state.stopped ? nil : publish(number, made, &state)
      let isMuch =
        state.retired.count > Dataplane.retiredLimit
        || state.retired.reduce(0) { $0 + $1.bytes } > Dataplane.retiredBytes
      return (result, forgotten, made.mustWait || forgotten != nil || isMuch)
    }
    if mustWait { reclaim() }
    // What a pair was used for before it was closed is not what it is used for when it is open again.
    forgotten?.clear()
    return result
  }

  /// Waits until no worker holds anything that was replaced before the call, and frees that. Not under the lock, so
  /// that nobody waits for a worker's turn who has no need to.
  func reclaim() {
    let retired = state.withLock { state in
      defer { state.retired = [] }
      return state.retired
    }
    Quiescence.wait(for: workers)
    state.withLock { _ in
      for block in retired { block.free(arena) }
    }
  }

  /// Makes what has changed anew. Returns the flows that are to be forgotten when no worker records them any more.
  private func publish(_ number: Int, _ change: Change, _ state: inout State) -> FlowTable? {
    let port = port(number, state)
    // A worker that sleeps need not know that there is less to do.
    let woken = change.workers
    var concerned = change.workers.union(change.relieved)
    var forgotten: FlowTable?
    if change.output {
      replaceOutput(of: number, port, &state)
      if let port, port.recordsFlows != (port.activeFlows != nil) {
        // Whoever polls its transmitqs begins to record, or ends it; there is nothing to wake them for.
        port.recordsFlows.toggle()
        concerned.formUnion(port.queues.enumerated().compactMap { $0 % 2 == 1 ? $1?.worker : nil })
        if !port.recordsFlows { forgotten = port.state.flows }
      }
    }
    for worker in concerned {
      for (slot, source) in port?.sources(port: number, worker: worker) ?? [] {
        state.slots[worker].set(slot, source)
      }
      post(to: worker, &state)
      if woken.contains(worker) { crew[worker].wake.signal() }
    }
    return forgotten
  }

  /// Makes a worker's plan anew.
  func post(to worker: Int, _ state: inout State) {
    state.publications[worker] += 1
    let version = state.publications[worker]
    let (sources, crew) = (state.slots[worker].sources, state.crew)
    let plan = required { () throws(SystemError) in
      try Plan.make(
        sources, version: version, rank: crew.firstIndex(of: worker) ?? 0, of: crew.count, arena)
    }
    self.crew[worker].state.post(plan)
    if let old = state.plans[worker] { state.retired.append(old) }
    state.plans[worker] = plan
  }

  private func replaceOutput(of number: Int, _ port: PortRecord?, _ state: inout State) {
    guard let port else { return }
    let output = required { () throws(SystemError) in try port.makeOutput(of: number, arena) }
    let old = port.output
    ports.setOutput(output, of: number)
    port.output = output
    if let old { state.retired.append(old) }
    let isFlooded = output != nil && port.takesFloods
    if isFlooded == port.isFlooded { return }
    port.isFlooded = isFlooded
    state.open.set(number, isUplink: port.isUplink, isOpen: isFlooded)
    let open = state.open
    let list = required { () throws(SystemError) in
      try FloodList.make(uplinks: open.uplinks, others: open.others, arena)
    }
    ports.setFlood(list)
    if let old = state.flood { state.retired.append(old) }
    state.flood = list
  }

  /// Without memory for a few lines nothing can be told to workers, not even that a queue is gone: as where the
  /// runtime lacks memory.
  private func required<Value>(_ make: () throws(SystemError) -> Value) -> Value {
    do throws(SystemError) {
      return try make()
    } catch {
      fatalError("no memory for what workers work by: \(error)")
    }
  }

  /// Takes everything from workers, none of which runs any more.
  func unpublish(_ state: inout State) {
    for worker in workers { worker.state.post(nil) }
    for index in state.plans.indices {
      state.plans[index]?.free(arena)
      state.plans[index] = nil
    }
    for (number, port) in state.ports.enumerated() {
      guard let port else { continue }
      ports.setOutput(nil, of: number)
      port.output?.free(arena)
      port.output = nil
      port.isFlooded = false
    }
    ports.setFlood(nil)
    state.flood?.free(arena)
    state.flood = nil
    for block in state.retired { block.free(arena) }
    state.retired = []
    state.open = OpenPorts()
  }
}
