/// A frame of TCP or UDP as a guest's network stack builds it, described: `bytes` writes it down with a full
/// checksum or only the pseudo header's, and `TestPacket+Delivery.swift` says what a receiver must get of it.
/// It is made without `FrameHeaders`, which takes frames apart, so that each is a test of the other.
public struct TestPacket: Sendable, Hashable {
  /// An IPv6 extension header (RFC 8200, 4).
  public enum Extension: UInt8, Sendable {
    case hopByHop = 0
    /// Type 2, one segment left: the destination in the IPv6 header is not the one that the checksum covers.
    case routing = 43
    case destinationOptions = 60
  }

  public enum Network: Sendable, Hashable {
    /// Bytes of options, a multiple of 4.
    case ipv4(options: Int)
    case ipv6([Extension])
  }

  public enum Transport: Sendable, Hashable {
    /// Bytes of options, a multiple of 4.
    case tcp(options: Int)
    case udp
  }

  /// What the checksum field holds.
  public enum Checksum: Sendable {
    case full
    /// The pseudo header's sum (5.1.9.2.1, NEEDS_CSUM).
    case partial
  }

  /// TCP's flags.
  public static let fin: UInt8 = 0x01
  public static let psh: UInt8 = 0x08
  public static let ack: UInt8 = 0x10
  public static let ece: UInt8 = 0x40
  public static let cwr: UInt8 = 0x80

  public var destination: EthernetAddress
  public var source: EthernetAddress
  /// EtherTypes of the VLAN tags, outermost first: 0x8100 or 0x88a8.
  public var tags: [UInt16] = []
  public var network: Network
  public var transport: Transport
  public var flags: UInt8 = TestPacket.ack
  /// TCP's sequence number; near its end, so that segments pass it.
  public var sequence: UInt32 = 0xFFFF_FC00
  /// IPv4's identification; near its end.
  public var identification: UInt16 = 0xFFFE
  public var payload: [UInt8]

  /// - Parameter length: bytes of payload, which follow from `seed`.
  public init(
    to destination: EthernetAddress, from source: EthernetAddress, _ network: Network,
    _ transport: Transport, tags: [UInt16] = [], length: Int, seed: UInt64 = 1
  ) {
    self.destination = destination
    self.source = source
    self.network = network
    self.transport = transport
    self.tags = tags
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    payload = []
    payload.reserveCapacity(length + 8)
    while payload.count < length {
      // xorshift64, eight bytes a step.
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      payload += FrontEndMessage.words(state)
    }
    payload.removeLast(payload.count - length)
  }

  // ---- Where things lie ----

  /// Bytes before the network header.
  public var networkOffset: Int { 14 + 4 * tags.count }

  /// Bytes before the transport header.
  public var transportOffset: Int {
    switch network {
    case .ipv4(let options): networkOffset + 20 + options
    case .ipv6(let extensions): networkOffset + 40 + extensions.reduce(0) { $0 + length(of: $1) }
    }
  }

  /// Bytes of all headers.
  public var headerLength: Int {
    switch transport {
    case .tcp(let options): transportOffset + 20 + options
    case .udp: transportOffset + 8
    }
  }

  /// Bytes between the transport header's beginning and its checksum.
  public var checksumOffset: Int { transport == .udp ? 6 : 16 }

  /// Bytes of the whole frame.
  public var length: Int { headerLength + payload.count }

  private func length(of header: Extension) -> Int {
    switch header {
    case .hopByHop: 8
    case .routing: 24
    case .destinationOptions: 16
    }
  }

  // ---- Writing it down ----

  /// The frame.
  public func bytes(_ checksum: Checksum) -> [UInt8] {
    let transportLength = length - transportOffset
    let pseudo = InternetChecksum.sum(
      words: [
        InternetChecksum.sum((sourceAddress + finalAddress)[...]), UInt16(protocolNumber),
        UInt16(transportLength),
      ])
    var segment = transportHeader(transportLength, checksum: pseudo) + payload
    if checksum == .full {
      // The field holds the pseudo header's sum, so the sum over all is that with the pseudo header.
      var complete = ~InternetChecksum.sum(segment[...])
      // To UDP, 0 would mean that there is none (RFC 768).
      if transport == .udp, complete == 0 { complete = 0xFFFF }
      segment.replaceSubrange(checksumOffset..<(checksumOffset + 2), with: big(complete))
    }
    return ethernet + networkHeader(transportLength) + segment
  }

  private var ethernet: [UInt8] {
    var bytes = destination.bytes + source.bytes
    for (number, type) in tags.enumerated() { bytes += big(type) + big(UInt16(0x2065 + number)) }
    return bytes + big(isIPv4 ? 0x0800 : 0x86dd)
  }

  /// The network layer is IPv4.
  public var isIPv4: Bool {
    if case .ipv4 = network { true } else { false }
  }

  private var protocolNumber: UInt8 { transport == .udp ? 17 : 6 }

  private var sourceAddress: [UInt8] {
    isIPv4 ? [192, 0, 2, 1] : [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [1]
  }

  /// The address in the network header.
  private var address: [UInt8] {
    isIPv4 ? [198, 51, 100, 77] : [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0x3c, count: 12)
  }

  /// The address that the checksum covers.
  private var finalAddress: [UInt8] {
    guard case .ipv6(let extensions) = network, extensions.contains(.routing) else {
      return address
    }
    return [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0xa5, count: 12)
  }

  private func networkHeader(_ transportLength: Int) -> [UInt8] {
    switch network {
    case .ipv4(let options):
      var header: [UInt8] =
        [0x45 + UInt8(options / 4), 0x02] + big(UInt16(20 + options + transportLength))
        + big(identification) + [0, 0, 64, protocolNumber, 0, 0] + sourceAddress + address
      // Router alert, then nothing at all.
      header += ([0x94, 4, 0, 0] + [UInt8](repeating: 1, count: options)).prefix(options)
      header.replaceSubrange(10..<12, with: big(~InternetChecksum.sum(header[...])))
      return header
    case .ipv6(let extensions):
      let bytes = extensions.reduce(0) { $0 + length(of: $1) }
      var chain: [UInt8] = []
      for (number, header) in extensions.enumerated() {
        let next =
          number + 1 < extensions.count ? extensions[number + 1].rawValue : protocolNumber
        chain += [next, UInt8(length(of: header) / 8 - 1)] + content(of: header)
      }
      return [0x60, 0x2a, 0xbc, 0xde] + big(UInt16(bytes + transportLength))
        + [extensions.first?.rawValue ?? protocolNumber, 64] + sourceAddress + address + chain
    }
  }

  /// An extension header behind its first two bytes.
  private func content(of header: Extension) -> [UInt8] {
    switch header {
    case .hopByHop: [1, 4, 0, 0, 0, 0]  // PadN
    case .routing: [2, 1, 0, 0, 0, 0] + finalAddress
    case .destinationOptions: [1, 12] + [UInt8](repeating: 0, count: 12)
    }
  }

  private func transportHeader(_ transportLength: Int, checksum: UInt16) -> [UInt8] {
    switch transport {
    case .udp: return big(4791) + big(9) + big(UInt16(transportLength)) + big(checksum)
    case .tcp(let options):
      let fixed =
        big(40_001) + big(5201) + big(UInt16(truncatingIfNeeded: sequence >> 16))
        + big(UInt16(truncatingIfNeeded: sequence)) + [0x11, 0x22, 0x33, 0x44]
        + [UInt8((20 + options) / 4) << 4, flags] + big(0x7210) + big(checksum) + [0, 0]
      // Two of nothing, timestamps, nothing.
      let list: [UInt8] = [1, 1, 8, 10, 0xde, 0xad, 0xbe, 0xef, 0x12, 0x34, 0x56, 0x78]
      return fixed + (list + [UInt8](repeating: 1, count: options)).prefix(options)
    }
  }

  private func big(_ value: UInt16) -> [UInt8] {
    [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)]
  }
}
