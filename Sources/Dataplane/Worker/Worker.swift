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
  /// Its number, and how many there are.
  let index: Int
  let workers: Int
  let ports: Ports
  let table: ForwardingTable
  let hints: ForwardingTable.Hints
  let burst: Burst
  let lists: UnsafeMutablePointer<List>
  /// The destinations of a burst.
  let receivers: UnsafeMutablePointer<UInt16>
  let steering: Steering
  /// Bytes that the floods of the present burst may still copy.
  var floodBytesLeft = 0
  /// A burst of ordinary frames reaches 170 ports. Without a limit one of 64 KiB frames would keep the worker for
  /// milliseconds with a few dozen.
  static let floodBytes = 16 << 20
  /// Queues whose other sides may have to be told of what this turn has published.
  let unannounced: UnsafeMutablePointer<Queue>
  var unannouncedCount = 0
  static let unannouncedCapacity = 16
  /// Call eventfds that are to be signalled before the turn ends, while their rings can't be stopped.
  let calls: UnsafeMutablePointer<CInt>
  var callCount = 0
  static let callCapacity = 64
  /// The `WorkerThread`'s.
  let notifier: OpaquePointer
  /// Whether other workers fill the same receiveqs, so that each must be held for a burst.
  let sharesQueues: Bool
  /// Whether the kernel lacks membarrier(2), so that each turn must fence.
  let fences: Bool

  init(
    state: WorkerState, index: Int, of workers: Int, ports: Ports, table: ForwardingTable,
    arena: Arena, notifier: Notifier, fences: Bool
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
    let calls = unsafe try arena.allocate(bytes: Worker.callCapacity * MemoryLayout<CInt>.stride)
    self.state = state
    self.index = index
    self.workers = workers
    self.ports = ports
    self.table = table
    self.hints = hints
    sharesQueues = workers > 1
    self.fences = fences
    self.burst = burst
    self.steering = steering
    unsafe self.lists = unsafe lists.initializeMemory(
      as: List.self, repeating: List(), count: ForwardingTable.maximumPorts)
    unsafe self.receivers = unsafe receivers.bindMemory(
      to: UInt16.self, capacity: Burst.size)
    unsafe self.unannounced = unsafe unannounced.bindMemory(
      to: Queue.self, capacity: Worker.unannouncedCapacity)
    unsafe self.calls = unsafe calls.bindMemory(to: CInt.self, capacity: Worker.callCapacity)
    unsafe self.notifier = unsafe notifier.raw
  }

  /// Polls each queue of the plan once. Returns the frames taken. A function of its own wherever it is called, as
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
    var moved = 0
    let sources = unsafe Plan.sources(plan)
    let count = unsafe plan.pointee.count
    var index = 0
    while index < count {
      moved &+= unsafe poll(sources + index)
      index &+= 1
    }
    if moved > 0 {
      state.add(.busyTurns)
      tellDrivers()
    }
    finishTurn()
    return moved
  }

  /// A quiescent state: from here on this worker holds nothing of the plan it used.
  @inline(always)
  private func finishTurn() {
    state.epoch = state.epoch &+ 2
    if fences { atomicMemoryFence(ordering: .sequentiallyConsistent) }
  }

  @inline(always)
  private mutating func poll(_ source: UnsafePointer<Plan.Source>) -> Int {
    let queue = unsafe source.pointee.queue
    let gathered = queue.take(burst)
    if gathered.frames == 0 { return 0 }
    burst.prefetch(gathered)
    unsafe switchBurst(source, gathered)
    queue.publish()
    notifyLater(queue)
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
    floodBytesLeft = Worker.floodBytes
    if unsafe source.pointee.discards {
      counters.drop(.queueDisabled, gathered.frames &- gathered.dropped.nonzeroBitCount)
    } else {
      unsafe bridge(source, gathered, judged)
    }
  }

  // ---- Notifications ----

  /// Puts a queue among those whose other sides are notified when the turn ends: whether a driver wants that can only
  /// be known behind a full fence, which waits for every store before it. One is enough for all queues.
  @inline(always)
  mutating func notifyLater(_ queue: Queue) {
    if unannouncedCount == Worker.unannouncedCapacity { announce() }
    unsafe unannounced[unannouncedCount] = queue
    unannouncedCount &+= 1
  }

  /// Once a busy turn, and out of its way: the loops above want every register.
  @inline(never)
  private mutating func tellDrivers() {
    if unannouncedCount > 0 { announce() }
    if callCount > 0 { interruptDrivers() }
  }

  @inline(never)
  private mutating func announce() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    for index in 0..<unannouncedCount { signalLater(unsafe unannounced[index].interruptFenced()) }
    unannouncedCount = 0
  }

  /// Looks at what a driver wants while its queue's lock is held; the signal can wait until nobody waits for that.
  @inline(never)
  mutating func interruptLater(_ queue: Queue) { signalLater(queue.interrupt()) }

  /// Has an eventfd that a ring has named, if it has, be signalled when the turn ends.
  @inline(always)
  private mutating func signalLater(_ call: CInt) {
    if call < 0 { return }
    if callCount == Worker.callCapacity { interruptDrivers() }
    unsafe calls[callCount] = call
    callCount &+= 1
  }

  /// Interrupts drivers. Their front-ends hold these eventfds too, and may have filled them and made them block:
  /// a write(2) would wait for them.
  @inline(never)
  private mutating func interruptDrivers() {
    unsafe clx_notify(notifier, calls, CInt(truncatingIfNeeded: callCount))
    callCount = 0
  }

  // ---- Sharing receiveqs ----

  /// Takes a receiveq's lock. It is held for one burst, so a short wait almost always does; a holder that
  /// has lost its CPU costs this burst, not this worker.
  @inline(always)
  static func take(_ lock: UnsafeMutablePointer<Atomic<UInt32>>) -> Bool {
    if unsafe lock.pointee.exchange(1, ordering: .acquiring) == 0 { return true }
    return unsafe wait(for: lock)
  }

  @inline(never)
  private static func wait(for lock: UnsafeMutablePointer<Atomic<UInt32>>) -> Bool {
    for _ in 0..<20_000 {
      clx_pause()
      if unsafe lock.pointee.load(ordering: .relaxed) == 0,
        unsafe lock.pointee.exchange(1, ordering: .acquiring) == 0
      {
        return true
      }
    }
    return false
  }

  // ---- Going to sleep ----

  /// Asks every queue to ring when there is something. Returns whether there is already.
  func arm() -> Bool {
    guard let plan = unsafe state.plan else { return false }
    let sources = unsafe Plan.sources(plan)
    var busy = false
    for index in 0..<(unsafe plan.pointee.count) {
      if unsafe sources[index].queue.arm() { busy = true }
    }
    return busy
  }

  /// The queues need not ring any more.
  func disarm() {
    guard let plan = unsafe state.plan else { return }
    let sources = unsafe Plan.sources(plan)
    for index in 0..<(unsafe plan.pointee.count) { unsafe sources[index].queue.disarm() }
  }
}
