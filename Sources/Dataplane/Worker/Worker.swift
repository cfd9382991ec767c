internal import CLinux
internal import Glibc
internal import Synchronization

/// One worker: everything its thread touches, and one turn of its loop.
///
/// SAFETY: plan and rings stay valid for the turn that loaded them (`Quiescence`); scratch memory is its arena's.
///
/// It lives at one address, is used by one thread, and never allocates, locks a mutex, or waits.
@safe struct Worker: ~Copyable {
  /// Frames of one destination while a burst is being scattered.
  struct List {
    var head: UInt16 = 0
    var tail: UInt16 = 0
    var count: UInt32 = 0
  }

  let state: WorkerState
  let table: MACTable
  let burst: Burst
  let tapBuffer: UnsafeMutableRawPointer
  let vectors: UnsafeMutablePointer<iovec>
  let lists: UnsafeMutablePointer<List>
  let destinations: UnsafeMutablePointer<UInt16>
  /// Whether other workers fill the same receiveqs, so that each must be held for a burst.
  let sharesQueues: Bool
  /// Whether the kernel lacks membarrier(2), so that each turn must fence.
  let fences: Bool

  init(
    state: WorkerState, table: MACTable, arena: Arena, sharesQueues: Bool, fences: Bool
  ) throws {
    let burst = try Burst(arena: arena)
    let tapBuffer = unsafe try arena.allocate(bytes: TapQueue.bufferBytes)
    let vectors = unsafe try arena.allocate(
      bytes: TapQueue.vectorCapacity * MemoryLayout<iovec>.stride)
    let lists = unsafe try arena.allocate(
      bytes: MACTable.maximumPorts * MemoryLayout<List>.stride)
    let destinations = unsafe try arena.allocate(bytes: Burst.size * 2)
    self.state = state
    self.table = table
    self.sharesQueues = sharesQueues
    self.fences = fences
    self.burst = burst
    unsafe self.tapBuffer = unsafe tapBuffer
    unsafe self.vectors = unsafe vectors.bindMemory(
      to: iovec.self, capacity: TapQueue.vectorCapacity)
    unsafe self.lists = unsafe lists.initializeMemory(
      as: List.self, repeating: List(), count: MACTable.maximumPorts)
    unsafe self.destinations = unsafe destinations.bindMemory(
      to: UInt16.self, capacity: Burst.size)
  }

  /// Polls each queue of the plan once. Returns the frames taken.
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
    if moved > 0 { state.add(.busyTurns) }
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
    let (frames, bytes) = unsafe ring.pointee.gather(burst)
    if frames == 0 { return 0 }
    unsafe switchBurst(plan, source, frames, bytes)
    unsafe ring.pointee.publish()
    unsafe ring.pointee.notify()
    return frames
  }

  private mutating func pollTap(_ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>) -> Int {
    if unsafe source.pointee.pause > 0 {
      unsafe source.pointee.pause &-= 1
      return 0
    }
    if unsafe source.pointee.counters.isBroken { return 0 }
    let (frames, bytes) = unsafe source.pointee.tap.gather(
      burst, tapBuffer, source.pointee.counters)
    if frames == 0 {
      // 1, 2, 4 … 64 turns: a few microseconds at the most.
      let backoff = unsafe min(64, max(1, source.pointee.backoff &* 2))
      unsafe source.pointee.backoff = backoff
      unsafe source.pointee.pause = backoff
      return 0
    }
    unsafe source.pointee.backoff = 0
    unsafe switchBurst(plan, source, frames, bytes)
    return frames
  }

  @inline(always)
  private mutating func switchBurst(
    _ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>, _ frames: Int, _ bytes: Int
  ) {
    let counters = unsafe source.pointee.counters
    counters.add(.frames, frames)
    counters.add(.bytes, bytes)
    counters.add(.bursts, 1)
    if unsafe source.pointee.discards {
      discard(frames, counters)
    } else {
      unsafe bridge(plan, source, frames)
    }
  }

  @inline(never)
  private func discard(_ count: Int, _ counters: Counters) {
    for index in 0..<count where unsafe burst.frames[index].destination != Frame.dropped {
      counters.drop(.queueDisabled)
    }
  }

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
      if let ring = unsafe plan.sources[index].ring, unsafe !ring.pointee.counters.isBroken,
        unsafe ring.pointee.requestKicks()
      {
        busy = true
      }
    }
    return busy
  }

  func suppressNotifications() {
    guard let plan = unsafe state.plan?.pointee else { return }
    for index in 0..<plan.sourceCount {
      if let ring = unsafe plan.sources[index].ring { unsafe ring.pointee.suppressKicks() }
      unsafe plan.sources[index].pause = 0
    }
  }
}
