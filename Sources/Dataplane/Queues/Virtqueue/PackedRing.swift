internal import CVector
internal import Synchronization

/// The three parts of a packed virtqueue in guest memory, and the only place that knows their layout (virtio
/// v1.4, 2.8.10.1, 2.8.13, 2.8.14).
///
/// A descriptor is two words: the address, and behind it length (bits 0–31), buffer id (32–47) and flags (48–63).
/// The second is loaded and stored whole. The flags say whose descriptor it is, so that an acquire load of the
/// word makes what its owner wrote before visible: the address, and every descriptor that became available with
/// this one.
///
/// SAFETY: the parts were proved to lie inside mapped guest memory for `size` descriptors and four bytes each
/// (`RingSetup`); descriptor indices are those of a `PackedPosition`, below `size`. Their words are only ever
/// accessed as atomics.
@safe struct PackedRing {
  let descriptors: UnsafeMutableRawPointer
  let driverArea: UnsafeMutableRawPointer
  let deviceArea: UnsafeMutableRawPointer
  let size: Int

  @inline(always)
  private func words(_ index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe (descriptors + 16 &* index).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// Length, id and flags of descriptor `index`.
  @inline(always)
  func rest(_ index: Int) -> UInt64 { unsafe words(index)[1].load(ordering: .acquiring) }

  /// Address of descriptor `index`, once `rest` has shown that it is available.
  @inline(always)
  func address(_ index: Int) -> UInt64 { unsafe words(index)[0].load(ordering: .relaxed) }

  /// Marks descriptor `index` as used; the driver does not look at it before those in front of it.
  @inline(always)
  func setUsed(_ index: Int, _ rest: UInt64) {
    unsafe words(index)[1].store(rest, ordering: .relaxed)
  }

  /// Marks descriptor `index` as used, and shows the driver what was written before.
  @inline(always)
  func publishUsed(_ index: Int, _ rest: UInt64) {
    unsafe words(index)[1].store(rest, ordering: .releasing)
  }

  /// The descriptors from `position` to the ring's end, at most `limit`, as vector code sees them.
  @inline(always)
  func vector(_ position: PackedPosition, _ limit: Int, hold: Bool, batch: Bool) -> cvx_packed {
    unsafe cvx_packed(
      descriptors: descriptors + 16 &* position.index,
      count: UInt32(truncatingIfNeeded: min(limit, size &- position.index)), hold: hold ? 1 : 0,
      batch: batch ? 1 : 0, available: position.availBits, used: position.usedBits, first: 0,
      last: 0)
  }

  /// The driver's event suppression structure: position in bits 0–15, flags in bits 16 and 17.
  @inline(always)
  var driverEvent: UInt32 {
    unsafe driverArea.assumingMemoryBound(to: Atomic<UInt32>.self).pointee.load(
      ordering: .relaxed)
  }

  /// Writes the device's event suppression structure.
  @inline(always)
  func setDeviceEvent(_ event: UInt32) {
    unsafe deviceArea.assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(
      event, ordering: .relaxed)
  }

  /// What an event suppression structure's flags mean (2.8.10).
  enum Event {
    static let enable: UInt32 = 0
    static let disable: UInt32 = 1
    static let descriptor: UInt32 = 2
  }

  // ---- The second word's parts ----

  @inline(always)
  static func length(_ rest: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: rest) }

  @inline(always)
  static func id(_ rest: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: rest &>> 32) }

  @inline(always)
  static func flags(_ rest: UInt64) -> UInt16 { UInt16(truncatingIfNeeded: rest &>> 48) }

  static let idMask: UInt64 = 0xFFFF &<< 32
  static let availMask: UInt64 = UInt64(Descriptor.avail | Descriptor.used) &<< 48
  /// What tells a descriptor that is available and alone from others.
  static let kindMask: UInt64 =
    availMask | UInt64(Descriptor.next | Descriptor.write | Descriptor.indirect) &<< 48
  static let avail: UInt64 = UInt64(Descriptor.avail) &<< 48
  static let used: UInt64 = UInt64(Descriptor.used) &<< 48
  static let write: UInt64 = UInt64(Descriptor.write) &<< 48
}

extension Descriptor {
  /// Flags of a packed ring (2.8.1): different in an available descriptor, equal in a used one.
  static let avail: UInt16 = 1 << 7
  static let used: UInt16 = 1 << 15
}

/// A place in a packed ring: the index of a descriptor, and the ring wrap counter that goes with it (2.8.1).
struct PackedPosition: Equatable {
  var index: Int
  var wrap: Bool

  init(index: Int, wrap: Bool) {
    self.index = index
    self.wrap = wrap
  }

  /// Index in bits 0–14, wrap counter in bit 15: as in event suppression structures, and in each half of a vring
  /// base (vhost-user: "A vring state description").
  init(word: UInt16) {
    index = Int(word & 0x7FFF)
    wrap = word & 0x8000 != 0
  }

  var word: UInt16 { UInt16(truncatingIfNeeded: index) | (wrap ? 0x8000 : 0) }

  /// The bits AVAIL and USED, in the second word, of a descriptor that is available here.
  @inline(always)
  var availBits: UInt64 { UInt64(wrap ? Descriptor.avail : Descriptor.used) &<< 48 }

  /// The same of one that is used.
  @inline(always)
  var usedBits: UInt64 { wrap ? PackedRing.availMask : 0 }

  /// Moves on by `count`, at most `size`.
  @inline(always)
  mutating func advance(by count: Int, size: Int) {
    index &+= count
    if index >= size {
      index &-= size
      wrap.toggle()
    }
  }
}
