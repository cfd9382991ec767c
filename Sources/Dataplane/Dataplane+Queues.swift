public import Linux

/// One queue to be started.
public struct QueueStart: Sendable {
  /// Receiveq n is 2n, transmitq n is 2n + 1.
  public var index: Int
  public var setup: QueueSetup
  /// The worker that polls it, if it is a transmitq.
  public var worker: Int

  public init(_ index: Int, _ setup: QueueSetup, worker: Int = 0) {
    self.index = index
    self.setup = setup
    self.worker = worker
  }
}

/// Queues come and go, and change while they run.
///
/// SAFETY: a queue's block is given back when no worker knew of it yet, or after a wait in which each has forgotten it.
extension Dataplane {
  /// Starts queues of a port, none of which runs, with one plan for each worker concerned. What they were made from stays
  /// referenced until they are stopped.
  ///
  /// - Returns: for each, in order, why it was not started; `nil`: it runs.
  public func startQueues(_ starts: [QueueStart], of number: Int) -> [(any Error)?] {
    var made = make(starts, of: number)
    for place in made.indices { watch(&made[place], starts[place].index) }
    var replaced: [RunningQueue] = []
    defer { free(replaced) }
    return change(number) { port, state, change in
      zip(starts, made).map { start, made -> (any Error)? in
        switch made {
        case .failure(let error): return error
        case .success(let queue):
          guard let port else { return DataplaneError("there is no port \(number)") }
          if let old = port.queues[start.index] {
            precondition(old.isSuspended, "the queue runs already")
            replaced.append(old)
            change.mustWait = true
          }
          port.queues[start.index] = queue
          change.note(start.index, worker: start.worker)
          return nil
        }
      }
    }
  }

  /// Makes queues of which no worker knows yet.
  private func make(
    _ starts: [QueueStart], of number: Int
  ) -> [Result<RunningQueue, any Error>] {
    state.withLock { state in
      starts.map { start in
        Result {
          guard let port = port(number, state) else {
            throw DataplaneError("there is no port \(number)")
          }
          guard port.queues.indices.contains(start.index) else {
            throw DataplaneError("there is no queue \(start.index)")
          }
          return try make(start, port, &state)
        }
      }
    }
  }

  private func make(
    _ start: QueueStart, _ port: PortRecord, _ state: inout State
  ) throws -> RunningQueue {
    let isTransmitq = start.index % 2 == 1
    let queue = try start.setup.make(
      QueuePlace(
        arena: arena, state: port.state.queue(start.index), isTransmitq: isTransmitq))
    queue.worker = start.worker
    guard isTransmitq else { return queue }
    guard state.available.contains(start.worker) else {
      unsafe arena.deallocate(queue.block, bytes: queue.byteCount)
      throw DataplaneError("there is no worker \(start.worker)")
    }
    guard let slot = state.slots[start.worker].reserve() else {
      unsafe arena.deallocate(queue.block, bytes: queue.byteCount)
      throw DataplaneError(
        "worker \(start.worker) polls \(Plan.maximumSlots) queues already", isLimit: true)
    }
    queue.slot = slot
    queue.serial = state.nextSerial()
    return queue
  }

  /// Waits for a queue's doorbell, or takes back what was made.
  private func watch(_ made: inout Result<RunningQueue, any Error>, _ index: Int) {
    guard case .success(let queue) = made, let doorbell = queue.doorbell else { return }
    do throws(SystemError) {
      try crew[queue.worker].watch(doorbell, slot: queue.slot)
    } catch {
      state.withLock { state in
        unsafe arena.deallocate(queue.block, bytes: queue.byteCount)
        state.slots[queue.worker].release(queue.slot)
      }
      made = .failure(DataplaneError("the queue's descriptor can't be waited for: \(error)"))
    }
  }

  /// Stops queues, with one plan for each worker concerned. On return no worker touches them, their memory or their
  /// descriptors.
  ///
  /// - Returns: for each, in order, where it would go on, as in `RingSetup.base`; `nil` when it does not run.
  public func stopQueues(_ indices: [Int], of number: Int) -> [UInt32?] {
    let stopped = change(number) {
      port, state, change -> [(queue: RunningQueue, state: QueueState)?] in
      guard let port else { return indices.map { _ in nil } }
      return indices.map { index in
        guard port.queues.indices.contains(index), let queue = port.queues[index] else {
          return nil
        }
        port.queues[index] = nil
        if index % 2 == 1 { state.slots[queue.worker].release(queue.slot) }
        change.noteStop(index, worker: queue.worker)
        change.mustWait = true
        return (queue, port.state.queue(index))
      }
    }
    return stopped.map { entry in
      guard let (queue, state: memory) = entry else { return nil }
      // Its worker may have ended meanwhile, and what it watched with it.
      if let doorbell = queue.doorbell { crew.find(queue.worker)?.unwatch(doorbell) }
      // The last look at it, when no worker can find anything more: why it is broken, if it is, can be asked for until
      // the next start.
      _ = queue.inspect(memory)
      if queue.space?.view.iotlb != nil {
        // What waited for its buffers has lost them.
        memory.counters.drop(.addressNotTranslated, memory.view.forget())
      }
      let position = queue.queue.position
      free([queue])
      return position
    }
  }

  /// Stops queues as `stopQueues` does, for as long as their own parts are not translated. Frames for the receiveqs among them
  /// wait until `startQueues` or `stopQueues`.
  ///
  /// - Returns: as of `stopQueues`.
  public func suspendQueues(_ indices: [Int], of number: Int) -> [UInt32?] {
    let suspended = change(number) { port, state, change -> [RunningQueue?] in
      indices.map { index in
        guard let port, let queue = running(index, port) else { return nil }
        if index % 2 == 1 { state.slots[queue.worker].release(queue.slot) }
        // Without memory for it they are lost, as when it is stopped.
        port.queues[index] =
          index % 2 == 1
          ? nil : try? SplitQueue.suspended(for: queue, port.state.queue(index), arena)
        change.noteStop(index, worker: queue.worker)
        change.mustWait = true
        return queue
      }
    }
    return suspended.map { queue in
      guard let queue else { return nil }
      if let doorbell = queue.doorbell { crew.find(queue.worker)?.unwatch(doorbell) }
      let position = queue.queue.position
      free([queue])
      return position
    }
  }

  /// Gives back what no worker knows any more.
  private func free(_ queues: [RunningQueue]) {
    if queues.isEmpty { return }
    state.withLock { _ in
      for queue in queues { unsafe arena.deallocate(queue.block, bytes: queue.byteCount) }
    }
  }

  // ---- Of a running queue; nothing happens when it does not run ----

  /// Has frames be delivered to the queue, or taken from it, or not: then those taken are discarded, and none is
  /// delivered on return.
  public func setEnabled(_ isEnabled: Bool, queue index: Int, of number: Int) {
    change(number) { port, _, change in
      guard let port, let queue = running(index, port), queue.isEnabled != isEnabled else { return }
      queue.isEnabled = isEnabled
      change.note(index, worker: queue.worker)
      if !isEnabled { change.mustWait = true }
    }
  }

  /// Has the driver be interrupted by another eventfd; `nil`: it polls. On return no worker uses the old one.
  public func setCall(_ call: OwnedFD?, queue index: Int, of number: Int) {
    let old = change(number) { port, _, change -> OwnedFD? in
      guard let port, let queue = running(index, port) else { return nil }
      port.state.queue(index).setCall(call)
      let old = queue.call
      queue.call = call
      change.mustWait = true
      return old
    }
    withExtendedLifetime(old) {}
  }

  /// Has the driver kick by another eventfd; `nil`: it does not, and the worker must look. Throws when it can't be waited
  /// for; then the queue has none.
  ///
  /// Whatever the old one was told, the worker looks once more.
  public func setKick(_ kick: OwnedFD?, queue index: Int, of number: Int) throws {
    guard index % 2 == 1,
      let queue = state.withLock({ state in
        port(number, state).flatMap { running(index, $0) }
      })
    else { return }
    let worker = crew[queue.worker]
    var failure: SystemError?
    var doorbell = kick.map { Doorbell(descriptor: $0, isEdge: true) }
    if let wanted = doorbell {
      do throws(SystemError) {
        try worker.watch(wanted, slot: queue.slot)
      } catch {
        failure = error
        doorbell = nil
      }
    }
    let old = change(number) { _, state, change -> Doorbell? in
      defer { queue.doorbell = doorbell }
      // Another queue to its worker, which begins by looking at it.
      queue.serial = state.nextSerial()
      change.note(index, worker: queue.worker)
      return queue.doorbell
    }
    if let old { worker.unwatch(old) }
    if let failure { throw DataplaneError("the kick descriptor can't be waited for: \(failure)") }
  }

  /// Breaks a queue for a reason that no worker sees. They look at it no more from their next look at an empty ring on.
  public func breakDown(_ fault: QueueFault, queue index: Int, of number: Int) {
    state.withLock { state in
      guard let port = port(number, state), running(index, port) != nil else { return }
      port.state.queue(index).counters.setFault(fault)
    }
  }

  /// Stops waiting for a queue that is broken for good: the descriptor of a deleted interface is always ready, and
  /// would keep its worker from sleeping.
  public func stopWaiting(queue index: Int, of number: Int) {
    let queue = state.withLock { state in port(number, state).flatMap { running(index, $0) } }
    if let queue, let doorbell = queue.doorbell { crew.find(queue.worker)?.unwatch(doorbell) }
  }

  private func running(_ index: Int, _ port: PortRecord) -> RunningQueue? {
    port.queues.indices.contains(index) ? port.queues[index] : nil
  }
}
