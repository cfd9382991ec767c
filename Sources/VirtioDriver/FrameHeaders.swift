/// Where the headers of a frame of TCP or UDP over IPv4 or IPv6 lie: VLAN tags, options and extension
/// headers are stepped over. For judging what a device delivers, so nothing of it is fast.
public struct FrameHeaders: Sendable, Hashable {
  public enum Transport: UInt8, Sendable {
    case tcp = 6
    case udp = 17

    /// Where the checksum lies in the header.
    public var checksumOffset: Int { self == .tcp ? 16 : 6 }
  }

  /// Tags before the network header: 802.1Q or 802.1ad.
  public var tags = 0
  /// 4 or 6.
  public var version = 0
  /// Bytes before the network header.
  public var network = 0
  /// Bytes before the transport header.
  public var transport = 0
  public var kind: Transport
  /// Bytes of all headers, the transport's included.
  public var length = 0
  /// Sum of the pseudo header (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1), the frame's own length in it.
  public var pseudoSum: UInt16 = 0

  /// The headers of `frame`, or `nil` when it is another protocol, a later fragment, or cut off.
  public init?(_ frame: [UInt8]) {
    func word(_ offset: Int) -> Int? {
      offset + 1 < frame.count ? Int(frame[offset]) << 8 | Int(frame[offset + 1]) : nil
    }
    var type = 12
    while let tag = word(type), tag == 0x8100 || tag == 0x88a8 {
      type += 4
      tags += 1
    }
    network = type + 2
    let addresses: [UInt8]
    let found: UInt8
    switch word(type) {
    case 0x0800:
      guard frame.count >= network + 20, frame[network] >> 4 == 4 else { return nil }
      let bytes = Int(frame[network] & 15) * 4
      guard bytes >= 20, (word(network + 6) ?? 0) & 0x1FFF == 0 else { return nil }
      version = 4
      transport = network + bytes
      found = frame[network + 9]
      addresses = Array(frame[(network + 12)..<(network + 20)])
    case 0x86dd:
      guard frame.count >= network + 40, frame[network] >> 4 == 6 else { return nil }
      version = 6
      transport = network + 40
      var next = frame[network + 6]
      var destination = Array(frame[(network + 24)..<(network + 40)])
      // Hop-by-hop options, routing, destination options.
      while [0, 43, 60].contains(next) {
        guard transport + 8 <= frame.count else { return nil }
        let bytes = 8 + 8 * Int(frame[transport + 1])
        guard transport + bytes <= frame.count else { return nil }
        if next == 43, frame[transport + 3] > 0, bytes >= 24 {
          // On its way the packet bears another address than the one it is for: the list's last, and of a
          // segment routing header, which is the other way round, the first (RFC 8754, 2).
          let at = frame[transport + 2] == 4 ? transport + 8 : transport + bytes - 16
          destination = Array(frame[at..<(at + 16)])
        }
        next = frame[transport]
        transport += bytes
      }
      found = next
      addresses = Array(frame[(network + 8)..<(network + 24)]) + destination
    default: return nil
    }
    guard let kind = Transport(rawValue: found) else { return nil }
    self.kind = kind
    switch kind {
    case .udp: length = transport + 8
    case .tcp:
      guard transport + 12 < frame.count else { return nil }
      let bytes = Int(frame[transport + 12] >> 4) * 4
      guard bytes >= 20 else { return nil }
      length = transport + bytes
    }
    guard length <= frame.count else { return nil }
    pseudoSum = InternetChecksum.sum(
      words: [
        InternetChecksum.sum(addresses[...]), UInt16(kind.rawValue),
        UInt16(clamping: frame.count - transport),
      ])
  }

  /// Bytes before the transport header's checksum.
  public var checksum: Int { transport + kind.checksumOffset }

  /// Whether the transport header's checksum is that of `frame`; a UDP checksum of 0 is none, and right.
  public func isChecksumRight(in frame: [UInt8]) -> Bool {
    if kind == .udp, frame[checksum] == 0, frame[checksum + 1] == 0 { return version == 4 }
    return InternetChecksum.sum(frame[transport...], pseudoSum) == 0xFFFF
  }
}
