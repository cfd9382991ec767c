/// An Ethernet address in the low 48 bits of a word, its first byte in the lowest: as a little-endian load
/// leaves it, so that comparing two is comparing words.
public struct MACAddress: Hashable, Sendable, CustomStringConvertible {
  @usableFromInline static let mask: UInt64 = 0xFFFF_FFFF_FFFF

  /// The address; bits 48 to 63 are zero.
  public let word: UInt64

  /// Takes the low 48 bits.
  @inline(always)
  public init(word: UInt64) {
    self.word = word & MACAddress.mask
  }

  /// - Parameter bytes: the address in the order of transmission; missing bytes are zero.
  public init(_ bytes: [UInt8]) {
    var word: UInt64 = 0
    for (index, byte) in bytes.prefix(6).enumerated() { word |= UInt64(byte) << UInt64(8 * index) }
    self.word = word
  }

  /// The group bit: multicast or broadcast.
  @inline(always)
  var isGroup: Bool { word & 1 != 0 }

  /// An address that a station may send from.
  @inline(always)
  var isValidSource: Bool { word != 0 && !isGroup }

  /// 01:80:C2:00:00:01 to 0F: what a bridge without the protocols behind them must keep to itself. The
  /// spanning tree's own :00 is forwarded, as Linux does with the protocol off, so that loops can be seen.
  var isReserved: Bool {
    word & 0x00FF_FFFF_FFFF == 0x0000_00C2_8001 && word &>> 40 != 0 && word &>> 40 < 16
  }

  public var description: String {
    (0..<6).map { index in
      let byte = UInt8(truncatingIfNeeded: word >> UInt64(8 * index))
      let text = String(byte, radix: 16)
      return text.count == 1 ? "0" + text : text
    }.joined(separator: ":")
  }
}

extension MACAddress {
  /// Whether it can be a station's: neither a group's nor 0.
  public var isStation: Bool { isValidSource }
}
