internal import CLinux
internal import Glibc
public import Linux

/// The data plane as control sees it: workers, ports, rings, the MAC table.
///
/// Every operation here may be called from any thread but a worker's, and may wait for the workers to reach
/// a quiescent state: microseconds, as a turn is short. SAFETY: blocks of the arena are given back only after
/// `publish` has returned without the plans that named them. When it returns, what it removed is no longer in
/// use by any worker, and may be unmapped, closed or freed.
@safe public final class Dataplane: Sendable {
  /// Where workers run and how large the MAC table is.
  public struct Configuration: Sendable {
    public struct Worker: Sendable {
      /// CPU to pin to; `nil`: none.
      public var cpu: Int?
      public var node: Int

      public init(cpu: Int?, node: Int) {
        self.cpu = cpu
        self.node = node
      }
    }
    public var workers: [Worker]
    public var poll: PollMode
    /// Addresses the MAC table has room for at least.
    public var macEntries: Int
    /// `false`: ordinary pages only.
    public var hugepages: Bool
    /// `false`: workers get no threads and run when `turn` says, and the MAC table's hash is the same in every run:
    /// then the same frames cost the same instructions.
    public var threads: Bool

    public init(
      workers: [Worker], poll: PollMode = .adaptive, macEntries: Int = 16384,
      hugepages: Bool = true,
      threads: Bool = true
    ) {
      self.workers = workers
      self.poll = poll
      self.macEntries = macEntries
      self.hugepages = hugepages
      self.threads = threads
    }
  }

  /// Most ports at a time.
  public static let maximumPorts = ForwardingTable.maximumPorts

  let workers: [WorkerThread]
  let table: ForwardingTable
  /// The MAC table's memory, and the queues'.
  private let arena: Arena
  let state: Lock<State>

  /// What control changes, under one lock.
  struct State: ~Copyable {
    var ports: [PortRecord?] = []
    /// Counts of ports that are gone, so that sums never shrink.
    var departed = (
      transmitq: CounterSample(), receiveq: CounterSample(), learning: LearningCounts()
    )
    var aged: UInt64 = 0
    var stopped = false
  }

  /// Starts the workers, if they have threads.
  public init(_ configuration: Configuration) throws {
    precondition(!configuration.workers.isEmpty)
    arena = Arena(
      node: configuration.workers[0].node, allowHuge: configuration.hugepages)
    let capacity = ForwardingTable.capacity(for: configuration.macEntries)
    table = unsafe ForwardingTable(
      try arena.allocate(bytes: ForwardingTable.byteCount(capacity: capacity)), capacity: capacity,
      secret: configuration.threads ? UInt64.random(in: .min ... .max) : 1)
    let table = table
    let shares = configuration.workers.count > 1
    workers = try configuration.workers.enumerated().map { index, worker in
      try WorkerThread(
        .init(index: index, cpu: worker.cpu, node: worker.node, poll: configuration.poll),
        table: table, sharesQueues: shares, fences: !Quiescence.hasBarrier,
        allowHuge: configuration.hugepages)
    }
    state = Lock(State())
    do {
      for worker in workers { try configuration.threads ? worker.start() : worker.rest() }
    } catch {
      for worker in workers { worker.stop() }
      throw error
    }
  }

  /// Ends the workers. Ports that are still there carry nothing from then on.
  public func stop() {
    state.withLock { state in
      if state.stopped { return }
      state.stopped = true
      for worker in workers { worker.stop() }
      for worker in workers {
        if let plan = unsafe worker.state.post(nil) { unsafe Plan.deallocate(plan) }
      }
    }
  }

  // ---- Ports ----

  /// Adds a port for a guest with up to `pairs` queue pairs; returns its number.
  ///
  /// - Parameter addresses: most that may be learned on it at a time; `nil`: as many as there is room for.
  public func addPort(pairs: Int, addresses: Int? = nil) throws -> Int {
    try addPort(pairs: pairs, tap: nil, addresses: addresses)
  }

  /// Adds an uplink: one queue pair for each TAP descriptor, polled by the worker of the same place in
  /// `workers`.
  ///
  /// - Parameters:
  ///   - offloads: what the kernel takes over of the frames written.
  ///   - addresses: as of a guest's port.
  public func addPort(
    tap descriptors: [OwnedFD], headerSize: Int, offloads: Offloads, workers: [Int],
    addresses: Int? = nil
  ) throws -> Int {
    precondition(descriptors.count == workers.count)
    return try addPort(
      pairs: descriptors.count,
      tap: .init(
        descriptors: descriptors, headerSize: headerSize, offloads: offloads, workers: workers),
      addresses: addresses)
  }

  private func addPort(pairs: Int, tap: PortRecord.Tap?, addresses: Int?) throws -> Int {
    precondition((1...FlowTable.maximumPairs).contains(pairs))
    return try state.withLock { state in
      let number = state.ports.firstIndex { $0 == nil } ?? state.ports.count
      guard number < Dataplane.maximumPorts else {
        throw DataplaneError("no more than \(Dataplane.maximumPorts) ports")
      }
      if let tap {
        for (descriptor, worker) in zip(tap.descriptors, tap.workers) {
          try workers[worker].watch(descriptor.raw, edge: false)
        }
      }
      var queues: [PortRecord.Queue] = []
      for _ in 0..<(2 * pairs) {
        unsafe queues.append(
          PortRecord.Queue(memory: try arena.allocate(bytes: PortRecord.Queue.byteCount)))
      }
      let flows =
        pairs > 1 ? unsafe FlowTable(try arena.allocate(bytes: FlowTable.byteCount)) : nil
      // A table that has no room for more needs no roll.
      let limit = addresses.flatMap { $0 < table.capacity ? $0 : nil }
      let roll = try limit.map { limit in
        unsafe AddressRoll(
          try arena.allocate(bytes: AddressRoll.byteCount(limit: limit)), limit: limit)
      }
      if number == state.ports.count { state.ports.append(nil) }
      state.ports[number] = PortRecord(
        pairs: pairs, queues: queues, tap: tap, flows: flows, roll: roll)
      if tap != nil { publish(&state) }
      return number
    }
  }

  /// Removes a port, its rings and what was learned on it.
  public func removePort(_ number: Int) {
    state.withLock { state in
      guard let port = port(number, state) else { return }
      let rings = port.queues.compactMap(\.ring)
      for (index, queue) in port.queues.enumerated() {
        if let ring = queue.ring { unwatch(ring, index: index) }
      }
      if let tap = port.tap {
        for (descriptor, worker) in zip(tap.descriptors, tap.workers) {
          workers[worker].unwatch(descriptor.raw)
        }
      }
      state.ports[number] = nil
      publish(&state)
      for ring in rings { free(ring) }
      // Only now can no worker learn on it any more; the number may be given to another port.
      _ = table.flush(port: number, ageless: true)
      state.departed.learning += port.learning
      for (index, queue) in port.queues.enumerated() {
        let sample = queue.counters.sample
        if index % 2 == 0 {
          state.departed.receiveq += sample
        } else {
          state.departed.transmitq += sample
        }
        unsafe arena.deallocate(queue.memory, bytes: PortRecord.Queue.byteCount)
      }
      if let flows = port.flows {
        unsafe arena.deallocate(flows.address, bytes: FlowTable.byteCount)
      }
      if let roll = port.roll {
        unsafe arena.deallocate(roll.address, bytes: AddressRoll.byteCount(limit: roll.limit))
      }
    }
  }

  /// Stops waiting for a TAP queue. The descriptor of a deleted interface is always ready, and would keep
  /// its worker from sleeping.
  public func unwatchTap(_ pair: Int, of number: Int) {
    state.withLock { state in
      guard let tap = port(number, state)?.tap else { return }
      workers[tap.workers[pair]].unwatch(tap.descriptors[pair].raw)
    }
  }

  /// Sets the longest payload (bytes after the Ethernet header) that is delivered to the port.
  public func setMTU(_ mtu: Int?, port number: Int) {
    state.withLock { state in
      guard let port = port(number, state) else { return }
      port.frameLimit =
        mtu.map { min($0 + EthernetHeader.size, Burst.maximumLength) } ?? Burst.maximumLength
      publish(&state)
    }
  }

  // ---- Rings ----

  /// Starts ring `index` (receiveq n is 2n, transmitq n is 2n + 1), polled by `worker` if it is a
  /// transmitq. The memory stays referenced until the ring is stopped.
  ///
  /// - Parameter iotlb: translates every address of the ring's and in it, when there is an IOMMU; it must know the
  ///   ring's own (`RingSetup.misses`).
  public func startRing(
    _ index: Int, of number: Int, _ setup: RingSetup, memory: GuestMemory, iotlb: IOTLB? = nil,
    worker: Int
  ) throws {
    try state.withLock { state in
      guard let port = port(number, state), port.queues.indices.contains(index) else {
        throw DataplaneError("there is no ring \(index)")
      }
      precondition(port.queues[index].ring == nil, "the ring runs already")
      let block = unsafe try arena.allocate(bytes: VirtqueuePointer.byteCount)
      let isTransmitq = index % 2 == 1
      let space: any RingSpace =
        iotlb.map {
          DeviceSpace($0, memory, port.queues[index].view, isTransmitq: isTransmitq)
        } ?? memory
      let queue: VirtqueuePointer
      do throws(DataplaneError) {
        queue = unsafe try VirtqueuePointer(
          setup, at: block, isTransmitq: isTransmitq, memory: space,
          counters: port.queues[index].counters)
      } catch {
        unsafe arena.deallocate(block, bytes: VirtqueuePointer.byteCount)
        throw error
      }
      let record = PortRecord.RingRecord(
        queue: queue, setup: setup, memory: space, worker: worker)
      // While it is polled nobody need kick. In a receiveq nobody need ever.
      queue.suppressKicks()
      // The front-end is asked for the first buffers before a frame needs them.
      if iotlb != nil { queue.lookAhead(isTransmitq: isTransmitq) }
      if isTransmitq, let kick = setup.kick {
        do {
          try workers[worker].watch(kick.raw, edge: true)
        } catch {
          free(record)
          throw DataplaneError("the kick descriptor can't be waited for: \(error)")
        }
      }
      port.queues[index].ring = record
      publish(&state)
    }
  }

  /// Stops a ring and returns where it would go on, as in `RingSetup.base`; `nil` when it does not run. On return
  /// no worker touches the ring, its memory or its descriptors.
  public func stopRing(_ index: Int, of number: Int) -> UInt32? {
    state.withLock { state in
      guard let port = port(number, state), port.queues.indices.contains(index),
        let ring = port.queues[index].ring
      else { return nil }
      unwatch(ring, index: index)
      let stopped = port.queues[index]
      port.queues[index].ring = nil
      publish(&state)
      // The last look at it: why it is broken, if it is, can be asked for until the next start.
      _ = stopped.inspect()
      let next = ring.queue.base
      free(ring)
      return next
    }
  }

  private func unwatch(_ ring: PortRecord.RingRecord, index: Int) {
    if index % 2 == 1, let kick = ring.setup.kick { workers[ring.worker].unwatch(kick.raw) }
  }

  private func free(_ ring: PortRecord.RingRecord) {
    unsafe arena.deallocate(ring.queue.address, bytes: VirtqueuePointer.byteCount)
  }

  func port(_ number: Int, _ state: borrowing State) -> PortRecord? {
    state.ports.indices.contains(number) ? state.ports[number] : nil
  }
}
