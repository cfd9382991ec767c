/// A place in a packed ring: the index of a descriptor and the ring wrap counter that goes with it (virtio
/// v1.4, 2.8.1). Both counters begin as 1.
public struct PackedPosition: Sendable, Hashable {
  public var index: UInt16
  public var wrap: Bool

  public init(index: UInt16 = 0, wrap: Bool = true) {
    self.index = index
    self.wrap = wrap
  }

  /// Index in bits 0–14, wrap counter in bit 15: as event suppression structures (2.8.13) and the halves of
  /// a vring base have it (vhost-user.rst, "A vring state description").
  public init(word: UInt16) {
    self.init(index: word & 0x7FFF, wrap: word & 0x8000 != 0)
  }

  public var word: UInt16 { index | (wrap ? 0x8000 : 0) }

  /// Moves on by `count` descriptors, at most `size`, of a ring of `size`.
  @inline(always)
  public mutating func advance(by count: Int, size: Int) {
    var next = Int(index) &+ count
    if next >= size {
      next &-= size
      wrap.toggle()
    }
    index = UInt16(truncatingIfNeeded: next)
  }

  /// The flags AVAIL and USED of a descriptor that is available here.
  @inline(always)
  public var availFlags: UInt16 { wrap ? PackedDescriptor.availFlag : PackedDescriptor.usedFlag }

  /// The flags AVAIL and USED of a descriptor that is used here.
  @inline(always)
  public var usedFlags: UInt16 { wrap ? PackedDescriptor.bothFlags : 0 }
}

/// One descriptor of a packed ring (virtio v1.4, 2.8.13), for tests that write them by hand.
public struct PackedDescriptor: Sendable, Hashable {
  public var address: UInt64
  public var length: UInt32
  /// The buffer id; counts in the last descriptor of a chain and in used ones.
  public var id: UInt16
  /// `RawDescriptor`'s flags and the two below.
  public var flags: UInt16

  public static let availFlag: UInt16 = 1 << 7
  public static let usedFlag: UInt16 = 1 << 15
  public static let bothFlags = availFlag | usedFlag

  public init(address: UInt64, length: UInt32, id: UInt16 = 0, flags: UInt16 = 0) {
    self.address = address
    self.length = length
    self.id = id
    self.flags = flags
  }

  /// Length, id and flags as the second of the descriptor's two little-endian words.
  @inline(always)
  var secondWord: UInt64 {
    UInt64(length) | UInt64(id) << 32 | UInt64(flags) << 48
  }

  @inline(always)
  init(words first: UInt64, _ second: UInt64) {
    address = first
    length = UInt32(truncatingIfNeeded: second)
    id = UInt16(truncatingIfNeeded: second >> 32)
    flags = UInt16(truncatingIfNeeded: second >> 48)
  }
}

/// An event suppression structure of a packed ring (virtio v1.4, 2.8.10, 2.8.14).
public struct EventSuppression: Sendable, Hashable {
  public enum Flags: UInt16, Sendable {
    /// Events at every descriptor, at none, at `position`; the fourth value is reserved.
    case enable, disable, descriptor, reserved
  }

  public var flags: Flags
  public var position: PackedPosition

  public init(_ flags: Flags, at position: PackedPosition = PackedPosition(word: 0)) {
    self.flags = flags
    self.position = position
  }

  init(word: UInt32) {
    position = PackedPosition(word: UInt16(truncatingIfNeeded: word))
    flags = Flags(rawValue: UInt16(truncatingIfNeeded: word >> 16) & 3) ?? .reserved
  }

  var word: UInt32 { UInt32(position.word) | UInt32(flags.rawValue) << 16 }
}
