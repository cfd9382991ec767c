internal import CLinux
internal import Linux
internal import Synchronization

/// One packed virtqueue (virtio v1.4, 2.8), seen from the device.
///
/// Theory of operation. Driver and device own the one ring of descriptors by turns, as AVAIL and USED of each
/// say; only the next descriptor is ever waited for. Chains are used in the order in which they were made
/// available, so a chain's used element goes where the chain began, and one position serves for both. Elements are
/// written as the burst goes, but for the first: until `publish` stores that one with release ordering, the driver
/// sees none. With VIRTIO_F_IN_ORDER a transmitq writes the first only, with the id of the last (2.8.8).
///
/// A buffer id is the driver's to choose; it is handed back and never used to find anything here.
///
/// SAFETY: the ring and both event suppression areas were proved to lie inside mapped guest memory (`RingSetup`), and positions
/// stay below the ring's size. Their words are only ever accessed as atomics.
///
/// The value lives at one address for as long as a worker may know it. At any moment it has one user: a
/// transmitq the worker that polls it, a receiveq the worker that holds its lock.
@safe struct PackedQueue: Virtqueue {
  // Set at the start, read by the worker.
  let ring: PackedRing
  let memory: MemoryView
  let state: QueueState
  let headerSize: UInt32
  let eventIndex: Bool
  let indirect: Bool
  let mergeable: Bool
  let offloads: Offloads
  /// One used element stands for all of a burst.
  let batches: Bool
  /// Where the ring began.
  let start: UInt16

  // The worker's.
  /// A buffer has been available (`isUnfilled`). Here, where there is room: what has more than 128 bytes is copied by a call.
  var wasFilled = false
  /// The next descriptor to take.
  var next: PackedPosition
  /// The descriptor that `publish` marks as used, and its second word; -1: there is none.
  var heldIndex = -1
  var held: UInt64 = 0
  /// Descriptors taken since `publish`: no more than the ring has, whatever a driver makes available meanwhile.
  var unpublished = 0
  /// Descriptors published since the driver was last considered for an interrupt.
  var unsignalled = 0
  /// Index of the memory region hit last.
  var region = 0
  // A packed ring is stood for by an empty split one.
  @inline(always)
  var isSuspended: Bool { false }

  // ---- Burst limits ----

  /// `limit` when a chain may be taken now, else 0. How many there are is seen only one after another.
  @inline(always)
  func available(_ limit: Int) -> Int {
    if ring.rest(next.index) & PackedRing.availMask != next.availBits { return 0 }
    return unpublished == ring.size || counters.isBroken ? 0 : limit
  }

  @inline(never)
  func breakDown(_ fault: QueueFault) {
    counters.breakDown(fault)
  }

  // ---- Used ----

  /// Takes a chain of `span` descriptors, which begins at the next, and gives it back.
  @inline(always)
  mutating func use(_ id: UInt16, span: UInt16, written: UInt32) {
    let bits = UInt64(id) &<< 32 | next.usedBits
    if heldIndex < 0 {
      heldIndex = next.index
      held = bits | UInt64(written) | (written > 0 ? PackedRing.write : 0)
    } else if batches {
      held = held & ~PackedRing.idMask | UInt64(id) &<< 32
    } else {
      ring.setUsed(next.index, bits | UInt64(written) | (written > 0 ? PackedRing.write : 0))
    }
    if _slowPath(span > 1), !batches { markOthers(span) }
    unpublished &+= Int(span)
    next.advance(by: Int(span), size: ring.size)
  }

  /// Marks the descriptors of a chain behind its first, which no driver looks at again: so whoever finds the ring when this
  /// process has died sees how far a burst goes of which the driver has not been shown the first (`RingJournal`).
  @inline(never)
  private func markOthers(_ span: UInt16) {
    if state.journal == nil { return }
    var place = next
    for _ in 1..<min(Int(span), ring.size) {
      place.advance(by: 1, size: ring.size)
      ring.setUsed(place.index, ring.rest(place.index) & ~PackedRing.availMask | place.usedBits)
    }
  }

  /// Shows the driver every element written so far.
  @inline(always)
  mutating func publish() {
    if heldIndex < 0 { return }
    if let journal = state.journal {
      journal.intend(next.word)
      ring.publishUsed(heldIndex, held)
      journal.settle(next.word)
    } else {
      ring.publishUsed(heldIndex, held)
    }
    if let log = state.log { markShown(log) }
    heldIndex = -1
    unsignalled &+= unpublished
    unpublished = 0
  }

  /// Marks the descriptors that `publish` has shown as used.
  @inline(never)
  private func markShown(_ log: RingLog) {
    let count = min(unpublished, ring.size)
    let straight = min(count, ring.size &- heldIndex)
    let base = unsafe UInt(bitPattern: ring.descriptors)
    log.mark(host: base &+ UInt(16 &* heldIndex), 16 &* straight)
    if straight < count { log.mark(host: base, 16 &* (count &- straight)) }
  }

  // ---- Steering ----

  @inline(always)
  var mark: UInt16 { next.word }

  /// The descriptor before the mark is available again only when the driver has taken what came in it.
  ///
  /// What the driver's event suppression structure names tells nothing here: Linux leaves it as it was while it polls, and
  /// in a packed ring a place has the same number again after two laps.
  func hasSeen(_ mark: UInt16) -> Bool {
    let position = PackedPosition(word: mark)
    // A mark that was made in another ring may lie beyond this one's end.
    if position.index >= ring.size { return false }
    let last = PackedPosition(
      index: (position.index == 0 ? ring.size : position.index) &- 1,
      wrap: position.index == 0 ? !position.wrap : position.wrap)
    return (ring.rest(last.index) & PackedRing.avail != 0) != last.wrap
  }

  var isUnfilled: Bool {
    mutating get {
      if wasFilled || counters.isBroken { return false }
      // A place comes again after two laps, so it is looked at only before the first buffer.
      wasFilled = next.word != start || available(1) > 0
      return !wasFilled
    }
  }

  // ---- Notifications ----

  @inline(always)
  var hasNews: Bool { unsignalled > 0 }

  /// Whether the driver wants to hear of what was published since the last time (2.8.10). A full fence has come
  /// after `publish`.
  @inline(always)
  mutating func wantsInterrupt() -> Bool {
    if unsignalled == 0 { return false }
    let count = min(unsignalled, ring.size)
    unsignalled = 0
    return isWanted(ring.driverEvent, count)
  }

  /// Whether the last `count` descriptors passed are worth an interrupt. The reserved value of the flags, and one
  /// that was not negotiated, ask for every one.
  @inline(always)
  private func isWanted(_ event: UInt32, _ count: Int) -> Bool {
    let flags = event &>> 16 & 3
    if flags == PackedRing.Event.disable { return false }
    if flags != PackedRing.Event.descriptor || !eventIndex { return true }
    // In 16-bit numbers that begin with this lap: what lies in the one before is negative.
    let position = PackedPosition(word: UInt16(truncatingIfNeeded: event))
    let place = position.wrap == next.wrap ? position.index : position.index &- ring.size
    let new = UInt16(truncatingIfNeeded: next.index)
    return clx_need_event(
      UInt16(truncatingIfNeeded: place), new, new &- UInt16(truncatingIfNeeded: count)) != 0
  }

  /// Asks the driver not to kick.
  func suppressKicks() {
    ring.setDeviceEvent(PackedRing.Event.disable &<< 16)
    if let log = state.log { log.mark(deviceArea: 0, 4) }
  }

  /// Asks the driver to kick at the next buffer. Returns whether there is one already; then no kick need
  /// come, and the caller must look.
  func requestKicks() -> Bool {
    ring.setDeviceEvent(
      eventIndex
        ? PackedRing.Event.descriptor &<< 16 | UInt32(next.word) : PackedRing.Event.enable)
    if let log = state.log { log.mark(deviceArea: 0, 4) }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return ring.rest(next.index) & PackedRing.availMask == next.availBits
  }
}
