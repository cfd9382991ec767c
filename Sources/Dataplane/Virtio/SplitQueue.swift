internal import CLinux
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
@safe struct SplitQueue {
  // Set at the start, read by the worker.
  let descriptors: UnsafeMutableRawPointer
  let avail: UnsafeMutableRawPointer
  let used: UnsafeMutableRawPointer
  let memory: MemoryView
  let counters: Counters
  let size: UInt16
  let mask: UInt16
  /// Bytes of the virtio-net header: 12, or 10 for a legacy driver without mergeable buffers (5.1.9).
  let headerSize: UInt32
  let eventIndex: Bool
  let indirect: Bool
  let mergeable: Bool
  /// The call eventfd, or -1 when the driver polls.
  let call: CInt

  // The worker's.
  /// The next entry of the avail ring to take.
  var nextAvail: UInt16
  /// `avail.idx` as last loaded.
  var seenAvail: UInt16
  /// `used.idx` as the driver will see it after the next `publish`.
  var nextUsed: UInt16
  /// `used.idx` when the driver was last considered for an interrupt.
  var signalledUsed: UInt16
  /// Index of the memory region hit last.
  var region = 0

  // ---- Shared words ----

  @inline(always)
  private func word(_ base: UnsafeMutableRawPointer, _ offset: Int)
    -> UnsafeMutablePointer<Atomic<UInt16>>
  {
    unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt16>.self)
  }

  /// `avail.flags`: bit 0 asks for no interrupts.
  @inline(always)
  var availFlags: UInt16 { unsafe word(avail, 0).pointee.load(ordering: .relaxed) }

  /// `avail.idx`; what it covers in the ring and the table is visible afterwards.
  @inline(always)
  var availIndex: UInt16 { unsafe word(avail, 2).pointee.load(ordering: .acquiring) }

  /// Entry `index` of the avail ring, 0 ..< size.
  @inline(always)
  func availEntry(_ index: UInt16) -> UInt16 {
    unsafe word(avail, 4 &+ 2 &* Int(index & mask)).pointee.load(ordering: .relaxed)
  }

  @inline(always)
  var usedEvent: UInt16 {
    unsafe word(avail, 4 &+ 2 &* Int(size)).pointee.load(ordering: .relaxed)
  }

  /// `used.idx` as it stands in the ring's memory.
  var usedIndex: UInt16 { unsafe word(used, 2).pointee.load(ordering: .acquiring) }

  @inline(always)
  func setUsedFlags(_ flags: UInt16) {
    unsafe word(used, 0).pointee.store(flags, ordering: .relaxed)
  }

  @inline(always)
  func setAvailEvent(_ index: UInt16) {
    unsafe word(used, 4 &+ 8 &* Int(size)).pointee.store(index, ordering: .relaxed)
  }

  /// Writes used entry `nextUsed`; it stays invisible until `publish`.
  @inline(always)
  mutating func append(head: UInt16, written: UInt32) {
    let entry = unsafe (used + (4 &+ 8 &* Int(nextUsed & mask)))
      .assumingMemoryBound(to: UInt32.self)
    unsafe entry[0] = UInt32(head)
    unsafe entry[1] = written
    nextUsed &+= 1
  }

  /// Shows the driver every entry appended so far. With nothing new it leaves the driver's copy of the cache
  /// line alone.
  @inline(always)
  func publish() {
    if nextUsed == signalledUsed { return }
    unsafe word(used, 2).pointee.store(nextUsed, ordering: .releasing)
  }

  // ---- Descriptors ----

  /// A descriptor as it was when it was loaded.
  struct Descriptor {
    var address: UInt64
    var length: UInt32
    var flags: UInt16
    var next: UInt16

    static let next: UInt16 = 1
    static let write: UInt16 = 2
    static let indirect: UInt16 = 4

    /// Loads descriptor `index` of `table`, each of its two words once.
    @inline(always)
    init(_ table: UnsafeMutableRawPointer, _ index: UInt16) {
      let words = unsafe (table + 16 &* Int(index)).assumingMemoryBound(to: Atomic<UInt64>.self)
      address = unsafe words[0].load(ordering: .relaxed)
      let rest = unsafe words[1].load(ordering: .relaxed)
      length = UInt32(truncatingIfNeeded: rest)
      flags = UInt16(truncatingIfNeeded: rest &>> 32)
      next = UInt16(truncatingIfNeeded: rest &>> 48)
    }
  }

  // ---- Burst limits ----

  /// How many chains may be taken now, at most `limit`. A jump of `avail.idx` by more than the ring holds
  /// (2.7.13.3) breaks the queue.
  @inline(always)
  mutating func available(_ limit: Int) -> Int {
    var count = seenAvail &- nextAvail
    if Int(count) < limit {
      if counters.isBroken { return 0 }
      seenAvail = availIndex
      count = seenAvail &- nextAvail
      if count > size {
        breakDown(.availIndexJump)
        return 0
      }
    }
    return min(Int(count), limit)
  }

  @inline(never)
  mutating func breakDown(_ fault: QueueFault) {
    counters.setFault(fault)
    seenAvail = nextAvail
  }

  // ---- Notifications ----

  /// Interrupts the driver if it wants to hear of what `publish` has shown since the last time (2.7.7.2).
  @inline(always)
  mutating func notify() {
    let old = signalledUsed
    if nextUsed == old { return }
    // The driver writes its wish, then looks at used.idx; we wrote used.idx, then look at its wish. Both
    // must see the other's write, and only a full fence orders a store before a load.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    signalledUsed = nextUsed
    let wanted =
      eventIndex
      ? clx_need_event(usedEvent, nextUsed, old) != 0
      : availFlags & 1 == 0
    if wanted { interrupt() }
  }

  @inline(never)
  private func interrupt() {
    if call >= 0 {
      EventFD.signal(call)
      counters.add(.notifications, 1)
    }
  }

  /// Asks the driver not to kick (2.7.10.2). With EVENT_IDX there is nothing to write: the event index
  /// stays behind, and the driver passes it again only after 65,536 buffers.
  func suppressKicks() {
    if !eventIndex { setUsedFlags(1) }
  }

  /// Asks the driver to kick at the next buffer. Returns whether there is one already; then no kick need
  /// come, and the caller must look.
  func requestKicks() -> Bool {
    if eventIndex { setAvailEvent(nextAvail) } else { setUsedFlags(0) }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return availIndex != nextAvail
  }
}
