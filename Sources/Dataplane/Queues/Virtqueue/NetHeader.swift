internal import CLinux

/// What a virtio-net header (virtio v1.4, 5.1.9) says of its frame, without `num_buffers`.
///
/// SAFETY: it is written where the caller has room for the size it gives, ten bytes at least.
struct NetHeader {
  /// The first eight bytes, from the lowest bits on: flags (8 bits), gso_type (8), hdr_len, gso_size, csum_start
  /// (16 each).
  var word: UInt64 = 0
  /// csum_offset.
  var checksumOffset: UInt16 = 0

  /// Bytes of the shortest header.
  static let leastSize = 10

  /// Where csum_offset lies in the header.
  static let checksumOffsetPlace = 8

  @inline(always)
  init(word: UInt64, checksumOffset: UInt16) {
    self.word = word
    self.checksumOffset = checksumOffset
  }

  /// A frame whose checksum is not complete, and perhaps more.
  ///
  /// - Parameters:
  ///   - type: gso_type, 0 for none; then the next two mean nothing.
  ///   - headers: bytes of all headers of the frame.
  ///   - size: bytes of payload of each segment.
  init(
    checksumAt start: Int, offset: UInt16, type: UInt8 = 0, headers: Int = 0, size: Int = 0
  ) {
    word =
      UInt64(VIRTIO_NET_HDR_F_NEEDS_CSUM) | UInt64(type) &<< 8
      | UInt64(UInt16(truncatingIfNeeded: headers)) &<< 16
      | UInt64(UInt16(truncatingIfNeeded: size)) &<< 32
      | UInt64(UInt16(truncatingIfNeeded: start)) &<< 48
    checksumOffset = offset
  }

  /// Whether a first word asks for work. Unknown flags are ignored, and what the sender says of checksums it has
  /// seen (5.1.9.2.2).
  @inline(always)
  static func asks(_ word: UInt64) -> Bool {
    word & (UInt64(VIRTIO_NET_HDR_F_NEEDS_CSUM) | 0xFF00) != 0
  }

  var needsChecksum: Bool { word & UInt64(VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0 }
  /// gso_type with its ECN bit.
  var type: UInt8 { UInt8(truncatingIfNeeded: word &>> 8) }
  /// hdr_len, gso_size, csum_start.
  var headersLength: Int { Int(UInt16(truncatingIfNeeded: word &>> 16)) }
  var segmentSize: Int { Int(UInt16(truncatingIfNeeded: word &>> 32)) }
  var checksumStart: Int { Int(word &>> 48) }

  /// Values of gso_type.
  enum Segmentation {
    static let none = UInt8(VIRTIO_NET_HDR_GSO_NONE)
    static let tcp4 = UInt8(VIRTIO_NET_HDR_GSO_TCPV4)
    static let fragments = UInt8(VIRTIO_NET_HDR_GSO_UDP)
    static let tcp6 = UInt8(VIRTIO_NET_HDR_GSO_TCPV6)
    /// VIRTIO_NET_HDR_GSO_UDP_L4, which the C library's copy of the header may not have yet.
    static let udp: UInt8 = 5
    static let ecn = UInt8(VIRTIO_NET_HDR_GSO_ECN)
  }

  /// Writes the whole header, padding included: no byte of this process's memory reaches a guest.
  ///
  /// - Parameters:
  ///   - base: room for `size` bytes.
  ///   - buffers: `num_buffers` (5.1.9.4.1), where there is one.
  ///   - size: 12, or 10 without `num_buffers`.
  @inline(always)
  func write(_ base: UnsafeMutableRawPointer, buffers: UInt16, size: UInt32) {
    unsafe writeRequest(base)
    if size == 12 {
      unsafe base.storeBytes(of: buffers.littleEndian, toByteOffset: 10, as: UInt16.self)
    }
  }

  /// Writes all but `num_buffers`.
  @inline(always)
  func writeRequest(_ base: UnsafeMutableRawPointer) {
    unsafe base.storeBytes(of: word.littleEndian, as: UInt64.self)
    unsafe base.storeBytes(
      of: checksumOffset.littleEndian, toByteOffset: NetHeader.checksumOffsetPlace, as: UInt16.self)
  }

  /// The same of a frame whose headers have become longer by `distance` bytes, in front of what the header speaks of.
  ///
  /// - Parameter segmented: whether the length of the headers means something.
  func moved(by distance: Int, segmented: Bool) -> NetHeader {
    let start = UInt64(UInt16(truncatingIfNeeded: checksumStart &+ distance))
    let length = UInt64(
      UInt16(truncatingIfNeeded: segmented ? headersLength &+ distance : headersLength))
    let kept: UInt64 = 0x0000_FFFF_0000_FFFF
    return NetHeader(
      word: word & kept | length &<< 16 | start &<< 48, checksumOffset: checksumOffset)
  }

  /// Nothing is asked for.
  @inline(always)
  static var none: NetHeader { NetHeader(word: 0, checksumOffset: 0) }
}
