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
    /// When the operation returns, no worker is to use what it has taken away.
    var mustWait = false

    /// Something has changed of a queue, which `worker` polls if it is a transmitq.
    mutating func note(_ index: Int, worker: Int) {
      if index % 2 == 1 { workers.insert(worker) } else { output = true }
    }
  }

  /// What workers may still hold.
  @safe enum Retired {
    case plan(UnsafeMutablePointer<Plan>)
    case output(UnsafePointer<Output>)
    case flood(UnsafeRawPointer)

    fileprivate func free() {
      switch self {
      case .plan(let plan): unsafe plan.deallocate()
      case .output(let output): unsafe output.deallocate()
      case .flood(let list): unsafe list.deallocate()
      }
    }
  }

  /// Replaced things that are kept until somebody waits anyway.
  private static let retiredLimit = 32

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
      let isMuch = state.retired.count > Dataplane.retiredLimit
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
    for item in retired { item.free() }
  }

  /// Makes what has changed anew. Returns the flows that are to be forgotten when no worker records them any more.
  private func publish(_ number: Int, _ change: Change, _ state: inout State) -> FlowTable? {
    let port = port(number, state)
    var concerned = change.workers
    var woken = change.workers
    var forgotten: FlowTable?
    if change.output {
      unsafe replaceOutput(of: number, by: port?.makeOutput(), &state)
      if let port, port.recordsFlows != (port.activeFlows != nil) {
        // Whoever polls its transmitqs begins to record, or ends it; there is nothing to wake them for.
        port.recordsFlows.toggle()
        concerned.formUnion(port.queues.enumerated().compactMap { $0 % 2 == 1 ? $1?.worker : nil })
        if !port.recordsFlows { forgotten = port.state.flows }
      }
    }
    for worker in concerned {
      let before = state.sources[worker].count
      state.sources[worker].removeAll { $0.port == UInt16(number) }
      state.sources[worker] += port?.sources(port: number, worker: worker) ?? []
      // A worker that sleeps need not know that there is less to do.
      if state.sources[worker].count < before { woken.remove(worker) }
      let plan = unsafe Plan.allocate(state.sources[worker])
      if let old = unsafe workers[worker].state.post(plan) {
        state.retired.append(unsafe .plan(old))
      }
      state.publications[worker] += 1
      if woken.contains(worker) { workers[worker].wake.signal() }
    }
    return forgotten
  }

  private func replaceOutput(
    of number: Int, by output: UnsafePointer<Output>?, _ state: inout State
  ) {
    let old = unsafe ports.exchange(number, output)
    if let old = unsafe old { state.retired.append(unsafe .output(old)) }
    if unsafe (old == nil) == (output == nil) { return }
    if unsafe output == nil {
      state.open.removeAll { $0 == UInt16(number) }
    } else {
      let place = state.open.firstIndex { $0 > UInt16(number) } ?? state.open.count
      state.open.insert(UInt16(number), at: place)
    }
    let list = unsafe ports.exchange(flood: FloodList.allocate(state.open))
    if let list = unsafe list { state.retired.append(unsafe .flood(list)) }
  }

  /// Frees everything. No worker runs any more.
  func freePublished(_ state: inout State) {
    for worker in workers {
      if let plan = unsafe worker.state.post(nil) { unsafe plan.deallocate() }
    }
    for number in state.open {
      if let output = unsafe ports.exchange(Int(number), nil) { unsafe output.deallocate() }
    }
    if let list = unsafe ports.exchange(flood: nil) { unsafe list.deallocate() }
    for item in state.retired { item.free() }
    state.retired = []
    state.open = []
  }
}
