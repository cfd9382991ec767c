/// A 48-bit Ethernet address.
public struct EthernetAddress: Hashable, Sendable, CustomStringConvertible {
  /// The six octets, first on the wire in the highest of the 48 bits.
  public let value: UInt64

  public init(_ value: UInt64) { self.value = value & 0xffff_ffff_ffff }

  /// 02:00:nn:nn:nn:nn: the locally administered unicast address of test station `number`.
  public static func station(_ number: Int) -> EthernetAddress {
    EthernetAddress(0x0200_0000_0000 | UInt64(UInt32(truncatingIfNeeded: number)))
  }

  public static let broadcast = EthernetAddress(0xffff_ffff_ffff)

  public var bytes: [UInt8] {
    (0..<6).map { UInt8(truncatingIfNeeded: value >> (40 - 8 * UInt64($0))) }
  }

  public var description: String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
  }
}
