internal import CLinux
internal import Glibc
internal import Linux

/// The data plane as control sees it: workers, ports, rings, the MAC table.
///
/// Every operation here may be called from any thread but a worker's, though no two that concern one port at a time.
/// Those that take something away wait for the workers to reach a quiescent state: microseconds, as a turn is short.
/// When they return, what they removed is no longer in use by any worker, and may be unmapped, closed or freed.
///
/// SAFETY: blocks of the arena are given back only after such a wait.
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

  let crew: Crew
  /// What each worker is made with, but for its place.
  let makeWorker: @Sendable (WorkerThread.Placement, Int) throws -> WorkerThread
  let configuration: Configuration
  let interrupts: SlowInterrupts
  let ports: Ports
  let table: ForwardingTable
  /// The memory of the MAC table, of ports and of queues.
  let arena: Arena
  let state: Lock<State>

  /// What control changes, under one lock.
  struct State: ~Copyable {
    var ports: [PortRecord?] = []
    /// By worker's number, those of workers that are gone too: what it polls.
    var slots: [Slots]
    /// The newest queue's.
    var serial: UInt32 = 0
    /// By worker: plans it was given.
    var publications: [Int]
    /// By worker: its newest plan.
    var plans: [Block?]
    /// The workers' numbers, in order, as all of them are told.
    var crew: [Int]
    /// Those among them that take no queue: not every other worker knows of it yet, or it is about to go.
    var closed: Set<Int> = []
    /// What workers have counted that are gone, by their numbers.
    var gone: [Int: WorkerCounts] = [:]
    /// Ports that are up and take floods, and their list as workers have it.
    var open = OpenPorts()
    var flood: Block?
    /// What was replaced and is not freed yet, as workers may hold it.
    var retired: [Block] = []
    /// Counts of ports that are gone, so that sums never shrink.
    var departed = (
      transmitq: CounterSample(), receiveq: CounterSample(), learning: LearningCounts()
    )
    var aged: UInt64 = 0
    var stopped = false

    mutating func nextSerial() -> UInt32 {
      serial &+= 1
      // An empty slot's.
      if serial == 0 { serial = 1 }
      return serial
    }
  }

  /// The numbers of the ports that floods reach, in order.
  struct OpenPorts {
    var uplinks: [UInt16] = []
    var others: [UInt16] = []

    mutating func set(_ number: Int, isUplink: Bool, isOpen: Bool) {
      var ports = isUplink ? uplinks : others
      let number = UInt16(number)
      ports.removeAll { $0 == number }
      if isOpen { ports.insert(number, at: ports.firstIndex { $0 > number } ?? ports.count) }
      if isUplink { uplinks = ports } else { others = ports }
    }
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
    ports = unsafe Ports(try arena.allocate(bytes: Ports.byteCount))
    interrupts = try SlowInterrupts()
    let (ports, table, slow) = (ports, table, interrupts.wake)
    let count = configuration.workers.count
    self.configuration = configuration
    makeWorker = { place, count in
      try WorkerThread(
        place, of: count, ports: ports, table: table, slow: slow, fences: !Quiescence.hasBarrier,
        allowHuge: configuration.hugepages, isThread: configuration.threads)
    }
    let make = makeWorker
    let workers = try configuration.workers.enumerated().map { index, worker in
      try make(
        .init(index: index, cpu: worker.cpu, node: worker.node, poll: configuration.poll), count)
    }
    crew = Crew(workers)
    state = Lock(
      State(
        slots: [Slots](repeating: Slots(), count: count),
        publications: [Int](repeating: 0, count: count),
        plans: [Block?](repeating: nil, count: count), crew: Array(0..<count)))
    do {
      for worker in workers { try configuration.threads ? worker.start() : worker.rest() }
      if configuration.threads { try interrupts.start(self) }
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
      unpublish(&state)
    }
    interrupts.stop()
  }

  // ---- Ports ----

  /// Adds a port with up to `pairs` queue pairs, none of which runs; returns its number.
  ///
  /// - Parameters:
  ///   - pairs: 1 to 256.
  ///   - addresses: most that may be learned on it at a time; `nil`: as many as there is room for.
  ///   - isUplink: behind it there may be a whole network, and floods reach it first.
  public func addPort(pairs: Int, addresses: Int? = nil, isUplink: Bool = false) throws -> Int {
    precondition((1...FlowTable.maximumPairs).contains(pairs))
    return try state.withLock { state in
      let number = state.ports.firstIndex { $0 == nil } ?? state.ports.count
      guard number < Dataplane.maximumPorts else {
        throw DataplaneError("no more than \(Dataplane.maximumPorts) ports", isLimit: true)
      }
      // A table that has no room for more needs no roll.
      let limit = addresses.flatMap { $0 < table.capacity ? $0 : nil }
      let memory = try PortState(arena, pairs: pairs, addresses: limit)
      if number == state.ports.count { state.ports.append(nil) }
      state.ports[number] = PortRecord(pairs: pairs, state: memory, isUplink: isUplink)
      return number
    }
  }

  /// Removes a port, its queues and what was learned on it.
  public func removePort(_ number: Int) {
    guard let pairs = state.withLock({ port(number, $0)?.pairs }) else { return }
    _ = stopQueues(Array(0..<(2 * (pairs + 1))), of: number)
    // Only now can no worker learn on it any more; the number may be given to another port.
    _ = table.flush(port: number, ageless: true)
    state.withLock { state in
      guard let port = port(number, state) else { return }
      state.ports[number] = nil
      state.departed.learning += port.learning
      for index in 0..<(2 * (pairs + 1)) {
        let sample = port.state.queue(index).counters.sample
        if index % 2 == 0 {
          state.departed.receiveq += sample
        } else {
          state.departed.transmitq += sample
        }
      }
      port.ownRoll?.free(arena)
      unsafe arena.deallocate(port.state.memory, bytes: port.state.byteCount)
    }
  }

  /// Sets the longest payload (bytes after the Ethernet header) that is delivered to the port.
  public func setMTU(_ mtu: Int?, port number: Int) {
    change(number) { port, _, made in
      guard let port else { return }
      port.frameLimit =
        mtu.map { min($0 + EthernetHeader.size, Burst.maximumLength) } ?? Burst.maximumLength
      made.output = true
    }
  }

  /// Has floods reach a port or not. Frames for addresses that are known on it go there all the same. On return no worker
  /// floods as before.
  public func setFloods(_ takesFloods: Bool, port number: Int) {
    change(number) { port, _, made in
      guard let port, port.takesFloods != takesFloods else { return }
      port.takesFloods = takesFloods
      made.output = true
      made.mustWait = true
    }
  }

  /// Lets a port have another number of addresses from now on. What was learned on it is forgotten, as the new roll
  /// knows none of it: frames are flooded until their stations are heard again. What was pinned stays.
  ///
  /// - Parameter addresses: as in `addPort`.
  public func setAddressLimit(_ addresses: Int?, port number: Int) throws {
    let limit = addresses.flatMap { $0 < table.capacity ? $0 : nil }
    let failure = change(number) { port, state, made -> (any Error)? in
      guard let port, port.addressLimit != limit else { return nil }
      do {
        let block = try limit.map {
          try Block(arena, bytes: AddressRoll.byteCount(limit: $0), zeroed: true)
        }
        port.roll = block.map { unsafe AddressRoll($0.base, limit: limit ?? 1) }
        if let old = port.ownRoll { state.retired.append(old) }
        port.ownRoll = block
      } catch {
        return error
      }
      for (index, queue) in port.queues.enumerated() where index % 2 == 1 {
        if let queue { made.relieved.insert(queue.worker) }
      }
      // A worker may enter addresses on the old one until it has the new plan.
      made.mustWait = true
      return nil
    }
    if let failure { throw failure }
    flush(port: number)
  }

  func port(_ number: Int, _ state: borrowing State) -> PortRecord? {
    state.ports.indices.contains(number) ? state.ports[number] : nil
  }
}
