internal import CLinux
internal import Glibc
internal import Linux
internal import Synchronization

/// One worker: everything its thread touches, and one turn of its loop.
///
/// SAFETY: plan and rings stay valid for the turn that loaded them (`Quiescence`); scratch memory is its arena's.
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
  let table: ForwardingTable
  let hints: ForwardingTable.Hints
  let burst: Burst
  let tapBuffer: UnsafeMutableRawPointer
  let vectors: UnsafeMutablePointer<iovec>
  let lists: UnsafeMutablePointer<List>
  /// The destinations of a burst.
  let receivers: UnsafeMutablePointer<UInt16>
  let steering: Steering
  /// Bytes that the floods of the present burst may still copy.
  var floodBytesLeft = 0
  /// A burst of ordinary frames reaches 170 ports. Without a limit one of 64 KiB frames would keep the worker for
  /// milliseconds with a few dozen.
  static let floodBytes = 16 << 20
  /// Rings whose drivers may have to be told of what this turn has published.
  let unannounced: UnsafeMutablePointer<VirtqueuePointer>
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
    state: WorkerState, table: ForwardingTable, arena: Arena, notifier: Notifier,
    sharesQueues: Bool,
    fences: Bool
  ) throws {
    let burst = try Burst(arena: arena)
    let hints = unsafe ForwardingTable.Hints(
      try arena.allocate(bytes: ForwardingTable.Hints.byteCount))
    let tapBuffer = unsafe try arena.allocate(bytes: TapQueue.bufferBytes)
    let vectors = unsafe try arena.allocate(
      bytes: TapQueue.vectorCapacity * MemoryLayout<iovec>.stride)
    let lists = unsafe try arena.allocate(
      bytes: ForwardingTable.maximumPorts * MemoryLayout<List>.stride)
    let receivers = unsafe try arena.allocate(bytes: Burst.size * 2)
    let steering = try Steering(arena: arena, key: table.secret)
    let unannounced = unsafe try arena.allocate(
      bytes: Worker.unannouncedCapacity * MemoryLayout<VirtqueuePointer>.stride)
    let calls = unsafe try arena.allocate(bytes: Worker.callCapacity * MemoryLayout<CInt>.stride)
    self.state = state
    self.table = table
    self.hints = hints
    self.sharesQueues = sharesQueues
    self.fences = fences
    self.burst = burst
    self.steering = steering
    unsafe self.tapBuffer = unsafe tapBuffer
    unsafe self.vectors = unsafe vectors.bindMemory(
      to: iovec.self, capacity: TapQueue.vectorCapacity)
    unsafe self.lists = unsafe lists.initializeMemory(
      as: List.self, repeating: List(), count: ForwardingTable.maximumPorts)
    unsafe self.receivers = unsafe receivers.bindMemory(
      to: UInt16.self, capacity: Burst.size)
    unsafe self.unannounced = unsafe unannounced.bindMemory(
      to: VirtqueuePointer.self, capacity: Worker.unannouncedCapacity)
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
    guard let plan = unsafe state.plan?.pointee else {
      finishTurn()
      return 0
    }
    var moved = 0
    var index = 0
    while index < plan.sourceCount {
      let source = unsafe plan.sources + index
      moved &+= unsafe source.pointee.ring == nil ? pollTap(plan, source) : pollRing(plan, source)
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
  private mutating func pollRing(_ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>) -> Int {
    guard let ring = unsafe source.pointee.ring else { return 0 }
    let gathered = ring.gather(burst)
    if gathered.frames == 0 { return 0 }
    burst.prefetch(gathered)
    unsafe switchBurst(plan, source, gathered, headerSize: ring.headerSize)
    ring.publish()
    notifyLater(ring)
    return gathered.frames
  }

  private mutating func pollTap(_ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>) -> Int {
    if unsafe source.pointee.pause > 0 {
      unsafe source.pointee.pause &-= 1
      return 0
    }
    if unsafe source.pointee.counters.isBroken { return 0 }
    let gathered = unsafe source.pointee.tap.gather(burst, tapBuffer, source.pointee.counters)
    if gathered.frames == 0 {
      // 1, 2, 4 … 64 turns: a few microseconds at the most.
      let backoff = unsafe min(64, max(1, source.pointee.backoff &* 2))
      unsafe source.pointee.backoff = backoff
      unsafe source.pointee.pause = backoff
      return 0
    }
    unsafe source.pointee.backoff = 0
    unsafe switchBurst(
      plan, source, gathered, headerSize: UInt32(source.pointee.tap.headerSize))
    return gathered.frames
  }

  @inline(always)
  private mutating func switchBurst(
    _ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>, _ taken: Gathered,
    headerSize: UInt32
  ) {
    let counters = unsafe source.pointee.counters
    var gathered = taken
    let judged = unsafe burst.judge(
      &gathered, headerSize: headerSize, allowed: source.pointee.offloads, counters)
    counters.add(.frames, gathered.frames)
    counters.add(.bytes, judged.bytes)
    counters.add(.bursts, 1)
    floodBytesLeft = Worker.floodBytes
    if unsafe source.pointee.discards {
      counters.drop(.queueDisabled, gathered.frames &- gathered.dropped.nonzeroBitCount)
    } else {
      unsafe bridge(plan, source, gathered, judged)
    }
  }

  // ---- Notifications ----

  /// Puts a ring among those whose drivers are notified when the turn ends: whether a driver wants that can only
  /// be known behind a full fence, which waits for every store before it. One is enough for all rings.
  @inline(always)
  mutating func notifyLater(_ ring: VirtqueuePointer) {
    if unannouncedCount == Worker.unannouncedCapacity { announce() }
    unsafe unannounced[unannouncedCount] = ring
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

  /// Looks at what a driver wants while its ring's lock is held; the signal can wait until nobody waits for that.
  @inline(never)
  mutating func interruptLater(_ ring: VirtqueuePointer) { signalLater(ring.interrupt()) }

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

  /// Asks every ring for a kick. Returns whether there is work already.
  func armNotifications() -> Bool {
    guard let plan = unsafe state.plan?.pointee else { return false }
    var busy = false
    for index in 0..<plan.sourceCount {
      if let ring = unsafe plan.sources[index].ring, ring.requestKicks() { busy = true }
    }
    return busy
  }

  func suppressNotifications() {
    guard let plan = unsafe state.plan?.pointee else { return }
    for index in 0..<plan.sourceCount {
      if let ring = unsafe plan.sources[index].ring { ring.suppressKicks() }
      unsafe plan.sources[index].pause = 0
    }
  }
}
