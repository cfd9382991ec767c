internal import CLinux
internal import CVector
internal import Linux
internal import Synchronization

/// One split virtqueue (virtio v1.4, 2.7), seen from the device.
///
/// Theory of operation. A ring is validated, aligned and translated once, when the front-end starts it;
/// from then on its three parts are plain addresses. Every word the driver can write is loaded once into a
/// local, judged, and only then used. `avail.idx` is loaded once a burst with acquire ordering; used entries
/// are written as the burst goes and become visible together by one release store of `used.idx`; the
/// driver's wish for an interrupt is looked at after one full fence.
///
/// SAFETY: the three parts were proved to lie inside mapped guest memory for `size` entries (`RingSetup`), and
/// every offset into them is masked to `size` or a constant of the layout. Their words are only ever
/// accessed as atomics; the used entries, which only the device writes, are plain.
///
/// The value lives at one address for as long as a worker may know it. At any moment it has one user: a
/// transmitq the worker that polls it, a receiveq the worker that holds its lock.
@safe struct SplitQueue: Virtqueue {
  // Set at the start, read by the worker.
  let ring: SplitRing
  let memory: MemoryView
  let state: QueueState
  /// Bytes of the virtio-net header: 12, or 10 for a legacy driver without mergeable buffers (5.1.9).
  let headerSize: UInt32
  let eventIndex: Bool
  let indirect: Bool
  let mergeable: Bool
  let offloads: Offloads

  // The worker's.
  /// The next entry of the avail ring to take.
  var nextAvail: UInt16
  /// `avail.idx` as last loaded.
  var seenAvail: UInt16
  /// `used.idx` as the driver will see it after the next `publish`.
  var nextUsed: UInt16
  /// `used.idx` when the driver was last considered for an interrupt.
  var signalledUsed: UInt16
  /// `used.idx` as the driver sees it. Behind `nextUsed` while a burst is under way, or set aside: the driver may be
  /// considered for what was shown before it meanwhile.
  var shownUsed: UInt16 = 0
  /// Index of the memory region hit last.
  var region = 0
  /// Entries that may be there beyond `nextAvail`: the ring's size; 0 until the first is seen (`begin`).
  var bound: UInt16 = 0

  /// Takes the next chain and writes its used entry, which stays invisible until `publish`.
  mutating func use(_ head: UInt16, span: UInt16, written: UInt32) {
    ring.setUsed(nextUsed, head: head, written: written)
    nextAvail &+= 1
    nextUsed &+= 1
  }

  /// Shows the driver every entry appended so far. With nothing new it leaves the driver's copy of the cache
  /// line alone.
  @inline(always)
  mutating func publish() {
    if nextUsed == shownUsed { return }
    ring.publishUsed(nextUsed)
    if let log = state.log { markShown(log) }
    shownUsed = nextUsed
  }

  /// Marks what `publish` has shown, and the index itself.
  @inline(never)
  private func markShown(_ log: RingLog) {
    log.mark(deviceArea: 0, 4)
    let count = min(Int(nextUsed &- shownUsed), Int(ring.size))
    let first = Int(shownUsed & ring.mask)
    let straight = min(count, Int(ring.size) &- first)
    log.mark(deviceArea: 4 &+ 8 &* first, 8 &* straight)
    if straight < count { log.mark(deviceArea: 4, 8 &* (count &- straight)) }
  }

  /// Marks what the driver is told of kicks.
  @inline(never)
  private func markEvent(_ log: RingLog) {
    if eventIndex {
      log.mark(deviceArea: 4 &+ 8 &* Int(ring.size), 2)
    } else {
      log.mark(deviceArea: 0, 2)
    }
  }

  @inline(always)
  var isSuspended: Bool { ring.size == 0 }

  /// The ring as vector code sees it, from the next entry on.
  @inline(always)
  var vector: cvx_split {
    unsafe cvx_split(
      descriptors: ring.descriptors, avail: ring.avail + 4, used: ring.used + 4,
      size: UInt32(ring.size), nextAvail: UInt32(nextAvail), nextUsed: UInt32(nextUsed))
  }

  // ---- Burst limits ----

  /// How many chains may be taken now, at most `limit`. A jump of `avail.idx` by more than the ring holds
  /// (2.7.13.3) breaks the queue.
  @inline(always)
  mutating func available(_ limit: Int) -> Int {
    var count = seenAvail &- nextAvail
    if Int(count) < limit {
      if counters.isBroken { return 0 }
      seenAvail = ring.availIndex
      count = seenAvail &- nextAvail
      if count > bound {
        count = begin()
        if counters.isBroken { return 0 }
      }
    }
    return min(Int(count), limit)
  }

  /// The first entry has been seen since the ring was started, or `avail.idx` has jumped. Returns the entries there are.
  ///
  /// A front-end may have started the ring before the driver was done with it: what the driver has put into its
  /// memory until its first kick is what counts (vhost-user: "Starting and stopping rings"), as of its index so of ours.
  @inline(never)
  private mutating func begin() -> UInt16 {
    if bound == 0 {
      bound = ring.size
      goOnAtUsed(otherwise: nextAvail)
    }
    let count = seenAvail &- nextAvail
    if count <= ring.size { return count }
    breakDown(.availIndexJump)
    return 0
  }

  /// Has the ring go on where its used ring ends. Nothing that was taken here is ever left unused when a ring stops, nor should
  /// it be by others who are asked for a vring base; so that is where everybody's work on it has ended, whatever a front-end that
  /// was not there, or has only `avail.idx` to tell, believes.
  ///
  /// - Parameter base: what was told; it counts where the used ring says what can't be.
  mutating func goOnAtUsed(otherwise base: UInt16) {
    let used = ring.usedIndex
    seenAvail = ring.availIndex
    nextAvail = seenAvail &- used <= ring.size ? used : base
    nextUsed = used
    signalledUsed = used
    shownUsed = used
  }

  @inline(never)
  mutating func breakDown(_ fault: QueueFault) {
    counters.breakDown(fault)
    seenAvail = nextAvail
  }

  // ---- Steering ----

  @inline(always)
  var mark: UInt16 { nextAvail }

  /// There are never more buffers between `avail.idx` and what the driver has taken than the ring has entries
  /// (2.7.13.3). And the used event index, on a receiveq, names the entry that the driver looks at next: 2.7.7.2 leaves
  /// it what it likes to write, but nobody who waits for frames is known to name a later one.
  func hasSeen(_ mark: UInt16) -> Bool {
    ring.availIndex &- mark >= ring.size || eventIndex && ring.usedEvent == mark
  }

  var isUnfilled: Bool {
    mutating get { bound == 0 && available(1) == 0 && !counters.isBroken }
  }

  // ---- Notifications ----

  @inline(always)
  var hasNews: Bool { shownUsed != signalledUsed }

  /// Whether the driver wants to hear of what `publish` has shown since the last time (2.7.7.2). A full fence has
  /// come after `publish`.
  @inline(always)
  mutating func wantsInterrupt() -> Bool {
    let old = signalledUsed
    if shownUsed == old { return false }
    signalledUsed = shownUsed
    return eventIndex
      ? clx_need_event(ring.usedEvent, shownUsed, old) != 0
      : ring.availFlags & 1 == 0
  }

  /// Asks the driver not to kick (2.7.10.2). With EVENT_IDX there is nothing to write: the event index
  /// stays behind, and the driver passes it again only after 65,536 buffers.
  func suppressKicks() {
    if eventIndex { return }
    ring.setUsedFlags(1)
    if let log = state.log { markEvent(log) }
  }

  /// Asks the driver to kick at the next buffer. Returns whether there is one already; then no kick need
  /// come, and the caller must look.
  func requestKicks() -> Bool {
    if eventIndex { ring.setAvailEvent(nextAvail) } else { ring.setUsedFlags(0) }
    if let log = state.log { markEvent(log) }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return ring.availIndex != nextAvail
  }
}
