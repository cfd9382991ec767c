internal import Synchronization

/// The counters of one queue: words of which each has one writer at a time and any number of readers.
///
/// # Theory of operation
///
/// Here lives what happened: for each queue how many frames and bytes, and by name every frame that came in and did not
/// go out (`DropReason`) and every reason for which a queue stopped (`QueueFault`). What came in equals what went out
/// and the drops, for each port and for all; tests hold that equation. Workers count in words that are their own for the
/// moment, without a lock; control reads them at any time (`CounterSample`), and adds up. Counters are part of a port's
/// state: they outlive its queues, and when the port goes they go into a sum, so that no total ever shrinks.
///
/// A writer adds with a plain load and store (one `incq`); a locked instruction would cost twenty times
/// as much. That is right because a transmitq's counters are written only by the worker that polls it, and
/// a receiveq's only by the worker that holds its lock. A TAP's queue is given to by several at once, beside whose system call
/// the locked instructions are nothing.
@safe struct Counters: Copyable {
  /// The words, in the order of their places in memory.
  enum Word: Int {
    case frames
    case bytes
    case bursts
    case notifications
    case replicas
    /// Not a count: the raw value of the ring's `QueueFault`, 0 when there is none.
    case fault
    // `LearningCounts` says what these are.
    case learned
    case moved
    case limited
    case evicted
    case deferred
  }

  static let dropsOffset = 11
  static let wordCount = dropsOffset + DropReason.count
  static let byteCount = wordCount * MemoryLayout<UInt64>.stride

  private let words: UnsafeMutablePointer<Atomic<UInt64>>

  /// - Parameter memory: `byteCount` zeroed bytes on a cache line of their own, which outlive this value.
  @inline(always)
  init(_ memory: UnsafeMutableRawPointer) {
    unsafe words = unsafe memory.assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  @inline(always)
  func add(_ word: Word, _ amount: Int) {
    add(at: word.rawValue, UInt64(truncatingIfNeeded: amount))
  }

  @inline(always)
  func drop(_ reason: DropReason, _ frames: Int = 1) {
    add(at: Counters.dropsOffset &+ Int(reason.rawValue), UInt64(truncatingIfNeeded: frames))
  }

  /// The same where several workers count at the same time.
  func addTogether(_ word: Word, _ amount: Int) {
    addTogether(at: word.rawValue, UInt64(truncatingIfNeeded: amount))
  }

  func dropTogether(_ reason: DropReason, _ frames: Int = 1) {
    addTogether(
      at: Counters.dropsOffset &+ Int(reason.rawValue), UInt64(truncatingIfNeeded: frames))
  }

  private func addTogether(at index: Int, _ amount: UInt64) {
    // SAFETY: as of `add`.
    unsafe words[index].wrappingAdd(amount, ordering: .relaxed)
  }

  @inline(always)
  private func add(at index: Int, _ amount: UInt64) {
    // SAFETY: `index` is a case's place, below `wordCount`.
    let word = unsafe words + index
    unsafe word.pointee.store(
      word.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  func load(_ word: Word) -> UInt64 {
    unsafe words[word.rawValue].load(ordering: .relaxed)
  }

  func load(_ reason: DropReason) -> UInt64 {
    unsafe words[Counters.dropsOffset + Int(reason.rawValue)].load(ordering: .relaxed)
  }

  /// Records why the ring is broken; `nil` clears it. Control's; its word is the last one.
  func setFault(_ fault: QueueFault?) {
    unsafe words[Word.fault.rawValue].store(fault?.rawValue ?? 0, ordering: .relaxed)
  }

  /// Records why the ring is broken, unless that is known. A worker's: in memory that has vanished it finds broken rules
  /// that nobody has broken.
  func breakDown(_ fault: QueueFault) {
    _ = unsafe words[Word.fault.rawValue].compareExchange(
      expected: 0, desired: fault.rawValue, ordering: .relaxed)
  }

  var fault: QueueFault? { QueueFault(rawValue: load(.fault)) }

  @inline(always)
  var isBroken: Bool {
    unsafe words[Word.fault.rawValue].load(ordering: .relaxed) != 0
  }

  /// Of a transmitq.
  var learning: LearningCounts {
    LearningCounts(
      learned: load(.learned), moved: load(.moved), limited: load(.limited),
      evicted: load(.evicted), deferred: load(.deferred))
  }

  var sample: CounterSample {
    var drops: [DropReason: UInt64] = [:]
    for reason in DropReason.allCases {
      let count = load(reason)
      if count > 0 { drops[reason] = count }
    }
    var sample = CounterSample()
    sample.frames = load(.frames)
    sample.bytes = load(.bytes)
    sample.bursts = load(.bursts)
    sample.notifications = load(.notifications)
    sample.replicas = load(.replicas)
    sample.fault = fault
    sample.drops = drops
    return sample
  }
}

/// One reading of a queue's counters.
public struct CounterSample: Sendable, Equatable {
  /// transmitq: frames taken, dropped ones too; receiveq: frames delivered.
  public var frames: UInt64 = 0
  /// Bytes of those frames without the virtio-net header.
  public var bytes: UInt64 = 0
  public var bursts: UInt64 = 0
  /// Interrupts sent to the guest.
  public var notifications: UInt64 = 0
  /// Copies beyond the first that floods from this transmitq made.
  public var replicas: UInt64 = 0
  public var fault: QueueFault?
  public var drops: [DropReason: UInt64] = [:]

  /// Nothing counted.
  public init() {}
}
