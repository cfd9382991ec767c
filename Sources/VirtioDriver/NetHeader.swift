/// The virtio-net header before each frame (virtio v1.4, 5.1.9): 12 bytes, or 10 without `numBuffers`
/// for a legacy driver that has no mergeable buffers.
public struct NetHeader: Sendable, Hashable {
  public var flags: UInt8
  public var gsoType: UInt8
  public var hdrLen: UInt16
  public var gsoSize: UInt16
  public var csumStart: UInt16
  public var csumOffset: UInt16
  /// Written by the device on a receiveq; a driver leaves it 0 (5.1.9.2.1).
  public var numBuffers: UInt16

  /// VIRTIO_NET_HDR_F_NEEDS_CSUM, _F_DATA_VALID, _F_RSC_INFO.
  public static let needsCsum: UInt8 = 1
  public static let dataValid: UInt8 = 2
  public static let rscInfo: UInt8 = 4
  /// VIRTIO_NET_HDR_GSO_…
  public static let gsoTCPv4: UInt8 = 1
  public static let gsoUDP: UInt8 = 3
  public static let gsoTCPv6: UInt8 = 4
  public static let gsoUDPL4: UInt8 = 5
  /// A bit beside the type: the first segment alone keeps TCP's CWR flag.
  public static let gsoECN: UInt8 = 0x80

  public init(
    flags: UInt8 = 0, gsoType: UInt8 = 0, hdrLen: UInt16 = 0, gsoSize: UInt16 = 0,
    csumStart: UInt16 = 0, csumOffset: UInt16 = 0, numBuffers: UInt16 = 0
  ) {
    self.flags = flags
    self.gsoType = gsoType
    self.hdrLen = hdrLen
    self.gsoSize = gsoSize
    self.csumStart = csumStart
    self.csumOffset = csumOffset
    self.numBuffers = numBuffers
  }

  /// Reads a header of 10 or 12 bytes from the beginning of `bytes`.
  public init(_ bytes: [UInt8], length: Int) {
    flags = bytes[0]
    gsoType = bytes[1]
    hdrLen = FrontEndMessage.load(bytes, at: 2)
    gsoSize = FrontEndMessage.load(bytes, at: 4)
    csumStart = FrontEndMessage.load(bytes, at: 6)
    csumOffset = FrontEndMessage.load(bytes, at: 8)
    numBuffers = length >= 12 ? FrontEndMessage.load(bytes, at: 10) : 1
  }

  /// The header's bytes, `length` (10 or 12) of them.
  public func bytes(length: Int = 12) -> [UInt8] {
    let all =
      [flags, gsoType]
      + FrontEndMessage.words(hdrLen, gsoSize, csumStart, csumOffset, numBuffers)
    return Array(all.prefix(length))
  }
}
