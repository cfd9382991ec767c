/// Building Ethernet frames, without the frame check sequence.
public enum EthernetFrame {
  /// IEEE 802's EtherType for local experiments.
  public static let experimental: UInt16 = 0x88b5

  /// A frame: addresses, an 802.1Q tag where there is one, EtherType, payload.
  ///
  /// - Parameters:
  ///   - vlan: tag control information: 12 bits of VLAN, 3 of priority above.
  ///   - length: of the whole frame; the payload is followed by zeros or cut off. `nil`: as it comes.
  public static func make(
    to destination: EthernetAddress, from source: EthernetAddress,
    etherType: UInt16 = experimental, vlan: UInt16? = nil, payload: [UInt8] = [],
    length: Int? = nil
  ) -> [UInt8] {
    var frame = destination.bytes + source.bytes
    if let vlan { frame += big(0x8100) + big(vlan) }
    frame += big(etherType) + payload
    if let length {
      frame =
        frame.count > length
        ? Array(frame.prefix(length))
        : frame + [UInt8](repeating: 0, count: length - frame.count)
    }
    return frame
  }

  private static func big(_ value: UInt16) -> [UInt8] {
    [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)]
  }
}
