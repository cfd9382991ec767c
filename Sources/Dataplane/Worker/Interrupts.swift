internal import CLinux
internal import Linux
internal import Synchronization

/// Interrupting drivers: the eventfds that a worker is to signal before its turn ends, and what signalling them costs.
///
/// A front-end holds these eventfds too. It may have filled them and made them block, which is why they are signalled by a
/// call that never waits (decision 12). And it may have them watched by as many as it likes: the kernel goes over all of them within
/// that call, which then takes milliseconds (decision 18). So a worker measures what its calls cost. If one was dear, each
/// eventfd that was in it is signalled alone for a while, which shows whose it was. One that is dear by itself is given to a thread that is
/// no worker (`SlowInterrupts`): its guest hears of its frames a little later, and nobody waits.
///
/// SAFETY: lists have `capacity` places. What they name stays valid until the turn ends: rings can't be stopped before.
@safe struct Interrupts {
  private static let capacity = 64
  /// Counts of the time-stamp counter that an eventfd may cost with others, on average, and alone: an ordinary one costs half a
  /// microsecond, one whose reader has to be woken on another processor three. A virtual machine leaves its processor to do that, which
  /// takes longer: there it is what was measured (`SlowInterrupts.measure`).
  static let dearMicroseconds = 16

  /// Eventfds that are to be signalled before the turn ends.
  private let calls: UnsafeMutablePointer<CInt>
  private let queues: UnsafeMutablePointer<QueueState>
  private(set) var count = 0
  /// The `WorkerThread`'s.
  private let notifier: OpaquePointer
  private let state: WorkerState
  /// By which `SlowInterrupts` is called.
  private let slow: CInt
  private let dear = TickClock.counts(microseconds: dearMicroseconds)

  init(arena: Arena, notifier: Notifier, state: WorkerState, slow: EventFD) throws {
    let calls = unsafe try arena.allocate(
      bytes: Interrupts.capacity * MemoryLayout<CInt>.stride)
    let queues = unsafe try arena.allocate(
      bytes: Interrupts.capacity * MemoryLayout<QueueState>.stride)
    unsafe self.calls = unsafe calls.bindMemory(to: CInt.self, capacity: Interrupts.capacity)
    unsafe self.queues = unsafe queues.bindMemory(
      to: QueueState.self, capacity: Interrupts.capacity)
    unsafe self.notifier = unsafe notifier.raw
    self.state = state
    self.slow = slow.descriptor.raw
  }

  @inline(always)
  mutating func add(_ call: CInt, _ queue: QueueState) {
    if count == Interrupts.capacity { send() }
    unsafe calls[count] = call
    unsafe queues[count] = queue
    count &+= 1
  }

  /// Signals them.
  @inline(never)
  mutating func send() {
    var first = 0
    while first < count {
      var end = first
      while end < count, end &- first < Int(CLX_NOTIFIER_BATCH), unsafe queues[end].lane.isFast {
        end &+= 1
      }
      if end > first {
        sendTogether(first, end)
      } else {
        end &+= 1
        let queue = unsafe queues[first]
        if queue.lane.isSlow {
          if queue.lane.ask() { clx_eventfd_signal(slow) }
        } else {
          sendAlone(first, queue.lane)
        }
      }
      first = end
    }
    count = 0
  }

  private func sendTogether(_ first: Int, _ end: Int) {
    let start = clx_ticks()
    unsafe clx_notify(notifier, calls + first, CInt(truncatingIfNeeded: end &- first))
    let cost = clx_ticks() &- start
    if cost < dear &* UInt64(end &- first) { return }
    let limit = dear &* UInt64(dearHere) / UInt64(Interrupts.dearMicroseconds)
    if cost < limit &* UInt64(end &- first) { return }
    for place in first..<end { unsafe queues[place].lane.suspect() }
  }

  /// Microseconds that an eventfd may cost here.
  private var dearHere: Int {
    max(Interrupts.dearMicroseconds, Int(truncatingIfNeeded: state.dear))
  }

  /// Signals an eventfd by itself, and judges it by the time this thread has run meanwhile: others may have had its CPU.
  private func sendAlone(_ place: Int, _ lane: InterruptLane) {
    let before = clx_thread_time()
    unsafe clx_notify(notifier, calls + place, 1)
    let cost = Int(clx_thread_time() &- before)
    let isConvicted = lane.judge(nanoseconds: cost, dear: 1000 &* dearHere)
    if isConvicted { state.add(.convictions) }
  }
}

/// How a queue's driver is interrupted: beside others, alone and measured, or by a thread that is no worker.
///
/// Workers that fill the same receiveq share these words. They are hints but for `asked`; a lost count does no harm.
///
/// SAFETY: four words of a `QueueState`.
@safe struct InterruptLane {
  private let words: UnsafeMutablePointer<Atomic<UInt32>>
  private static let slow: UInt32 = .max
  /// Signals by which a suspect is judged.
  private static let trial: UInt32 = 8
  /// Cheap signals in a row after which a convict is tried again: the first time, and at the most.
  private static let firstTerm: UInt32 = 64
  private static let longestTerm: UInt32 = 1 << 20

  @inline(always)
  init(_ words: UnsafeMutablePointer<Atomic<UInt32>>) { unsafe self.words = unsafe words }

  /// 0: beside others; else signals to go before the verdict, or `slow`.
  @inline(always)
  private var state: UInt32 {
    get { unsafe words[0].load(ordering: .relaxed) }
    nonmutating set { unsafe words[0].store(newValue, ordering: .relaxed) }
  }

  /// Nanoseconds of the signals of the trial.
  private var spent: UInt32 {
    get { unsafe words[1].load(ordering: .relaxed) }
    nonmutating set { unsafe words[1].store(newValue, ordering: .relaxed) }
  }

  /// Cheap signals in a row after which the next convict is let go: doubles every time.
  private var term: UInt32 {
    get { unsafe words[3].load(ordering: .relaxed) }
    nonmutating set { unsafe words[3].store(newValue, ordering: .relaxed) }
  }

  @inline(always)
  var isFast: Bool { state == 0 }
  @inline(always)
  var isSlow: Bool { state == InterruptLane.slow }

  /// A call with this eventfd and others was dear.
  func suspect() {
    if state != 0 { return }
    spent = 0
    state = InterruptLane.trial
  }

  /// A suspect was signalled alone. Returns whether it is convicted by that: as soon as its signals took what those of a whole trial
  /// may take. None counts for more than half of that. So who is monstrous twice is convicted at once, and nobody
  /// for one signal that was long, which happens to each thread of a virtual machine that has lost its CPU to another.
  func judge(nanoseconds cost: Int, dear: Int) -> Bool {
    let left = state
    if left == 0 || left == InterruptLane.slow { return false }
    let limit = dear &* Int(InterruptLane.trial)
    let sum = Int(spent) &+ min(cost, limit / 2)
    spent = UInt32(truncatingIfNeeded: sum)
    if sum >= limit {
      spent = 0
      term = min(
        InterruptLane.longestTerm, max(InterruptLane.firstTerm / 2, term) &* 2)
      state = InterruptLane.slow
      return true
    }
    state = left &- 1
    return false
  }

  // ---- Of a convict ----

  /// Has the thread signal the eventfd. Returns whether it has to be told.
  func ask() -> Bool { unsafe words[2].exchange(1, ordering: .releasing) == 0 }

  /// Whether it was asked to since the last time.
  func takeAsked() -> Bool { unsafe words[2].exchange(0, ordering: .acquiring) != 0 }

  /// The thread has signalled a convict's eventfd. Returns whether it is one no longer.
  func serve(wasCheap: Bool) -> Bool {
    spent = wasCheap ? spent &+ 1 : 0
    if spent < term { return false }
    spent = 0
    state = 0
    return true
  }
}
