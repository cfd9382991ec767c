internal import Synchronization

/// The words that a worker and control share, each on a cache line of its own.
///
/// SAFETY: `memory` has `byteCount` bytes, and lines and indices are constants below it.
///
/// The epoch is even while the worker is awake and grows by two a turn; it is odd while the worker sleeps.
@safe struct WorkerState {
  static let byteCount = 4 * Arena.line

  private let memory: UnsafeMutableRawPointer

  /// - Parameter memory: `byteCount` zeroed bytes which outlive every copy of this.
  init(_ memory: UnsafeMutableRawPointer) {
    unsafe self.memory = unsafe memory
  }

  @inline(always)
  private func word(_ line: Int, _ index: Int = 0) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe (memory + (line &* Arena.line &+ index &* 8)).assumingMemoryBound(
      to: Atomic<UInt64>.self)
  }

  // ---- Line 0: written by control ----

  /// The mailbox: one place for the newest plan. The worker looks at it once a turn.
  @inline(always)
  var plan: UnsafeMutablePointer<Plan>? {
    unsafe UnsafeMutablePointer<Plan>(
      bitPattern: UInt(word(0).pointee.load(ordering: .acquiring)))
  }

  /// - Parameter plan: made by `Plan.make`; `nil`: nothing is polled any more.
  func post(_ plan: Block?) {
    unsafe word(0).pointee.store(UInt64(UInt(bitPattern: plan?.base)), ordering: .releasing)
  }

  @inline(always)
  var isStopping: Bool { unsafe word(0, 1).pointee.load(ordering: .relaxed) != 0 }

  func stop() { unsafe word(0, 1).pointee.store(1, ordering: .releasing) }

  /// Microseconds that signalling an eventfd may take on this machine (`SlowInterrupts.measure`); 0: nobody has measured.
  var dear: UInt64 {
    get { unsafe word(0, 2).pointee.load(ordering: .relaxed) }
    nonmutating set { unsafe word(0, 2).pointee.store(newValue, ordering: .relaxed) }
  }

  // ---- Line 1: written by the worker ----

  /// Releases everything this turn did; control acquires it.
  @inline(always)
  var epoch: UInt64 {
    get { unsafe word(1).pointee.load(ordering: .acquiring) }
    nonmutating set { unsafe word(1).pointee.store(newValue, ordering: .releasing) }
  }

  /// Whether it has left frames waiting for translations, and is to be woken when some come.
  var waits: Bool {
    get { unsafe word(1, 1).pointee.load(ordering: .relaxed) != 0 }
    nonmutating set { unsafe word(1, 1).pointee.store(newValue ? 1 : 0, ordering: .relaxed) }
  }

  // ---- Line 2: the worker's own counts ----

  enum Count: Int {
    case busyTurns, sleeps
    /// Queues whose drivers it has stopped interrupting itself.
    case convictions
    /// Times it had to wait within a turn, and the microseconds (`Worker.noteStall`).
    case stalls, stalled
  }

  @inline(always)
  func add(_ count: Count, _ amount: UInt64 = 1) {
    let place = unsafe word(2, count.rawValue)
    unsafe place.pointee.store(
      place.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  func load(_ count: Count) -> UInt64 {
    unsafe word(2, count.rawValue).pointee.load(ordering: .relaxed)
  }
}
