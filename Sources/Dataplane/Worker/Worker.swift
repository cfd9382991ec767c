internal import CLinux
internal import Glibc
internal import Linux
internal import Synchronization

/// One worker: everything its thread touches, and one turn of its loop.
///
/// # Theory of operation
///
/// Here live those who move frames. A worker is a thread pinned to a CPU (`WorkerThread`) that turns: it goes over the
/// queues of its plan (`Plan`), takes a burst from each that has one, has the bridge switch it, and shows both sides what
/// was done. It shares a few words with control (`WorkerState`), among them the mailbox with its newest plan, at which it
/// looks once a turn. When a turn has ended it holds nothing of what it used; that is what control waits for before
/// it frees anything (`Quiescence`). After a while without a frame it asks its queues to wake it, and sleeps.
///
/// Nobody is to pay for a neighbour. Silent queues are looked at seldom, or when they ring (`Attention`). A burst that
/// can't be delivered at once, as another worker fills the same receiveq or as it floods a thousand ports, is set aside
/// while others have their turn (`Parked`). What an interrupt costs is measured, and whose costs too much is
/// interrupted by a thread that is no worker (`Interrupts`).
///
/// SAFETY: plan and queues stay valid for the turn that loaded them (`Quiescence`); scratch memory is its arena's.
///
/// It lives at one address, is used by one thread, and never allocates, locks a mutex, or waits.
@safe struct Worker: ~Copyable {
  /// Frames of one destination while a burst is being sorted.
  struct List {
    var count: UInt16 = 0
    /// Where in the order the next one goes.
    var next: UInt16 = 0
  }

  let state: WorkerState
  /// Its place among the workers, and how many there are: as its plan says.
  private(set) var index: Int
  private(set) var workers: Int
  let ports: Ports
  let table: ForwardingTable
  let hints: ForwardingTable.Hints
  /// The burst in hand, and what of it is not delivered yet.
  var burst: Burst
  var rest: Rest
  let lists: UnsafeMutablePointer<List>
  /// The destinations of a burst.
  let receivers: UnsafeMutablePointer<UInt16>
  var steering: Steering
  var attention: Attention
  /// Ports for which frames wait.
  var waiting: WaitingPorts
  /// Bursts set aside in this turn: `parkedCount` of `Parked.capacity`.
  let parked: UnsafeMutablePointer<Parked>
  var parkedCount = 0
  /// Where among the ports the next flood that can't reach all begins.
  var floodStart = 0
  /// The time-stamp counter from which on a flood may go on: the others have had as much time as it by then.
  var floodAgain: UInt64 = 0
  /// A worker that has lost its CPU, or stands still in memory that does not come, may hold a receiveq for long. After so
  /// much time, in counts of the time-stamp counter, others give up what they have for it.
  let longestWait = TickClock.counts(microseconds: 100_000)
  /// Queues whose other sides may have to be told of what this turn has published.
  /// Counts of the time-stamp counter by which a tick may be late; and how often this thread had waited before it.
  let stall = TickClock.counts(microseconds: Worker.stallMicroseconds)
  let microsecond = max(1, TickClock.counts(microseconds: 1))
  var waits: Int64 = 0
  let unannounced: UnsafeMutablePointer<Queue>
  var unannouncedCount = 0
  static let unannouncedCapacity = 16
  var interrupts: Interrupts
  /// Where the doorbells of its queues are watched, by their slots; and the eventfd by which control calls, which has one
  /// behind all of theirs.
  let epoll: CInt
  let wake: CInt
  static let wakeSlot = Plan.maximumSlots
  /// Who has rung.
  let rung: UnsafeMutablePointer<UInt64>
  /// Whether other workers fill the same receiveqs, so that each must be held for a burst.
  private(set) var sharesQueues: Bool
  /// Whether the kernel lacks membarrier(2), so that each turn must fence.
  let fences: Bool

  /// - Parameter ticks: `false`: it is turned by hand, and looks at every queue in every turn.
  init(
    state: WorkerState, index: Int, of workers: Int, ports: Ports, table: ForwardingTable,
    arena: Arena, notifier: Notifier, slow: EventFD, epoll: CInt, wake: CInt, fences: Bool,
    ticks: Bool
  ) throws {
    let burst = try Burst(arena: arena)
    let hints = unsafe ForwardingTable.Hints(
      try arena.allocate(bytes: ForwardingTable.Hints.byteCount))
    let lists = unsafe try arena.allocate(
      bytes: ForwardingTable.maximumPorts * MemoryLayout<List>.stride)
    let receivers = unsafe try arena.allocate(bytes: Burst.size * 2)
    let steering = try Steering(arena: arena, key: table.secret)
    let unannounced = unsafe try arena.allocate(
      bytes: Worker.unannouncedCapacity * MemoryLayout<Queue>.stride)
    let rung = unsafe try arena.allocate(bytes: Attention.kicks * MemoryLayout<UInt64>.stride)
    let rest = try Rest(arena: arena)
    let attention = try Attention(arena: arena, ticks: ticks)
    let waiting = try WaitingPorts(arena)
    let parked = unsafe try Parked.make(arena)
    let interrupts = try Interrupts(
      arena: arena, notifier: notifier, state: state, slow: slow)
    self.state = state
    self.index = index
    self.workers = workers
    self.ports = ports
    self.table = table
    self.hints = hints
    self.epoll = epoll
    self.wake = wake
    unsafe self.rung = unsafe rung.bindMemory(to: UInt64.self, capacity: Attention.kicks)
    sharesQueues = workers > 1
    self.fences = fences
    self.burst = burst
    self.rest = rest
    self.steering = steering
    self.attention = attention
    self.waiting = waiting
    unsafe self.parked = unsafe parked
    self.interrupts = interrupts
    unsafe self.lists = unsafe lists.initializeMemory(
      as: List.self, repeating: List(), count: ForwardingTable.maximumPorts)
    unsafe self.receivers = unsafe receivers.bindMemory(
      to: UInt16.self, capacity: Burst.size)
    unsafe self.unannounced = unsafe unannounced.bindMemory(
      to: Queue.self, capacity: Worker.unannouncedCapacity)
  }

  /// Polls each queue that is to be looked at once. Returns the frames taken. A function of its own wherever it is called, as
  /// its machine code is looked for by name.
  ///
  /// Nothing on its way takes a lock of the runtime or allocates: the compiler looks through all of it where it
  /// compiles the module as a whole.
  #if WHOLE_MODULE
    @_noLocks @_noAllocation
  #endif
  @inline(never)
  mutating func turn() -> Int {
    guard let plan = unsafe state.plan else {
      finishTurn()
      return 0
    }
    if unsafe plan.pointee.version != attention.version { unsafe adopt(plan) }
    let sources = unsafe Plan.sources(plan)
    var moved = unsafe pollHot(sources)
    if clx_ticks() >= attention.due { moved &+= unsafe tick(sources) }
    if parkedCount > 0 { moved &+= unsafe settle(sources) }
    if waiting.count > 0 { moved &+= attend() }
    if moved > 0 {
      state.add(.busyTurns)
      tellDrivers()
    }
    finishTurn()
    return moved
  }

  /// Works by another plan from now on. Nothing is in hand: what follows from how many workers there are can change.
  @inline(never)
  mutating func adopt(_ plan: UnsafeMutablePointer<Plan>) {
    index = unsafe plan.pointee.rank
    workers = unsafe plan.pointee.workers
    sharesQueues = workers > 1
    unsafe attention.adopt(plan)
  }

  /// A quiescent state: from here on this worker holds nothing of the plan it used.
  @inline(always)
  private func finishTurn() {
    state.epoch = state.epoch &+ 2
    if fences { atomicMemoryFence(ordering: .sequentiallyConsistent) }
  }

  @inline(always)
  mutating func pollHot(_ sources: UnsafePointer<Plan.Source>) -> Int {
    var moved = 0
    var place = 0
    while place < attention.hotCount {
      moved &+= unsafe poll(sources, Int(attention.hot[place]))
      place &+= 1
    }
    return moved
  }

  @inline(always)
  private mutating func poll(_ sources: UnsafePointer<Plan.Source>, _ slot: Int) -> Int {
    let source = unsafe sources + slot
    let queue = unsafe source.pointee.queue
    let gathered = queue.take(burst)
    if gathered.frames == 0 { return 0 }
    unsafe attention.heard[slot] = attention.tick
    burst.prefetch(gathered)
    unsafe switchBurst(source, gathered)
    if rest.isEmpty {
      queue.publish()
      notifyLater(queue)
    } else {
      unsafe park(slot, sources)
    }
    if parkedCount > 0 { unsafe retry(sources, othersAreIdle: false) }
    return gathered.frames
  }

  @inline(always)
  private mutating func switchBurst(
    _ source: UnsafePointer<Plan.Source>, _ taken: Gathered
  ) {
    let counters = unsafe source.pointee.counters
    var gathered = taken
    let judged = unsafe burst.judge(
      &gathered, headerSize: UInt32(source.pointee.headerSize), allowed: source.pointee.offloads,
      counters)
    counters.add(.frames, gathered.frames)
    counters.add(.bytes, judged.bytes)
    counters.add(.bursts, 1)
    if unsafe source.pointee.discards {
      counters.drop(.queueDisabled, gathered.frames &- gathered.dropped.nonzeroBitCount)
    } else {
      unsafe bridge(source, gathered, judged)
    }
  }

  // ---- By the clock ----

  /// What is done every few microseconds: silent queues are looked at. Returns the frames taken.
  @inline(never)
  mutating func tick(_ sources: UnsafePointer<Plan.Source>) -> Int {
    let now = clx_ticks()
    if now &- attention.due > stall, attention.due != 0 { noteStall(now &- attention.due) }
    unsafe attention.begin(now, sources)
    var moved = 0
    for _ in 0..<attention.warmLooks() {
      // One that is parked is silent no more.
      if attention.warmCount == 0 { break }
      moved &+= unsafe look(sources, attention.nextWarm())
    }
    if attention.mustAsk() { moved &+= unsafe hearKicks(sources) }
    return moved
  }

  /// Looks at a silent queue, which becomes hot if there is something.
  @inline(never)
  private mutating func look(_ sources: UnsafePointer<Plan.Source>, _ slot: Int) -> Int {
    let taken = unsafe poll(sources, slot)
    if taken > 0, unsafe attention.states[slot] != Attention.State.parked {
      attention.promote(slot)
    }
    return taken
  }

  /// Looks at cold queues that have rung. One in which there is nothing is asked to ring again.
  private mutating func hearKicks(_ sources: UnsafePointer<Plan.Source>) -> Int {
    var moved = 0
    for index in 0..<wait(milliseconds: 0) {
      let slot = Int(truncatingIfNeeded: unsafe rung[index])
      // Why control calls, the turn that began has seen.
      if slot == Worker.wakeSlot { clx_eventfd_drain(wake) }
      guard attention.isCold(slot) else { continue }
      let queue = unsafe sources[slot].queue
      let taken = unsafe look(sources, slot)
      if taken > 0 {
        queue.disarm()
      } else if queue.arm() {
        attention.promote(slot)
      }
      moved &+= taken
    }
    return moved
  }
}
