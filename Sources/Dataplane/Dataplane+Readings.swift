public import Linux

/// What control asks of the data plane while it runs: addresses and counts. Nothing here stops a worker.
extension Dataplane {
  // ---- The MAC table ----

  /// Records an address as if a frame from it had come in (vhost-user: SEND_RARP), `age` stamps ago.
  public func learn(_ mac: MACAddress, port number: Int, age: Int = 0) {
    guard mac.isValidSource else { return }
    state.withLock { state in
      guard let port = port(number, state) else { return }
      let learned = table.enter(
        ForwardingKey(mac), Destination(port: number), now: (table.now &- UInt64(age)) & 63,
        nil, port.roll)
      if learned.has(.learned) { port.learned.learned += 1 }
      if learned.has(.moved) { port.learned.moved += 1 }
      if learned.has(.limited) { port.learned.limited += 1 }
      if learned.has(.evicted | .crowded) { port.learned.evicted += 1 }
    }
  }

  /// Lets one thirty-second of an address's lifetime pass; returns how many addresses it ended.
  @discardableResult
  public func age() -> Int {
    let aged = table.age()
    state.withLock { $0.aged += UInt64(aged) }
    return aged
  }

  /// Stamps that `age` must be called for an address to be forgotten.
  public static let lifetime = Int(ForwardingTable.lifetime)

  /// Forgets what was learned on a port.
  ///
  /// - Parameter ageless: what was pinned for good, too.
  public func flush(port: Int, ageless: Bool = false) {
    _ = table.flush(port: port, ageless: ageless)
  }

  /// Enters an address for a port, whatever frames have taught or will teach; the port's limit does not count it. It
  /// goes with the port at the latest.
  ///
  /// - Parameters:
  ///   - end: which of the ends behind the port; 0: the port itself.
  ///   - ageless: until it is forgotten; else it ages when it is not heard.
  ///   - locked: of one that ages: frames from elsewhere do not move it.
  public func pin(
    _ mac: MACAddress, domain: UInt16 = 0, port number: Int, end: UInt16 = 0,
    ageless: Bool = true, locked: Bool = true
  ) throws {
    try state.withLock { state in
      guard port(number, state) != nil else { throw DataplaneError("there is no port \(number)") }
      do throws(ForwardingTable.PinFailure) {
        try table.pin(
          ForwardingKey(mac, domain: domain), Destination(port: number, end: end),
          ageless: ageless, locked: locked)
      } catch {
        switch error {
        case .notStation: throw DataplaneError("\(mac) is no station's address")
        case .noRoom:
          throw DataplaneError("there is no room for \(mac) beside addresses that stay for good")
        }
      }
    }
  }

  /// Forgets one address, however it was entered. Returns whether it was known.
  @discardableResult
  public func forget(_ mac: MACAddress, domain: UInt16 = 0) -> Bool {
    table.remove(ForwardingKey(mac, domain: domain))
  }

  /// Every address with its port's number, the `age` calls since it was last seen, and whether it was pinned for good.
  public func addresses() -> [(mac: MACAddress, port: Int, age: Int, isPinned: Bool)] {
    table.entries().map { ($0.mac, $0.port, $0.age, $0.isAgeless) }
  }

  /// How many addresses lead to a port.
  public func addressCount(port number: Int) -> Int {
    (0..<Dataplane.maximumPorts).contains(number) ? table.count(port: number) : 0
  }

  public var addressCounts: AddressCounts {
    state.withLock { state in
      AddressCounts(
        capacity: table.capacity,
        learning: state.ports.reduce(into: state.departed.learning) { sum, port in
          if let port { sum += port.learning }
        }, aged: state.aged)
    }
  }

  /// Most addresses of a port, if there is a limit, and what was learned on it since it was made; nothing when there
  /// is no such port.
  public func learning(port number: Int) -> (limit: Int?, counts: LearningCounts) {
    state.withLock { state in
      guard let port = port(number, state) else { return (nil, LearningCounts()) }
      return (port.addressLimit, port.learning)
    }
  }

  // ---- Readings ----

  /// What queue `index` of a port has counted since the port was made; `nil` when there is no such queue.
  public func counters(port number: Int, queue index: Int) -> CounterSample? {
    state.withLock { state in
      guard let port = port(number, state), port.queues.indices.contains(index) else { return nil }
      return port.state.queue(index).counters.sample
    }
  }

  /// Why queue `index` of a port is broken; `nil`: it is not, or there is no such queue. Of a ring that was stopped, why
  /// it was when it ran. A ring whose memory has vanished is broken by this call, whatever a worker has found in it.
  public func fault(port number: Int, queue index: Int) -> QueueFault? {
    state.withLock { state in
      guard let port = port(number, state), port.queues.indices.contains(index) else { return nil }
      return port.inspect(index)
    }
  }

  /// Sums over the queues of all ports that are or have been, each port counted exactly once.
  public var totals: (transmitq: CounterSample, receiveq: CounterSample) {
    state.withLock { state in
      var sums = (transmitq: state.departed.transmitq, receiveq: state.departed.receiveq)
      for port in state.ports {
        guard let port else { continue }
        for pair in 0...port.pairs {
          sums.receiveq += port.state.queue(2 * pair).counters.sample
          sums.transmitq += port.state.queue(2 * pair + 1).counters.sample
        }
      }
      return sums
    }
  }

  /// Why drivers are interrupted by write(2), which a front-end can keep from returning; `nil`: they are not.
  public var notifierLack: SystemError? { workers.lazy.compactMap(\.notifier.lack).first }

  /// How often workers have had to wait for a guest's memory, and for how long together.
  public var stalls: (count: UInt64, microseconds: UInt64) {
    let all = workerCounts.values
    return all.reduce(into: (0, 0)) { sum, counts in
      sum.count += counts.stalls
      sum.microseconds += counts.stalled
    }
  }

  /// How often workers have stopped interrupting a driver.
  var convictions: UInt64 { workerCounts.values.reduce(0) { $0 + $1.convictions } }

  /// By number: what all workers have counted that have had it.
  private var workerCounts: [Int: WorkerCounts] {
    // Under the lock: one that goes is counted once, here or there.
    state.withLock { state in
      workers.reduce(into: state.gone) { counts, worker in
        counts[worker.placement.index, default: WorkerCounts()] += WorkerCounts(worker.state)
      }
    }
  }

  /// The workers there are, by their numbers. One that has a number which another had before goes on from what that had
  /// counted.
  public func workerSamples() -> [WorkerSample] {
    state.withLock { state in
      workers.map { worker in
        let number = worker.placement.index
        var counts = state.gone[number] ?? WorkerCounts()
        counts += WorkerCounts(worker.state)
        return WorkerSample(
          number: number, turns: counts.turns, busyTurns: counts.busyTurns, sleeps: counts.sleeps,
          sleeping: worker.state.epoch & 1 != 0, pages: worker.arena.pages,
          publications: state.publications[number], cpu: worker.cpu)
      }
    }
  }
}
