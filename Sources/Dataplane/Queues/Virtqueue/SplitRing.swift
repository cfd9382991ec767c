internal import Synchronization

/// The three parts of a split virtqueue in guest memory, and the only place that knows their layout (virtio v1.4,
/// 2.7.5, 2.7.6, 2.7.8).
///
/// SAFETY: the parts were proved to lie inside mapped guest memory for `size` entries (`RingSetup`), and every
/// offset into them is masked to `size` or a constant of the layout. Their words are only ever accessed as
/// atomics; the used entries, which only the device writes, are plain.
@safe struct SplitRing {
  let descriptors: UnsafeMutableRawPointer
  let avail: UnsafeMutableRawPointer
  let used: UnsafeMutableRawPointer
  let size: UInt16
  let mask: UInt16

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

  /// Writes used entry `index`; the driver does not look at it before `publishUsed`.
  @inline(always)
  func setUsed(_ index: UInt16, head: UInt16, written: UInt32) {
    let entry = unsafe (used + (4 &+ 8 &* Int(index & mask)))
      .assumingMemoryBound(to: UInt32.self)
    unsafe entry[0] = UInt32(head)
    unsafe entry[1] = written
  }

  /// Shows the driver every entry below `index`.
  @inline(always)
  func publishUsed(_ index: UInt16) {
    unsafe word(used, 2).pointee.store(index, ordering: .releasing)
  }
}

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
    self.init(
      address: unsafe words[0].load(ordering: .relaxed),
      rest: unsafe words[1].load(ordering: .relaxed))
  }

  @inline(always)
  init(address: UInt64, rest: UInt64) {
    self.address = address
    length = UInt32(truncatingIfNeeded: rest)
    flags = UInt16(truncatingIfNeeded: rest &>> 32)
    next = UInt16(truncatingIfNeeded: rest &>> 48)
  }
}
