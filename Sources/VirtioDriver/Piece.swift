/// A piece of guest memory that one descriptor names: guest physical address and bytes. Nothing is
/// checked: a hostile driver may name what it likes.
public struct Piece: Sendable, Hashable {
  public var address: UInt64
  public var length: UInt32

  public init(_ address: UInt64, _ length: UInt32) {
    self.address = address
    self.length = length
  }
}

/// How the pieces of a buffer are laid out in descriptors (virtio v1.4, 2.7.5).
public enum ChainLayout: Sendable, Hashable {
  /// One descriptor a piece, chained.
  case direct
  /// The first `after` pieces in normal descriptors, the others in an indirect table (2.7.5.3).
  case indirect(after: Int)
}

/// One descriptor of a split ring (virtio v1.4, 2.7.5), for tests that write them by hand.
public struct RawDescriptor: Sendable, Hashable {
  public var address: UInt64
  public var length: UInt32
  public var flags: UInt16
  public var next: UInt16

  public static let nextFlag: UInt16 = 1
  public static let writeFlag: UInt16 = 2
  public static let indirectFlag: UInt16 = 4

  public init(address: UInt64, length: UInt32, flags: UInt16 = 0, next: UInt16 = 0) {
    self.address = address
    self.length = length
    self.flags = flags
    self.next = next
  }

  /// Length, flags and next as the second of the descriptor's two little-endian words.
  var secondWord: UInt64 {
    UInt64(length) | UInt64(flags) << 32 | UInt64(next) << 48
  }

  init(words first: UInt64, _ second: UInt64) {
    address = first
    length = UInt32(truncatingIfNeeded: second)
    flags = UInt16(truncatingIfNeeded: second >> 32)
    next = UInt16(truncatingIfNeeded: second >> 48)
  }
}
