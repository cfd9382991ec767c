/// The first 16 bytes of a frame in two words, loaded once from memory that its sender may be changing.
///
/// # Theory of operation
///
/// Here lives what is known of frames as such, whoever brings them: addresses, the headers of Ethernet, IPv4, IPv6, TCP
/// and UDP, the Internet checksum. All of it is values over private memory: nothing here reads a guest's memory, keeps
/// anything, or knows of queues; whoever calls has copied, once, what is to be judged (`Burst+Judge`, `Front`). So what
/// is said of bytes stays true of them. The one exception is a checksum's sum, over a receiver's copy: it judges nothing.
///
/// What is judged here is what is delivered: the receiver's copy of these bytes is written from these
/// words. The 14 bytes of the Ethernet header are followed by 2 bytes of payload (zero in a frame of 14).
struct EthernetHeader {
  /// Bytes of destination, source and type.
  static let size = 14
  /// Bytes held here.
  static let held = 16

  /// Bytes 0 to 7: destination (6), and the first two bytes of the source.
  var first: UInt64 = 0
  /// Bytes 8 to 15: the rest of the source, the type, two bytes of payload.
  var second: UInt64 = 0

  /// Zero when both addresses are those of `other`.
  @inline(always)
  func difference(from other: EthernetHeader) -> UInt64 {
    (first ^ other.first) | (UInt64(littleEndian: second ^ other.second) & 0xFFFF_FFFF)
  }

  @inline(always)
  var destination: MACAddress { MACAddress(word: UInt64(littleEndian: first)) }

  @inline(always)
  var source: MACAddress {
    MACAddress(
      word: UInt64(littleEndian: first) &>> 48 | UInt64(littleEndian: second) &<< 16)
  }

  /// The type, or the length in a frame of IEEE 802.2.
  @inline(always)
  var type: UInt16 {
    UInt16(truncatingIfNeeded: UInt64(littleEndian: second) &>> 32).byteSwapped
  }

  /// The first byte behind the type: of an IP packet, its version and the length of its header.
  @inline(always)
  var firstOfPayload: UInt8 { UInt8(truncatingIfNeeded: UInt64(littleEndian: second) &>> 48) }

  /// Whether an IPv4 header without options follows, of 20 bytes: in one comparison, as most do.
  @inline(always)
  var isPlainIPv4: Bool { UInt64(littleEndian: second) &>> 32 & 0xFF_FFFF == 0x45_0008 }

  /// Whether an 802.1Q or 802.1ad tag follows the addresses.
  @inline(always)
  var isTagged: Bool {
    let type = UInt16(truncatingIfNeeded: UInt64(littleEndian: second) &>> 32)
    return type == 0x0081 || type == 0xA888
  }
}
