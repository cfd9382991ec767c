internal import Linux

/// What control asks of the data plane while it runs: addresses and counts. Nothing here stops a worker.
extension Dataplane {
  // ---- The MAC table ----

  /// Records an address as if a frame from it had come in (vhost-user: SEND_RARP).
  public func learn(_ mac: MACAddress, port: Int) {
    guard mac.isValidSource else { return }
    table.learn(mac, port: port)
  }

  /// Lets one thirty-second of an address's lifetime pass; returns how many addresses it ended.
  @discardableResult
  public func age() -> Int {
    let aged = table.age()
    state.withLock { $0.aged += UInt64(aged) }
    return aged
  }

  /// Stamps that `age` must be called for an address to be forgotten.
  public static let lifetime = Int(MACTable.lifetime)

  /// Forgets what was learned on a port.
  public func flush(port: Int) {
    _ = table.flush(port: port)
  }

  /// Every address with its port's number and the `age` calls since it was last seen.
  public func addresses() -> [(mac: MACAddress, port: Int, age: Int)] { table.entries() }

  public var addressCounts: AddressCounts {
    let aged = state.withLock { $0.aged }
    return AddressCounts(
      capacity: table.capacity, learned: sum(.learned), moved: sum(.moved), evicted: sum(.evicted),
      aged: aged)
  }

  private func sum(_ count: WorkerState.Count) -> UInt64 {
    workers.reduce(0) { $0 &+ $1.state.load(count) }
  }

  // ---- Readings ----

  /// What queue `index` of a port has counted since the port was made; `nil` when there is no such queue.
  public func counters(port number: Int, queue index: Int) -> CounterSample? {
    state.withLock { state in
      guard let port = port(number, state), port.queues.indices.contains(index) else { return nil }
      return port.queues[index].counters.sample
    }
  }

  /// Sums over the queues of all ports that are or have been, each port counted exactly once.
  public var totals: (transmitq: CounterSample, receiveq: CounterSample) {
    state.withLock { state in
      var sums = state.departed
      for port in state.ports {
        for (index, queue) in (port?.queues ?? []).enumerated() {
          if index % 2 == 0 {
            sums.receiveq += queue.counters.sample
          } else {
            sums.transmitq += queue.counters.sample
          }
        }
      }
      return sums
    }
  }

  public func workerSamples() -> [WorkerSample] {
    workers.map { worker in
      let epoch = worker.state.epoch
      return WorkerSample(
        turns: epoch / 2, busyTurns: worker.state.load(.busyTurns),
        sleeps: worker.state.load(.sleeps), sleeping: epoch & 1 != 0, pages: worker.arena.pages)
    }
  }
}
