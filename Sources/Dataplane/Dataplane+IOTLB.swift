internal import Linux

/// What control asks of the data plane where a guest has an IOMMU.
extension Dataplane {
  /// Waits until no worker uses a translation that `iotlb` has not any more: until each has ended a turn.
  public func settle(_ iotlb: IOTLB) {
    Quiescence.wait(for: workers)
    iotlb.reclaim()
  }

  /// Has the workers that poll a port's transmitqs look at them again, as their IOTLB has changed, and those who have left
  /// frames waiting.
  public func wake(port number: Int) {
    state.withLock { state in
      guard let port = port(number, state) else { return }
      let polling = Set(port.queues.enumerated().compactMap { $0 % 2 == 1 ? $1?.worker : nil })
      for worker in workers
      where polling.contains(worker.placement.index) || worker.state.waits {
        worker.wake.signal()
      }
    }
  }

  /// Ends the work of a port's queues for good, until they are started anew.
  public func breakDown(port number: Int, _ fault: QueueFault) {
    state.withLock { state in
      guard let port = port(number, state) else { return }
      for (index, queue) in port.queues.enumerated() where queue != nil {
        port.state.queue(index).counters.breakDown(fault)
      }
    }
  }

  /// What workers have missed in the IOTLB of a port since the last time: some may be named more than once, and
  /// some may be known meanwhile.
  public func takeMisses(port number: Int) -> [TranslationMiss] {
    state.withLock { state in
      guard let port = port(number, state) else { return [] }
      return (0..<(2 * port.pairs)).flatMap { port.state.queue($0).view.takeMisses() }
    }
  }
}
