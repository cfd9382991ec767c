internal import Synchronization

/// How many new addresses a source of frames may still enter in the MAC table, or try to: a few at once, and then one a burst.
///
/// An entry costs as much as several frames. This bounds what a guest that invents a source address for every frame
/// costs the worker, and with it the others, to one entry for a whole burst; the frames go their way all the same. A
/// burst's first new address is always learned, and so is every one of a guest that sends a frame now and then.
///
/// It lives as long as the port (`QueueState`): a guest does not get its credit back because a ring is started anew.
struct LearningCredit: BitwiseCopyable {
  private static let most: UInt64 = 64

  private var left = LearningCredit.most
  /// Bursts of the source that were counted when it was last asked.
  private var seen: UInt64 = 0

  /// - Parameter bursts: that have come from the source, this one too.
  mutating func isSpent(bursts: UInt64) -> Bool {
    left = min(LearningCredit.most, left &+ (bursts &- seen))
    seen = bursts
    return left == 0
  }

  mutating func spend() { left &-= 1 }
}

/// SAFETY: the source is the plan's that this turn uses; its credit is this worker's.
extension Worker {
  /// Records that the first of `frames` frames of a burst has come from `key`, if that is not known.
  ///
  /// - Returns: whether the next of them may be looked at too. If not, all of them are counted.
  @inline(always)
  func learn(
    _ key: ForwardingKey, _ destination: Destination, now: UInt64,
    _ source: UnsafePointer<Plan.Source>
  ) -> Bool {
    if table.isCurrent(key, destination, now: now, hints) { return true }
    return unsafe Worker.enter(key, destination, now: now, source, table, hints)
  }

  /// Not a method: the worker itself would be copied for the call.
  @inline(never)
  private static func enter(
    _ key: ForwardingKey, _ destination: Destination, now: UInt64,
    _ source: UnsafePointer<Plan.Source>, _ table: ForwardingTable, _ hints: ForwardingTable.Hints
  ) -> Bool {
    let counters = unsafe source.pointee.counters
    let credit = unsafe source.pointee.state.credit
    if unsafe credit.pointee.isSpent(bursts: counters.load(.bursts)) { return false }
    let learned = unsafe table.enter(key, destination, now: now, hints, source.pointee.roll)
    // What is not learned has been looked for as long, and will be again with the next frame.
    if !learned.has(.learned | .moved | .refused | .crowded) { return true }
    unsafe credit.pointee.spend()
    if learned.has(.learned) { counters.add(.learned, 1) }
    if learned.has(.moved) { counters.add(.moved, 1) }
    if learned.has(.limited) { counters.add(.limited, 1) }
    if learned.has(.evicted | .crowded) { counters.add(.evicted, 1) }
    return true
  }
}
