internal import CLinux
internal import Synchronization

/// What a worker tells drivers, and how it waits for them.
///
/// SAFETY: lists are indexed below their counts, and what they name stays valid until the turn ends.
extension Worker {
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
  mutating func tellDrivers() {
    if unannouncedCount > 0 { announce() }
    if interrupts.count > 0 { interrupts.send() }
  }

  @inline(never)
  private mutating func announce() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    for index in 0..<unannouncedCount {
      let queue = unsafe unannounced[index]
      signalLater(queue, queue.interruptFenced())
    }
    unannouncedCount = 0
  }

  /// Looks at what a driver wants while its queue's lock is held; the signal can wait until nobody waits for that.
  @inline(never)
  mutating func interruptLater(_ queue: Queue) { signalLater(queue, queue.interrupt()) }

  /// Has an eventfd that a ring has named, if it has, be signalled when the turn ends.
  @inline(always)
  private mutating func signalLater(_ queue: Queue, _ call: CInt) {
    if call >= 0 { interrupts.add(call, queue.state) }
  }

  // ---- Going to sleep ----

  /// Asks every queue to ring when there is something. Returns whether there is already.
  mutating func arm() -> Bool {
    guard let plan = unsafe state.plan else { return false }
    if unsafe plan.pointee.version != attention.version { unsafe adopt(plan) }
    return unsafe attention.arm(Plan.sources(plan))
  }

  /// Waits until a queue rings, or control calls; no plan is held meanwhile. Returns how many have rung.
  func wait(milliseconds: Int) -> Int {
    let count = unsafe clx_epoll_ready(
      epoll, rung, CInt(Attention.kicks), CInt(truncatingIfNeeded: milliseconds))
    return max(0, Int(count))
  }

  /// Has the queues that have rung be looked at with the next turn.
  ///
  /// - Parameter count: as `wait` has returned.
  mutating func hear(_ count: Int) {
    attention.readClock()
    for index in 0..<count { attention.hear(Int(truncatingIfNeeded: unsafe rung[index])) }
  }

  /// Has every queue be looked at with the next turn.
  mutating func hearAll() { attention.hearAll() }

  /// The queues need not ring any more.
  mutating func disarm() {
    guard let plan = unsafe state.plan else { return }
    if unsafe plan.pointee.version != attention.version { unsafe adopt(plan) }
    unsafe attention.disarm(Plan.sources(plan))
  }

  // ---- Waiting without having wanted to ----

  /// Microseconds that a tick must be late to be looked into: a turn that is all work takes less.
  static let stallMicroseconds = 5000

  /// A tick was late by so many counts of the time-stamp counter. Something else may have had the CPU, which is no affair
  /// of a guest's. But a worker waits for nothing between two sleeps; if its thread did all the same, it was a guest's
  /// memory that the kernel had to find, or that its front-end was taking away (decision 16).
  @inline(never)
  mutating func noteStall(_ late: UInt64) {
    let before = waits
    noteWaits()
    if waits == before { return }
    state.add(.stalls)
    state.add(.stalled, late / microsecond)
  }

  /// From here on a wait of this thread is none that it wanted.
  mutating func noteWaits() { waits = clx_thread_waits() }
}
