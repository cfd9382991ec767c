internal import Linux
internal import Synchronization

/// A port's own memory, which lives as long as the port, whatever plans and queues come and go: a `QueueState` for each
/// of its queues, the table of its flows, the roll of its addresses. Behind its pairs there is one more, of which control uses
/// the transmitq for frames of its own (`Dataplane.announce`).
///
/// What lasts longer than a queue has its place here: what a guest has used up is not given back to it because its
/// front-end stops and starts a ring.
///
/// SAFETY: one block of the arena, of `byteCount` bytes, given back when no worker can know it.
@safe struct PortState {
  let memory: UnsafeMutableRawPointer
  let byteCount: Int
  private let pairs: Int
  /// Where the flows of a port with several pairs are recorded.
  let flows: FlowTable?
  /// The addresses of a port that may have so many and no more.
  let roll: AddressRoll?

  /// - Parameters:
  ///   - pairs: queue pairs.
  ///   - addresses: most of the port; `nil`: as many as there is room for.
  init(_ arena: Arena, pairs: Int, addresses: Int?) throws(SystemError) {
    let flowsOffset = 2 * (pairs + 1) * QueueState.byteCount
    let rollOffset = flowsOffset + (pairs > 1 ? FlowTable.byteCount : 0)
    let bytes = rollOffset + (addresses.map { AddressRoll.byteCount(limit: $0) } ?? 0)
    let memory = unsafe try arena.allocate(bytes: bytes)
    unsafe self.memory = unsafe memory
    byteCount = bytes
    self.pairs = pairs
    flows = pairs > 1 ? unsafe FlowTable(memory + flowsOffset) : nil
    roll = addresses.map { unsafe AddressRoll(memory + rollOffset, limit: $0) }
    for index in 0..<(2 * (pairs + 1)) { queue(index).begin() }
  }

  /// - Parameter index: receiveq n is 2n, transmitq n is 2n + 1.
  func queue(_ index: Int) -> QueueState {
    precondition((0..<(2 * (pairs + 1))).contains(index))
    return unsafe QueueState(memory + index * QueueState.byteCount)
  }
}

/// What outlives a queue: its counters, and everything that changes and concerns it alone. Each line has one writer at a time.
///
/// SAFETY: `byteCount` bytes of a `PortState`; offsets are constants below that.
@safe struct QueueState {
  private static let controlOffset = 64
  private static let creditOffset = 128
  private static let countersOffset = 192
  private static let viewOffset =
    (countersOffset + Counters.byteCount + Arena.line - 1) / Arena.line * Arena.line
  static let byteCount =
    (viewOffset + IOTLBView.byteCount + Arena.line - 1) / Arena.line * Arena.line

  private let base: UnsafeMutableRawPointer

  @inline(always)
  init(_ base: UnsafeMutableRawPointer) { unsafe self.base = unsafe base }

  /// 0: free, 1: a worker is delivering to the queue.
  @inline(always)
  var lock: UnsafeMutablePointer<Atomic<UInt32>> {
    unsafe base.assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  /// Of the worker that polls the queue, or holds its lock.
  @inline(always)
  var counters: Counters { unsafe Counters(base + QueueState.countersOffset) }

  /// Of the worker that polls the queue.
  @inline(always)
  var credit: UnsafeMutablePointer<LearningCredit> {
    unsafe (base + QueueState.creditOffset).assumingMemoryBound(to: LearningCredit.self)
  }

  /// The ring's way to an IOTLB.
  var view: IOTLBView { unsafe IOTLBView(base + QueueState.viewOffset) }

  // ---- The line of control ----

  @inline(always)
  private var callWord: UnsafeMutablePointer<Atomic<Int32>> {
    unsafe (base + QueueState.controlOffset).assumingMemoryBound(to: Atomic<Int32>.self)
  }

  /// The eventfd by which the driver is interrupted, or -1 when it polls.
  @inline(always)
  var call: CInt { unsafe callWord.pointee.load(ordering: .relaxed) }

  /// How the driver is interrupted: words 1 to 4 of the line.
  @inline(always)
  var lane: InterruptLane {
    unsafe InterruptLane(
      (base + (QueueState.controlOffset &+ 4)).assumingMemoryBound(to: Atomic<UInt32>.self))
  }

  @inline(always)
  private var journalWord: UnsafeMutablePointer<Atomic<UInt>> {
    unsafe (base + (QueueState.controlOffset &+ 24)).assumingMemoryBound(to: Atomic<UInt>.self)
  }

  /// Where a packed ring's position is noted, if anywhere.
  @inline(always)
  var journal: RingJournal? {
    unsafe RingJournal(address: journalWord.pointee.load(ordering: .relaxed))
  }

  /// Before the ring that is noted there has a user.
  func setJournal(_ journal: RingJournal?) {
    unsafe journalWord.pointee.store(journal?.address ?? 0, ordering: .relaxed)
  }

  @inline(always)
  private var logWord: UnsafeMutablePointer<Atomic<UInt>> {
    unsafe (base + (QueueState.controlOffset &+ 32)).assumingMemoryBound(to: Atomic<UInt>.self)
  }

  /// How what the queue writes to its guest's memory is marked, if it is.
  @inline(always)
  var log: RingLog? { unsafe RingLog(address: logWord.pointee.load(ordering: .relaxed)) }

  /// Before the ring that is marked so has a user.
  func setLog(_ log: RingLog?) {
    unsafe logWord.pointee.store(log?.address ?? 0, ordering: .relaxed)
  }

  /// Has the driver be interrupted by another eventfd from now on. Workers may signal the old one until each has ended
  /// its turn.
  func setCall(_ descriptor: OwnedFD?) {
    unsafe callWord.pointee.store(descriptor?.raw ?? -1, ordering: .relaxed)
  }

  /// Zeroed memory becomes a queue's.
  func begin() {
    setCall(nil)
    unsafe credit.initialize(to: LearningCredit())
  }
}
