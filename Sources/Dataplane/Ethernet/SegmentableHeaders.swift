/// Where the headers of a frame that is to be cut into segments lie: Ethernet with up to two VLAN tags, IPv4 with
/// options or IPv6 with extension headers, TCP with options or UDP.
struct SegmentableHeaders {
  /// Offset of the IP header.
  let network: Int
  let isIPv6: Bool
  /// Offset of the TCP or UDP header.
  let transport: Int
  let isTCP: Bool
  /// Bytes of all headers together.
  let length: Int

  /// Bytes of the longest headers that are looked at: enough for everything but a long list of IPv6 extension
  /// headers, which no sender hands to its device to be cut.
  static let maximum = 256
  private static let maximumTags = 2

  /// Offset of the checksum field in the transport header.
  var checksumOffset: UInt16 { isTCP ? 16 : 6 }

  /// Finds the headers, or nothing: another protocol, a fragment, headers that are cut off or contradict themselves.
  ///
  /// - Parameters:
  ///   - bytes: the frame's first `count` bytes, in private memory: what is found is true of them only.
  ///   - count: no more than the frame has.
  init?(_ bytes: UnsafePointer<UInt8>, count: Int) {
    // SAFETY: every offset is compared with `count` before it is read.
    func byte(_ offset: Int) -> Int { Int(unsafe bytes[offset]) }
    func word(_ offset: Int) -> Int { byte(offset) &<< 8 | byte(offset &+ 1) }
    var place = 12
    var tags = 0
    while true {
      guard place &+ 2 <= count else { return nil }
      let type = word(place)
      if type == 0x8100 || type == 0x88A8 {
        tags &+= 1
        if tags > SegmentableHeaders.maximumTags { return nil }
        place &+= 4
        continue
      }
      guard type == 0x0800 || type == 0x86DD else { return nil }
      isIPv6 = type == 0x86DD
      break
    }
    network = place &+ 2
    var upper: Int
    var offset: Int
    if isIPv6 {
      guard network &+ 40 <= count, byte(network) &>> 4 == 6 else { return nil }
      upper = byte(network &+ 6)
      offset = network &+ 40
      // Hop-by-hop options, routing, destination options (RFC 8200, 4); each at least 8 bytes.
      while upper == 0 || upper == 43 || upper == 60 {
        guard offset &+ 8 <= count else { return nil }
        upper = byte(offset)
        offset &+= (byte(offset &+ 1) &+ 1) &* 8
      }
    } else {
      guard network &+ 20 <= count, byte(network) &>> 4 == 4 else { return nil }
      let header = (byte(network) & 15) &* 4
      // No fragment: neither "more fragments" nor an offset.
      guard header >= 20, word(network &+ 6) & 0x3FFF == 0 else { return nil }
      upper = byte(network &+ 9)
      offset = network &+ header
    }
    transport = offset
    switch upper {
    case 6:
      isTCP = true
      guard offset &+ 20 <= count else { return nil }
      let header = byte(offset &+ 12) &>> 4 &* 4
      guard header >= 20, offset &+ header <= count else { return nil }
      length = offset &+ header
    case 17:
      isTCP = false
      guard offset &+ 8 <= count else { return nil }
      length = offset &+ 8
    default: return nil
    }
  }

  /// Has the lengths in IP's and UDP's headers be those of the frame, whatever the sender left there: of a packet to be cut
  /// they are often 0, and each segment gets its own; but not every receiver that takes it whole puts them
  /// right itself.
  ///
  /// - Parameters:
  ///   - bytes: `length` bytes, in which these headers were found.
  ///   - frame: bytes of the whole frame.
  /// - Returns: `false` when there is no such length.
  func setLengths(_ bytes: UnsafeMutablePointer<UInt8>, frame: Int) -> Bool {
    // SAFETY: every offset is below `length`, as these headers were found there.
    func set(_ value: Int, _ offset: Int) -> Bool {
      let (high, low) = (UInt8(truncatingIfNeeded: value &>> 8), UInt8(truncatingIfNeeded: value))
      if unsafe bytes[offset] == high && bytes[offset &+ 1] == low { return false }
      unsafe bytes[offset] = high
      unsafe bytes[offset &+ 1] = low
      return true
    }
    let packet = isIPv6 ? frame &- network &- 40 : frame &- network
    if packet > 0xFFFF { return false }
    if isIPv6 {
      _ = set(packet, network &+ 4)
    } else if set(packet, network &+ 2) {
      _ = set(0, network &+ 10)
      var sum = Checksum()
      unsafe sum.add(bytes + network, Int(bytes[network] & 15) &* 4)
      _ = set(Int((~sum.folded).bigEndian), network &+ 10)
    }
    if !isTCP { _ = set(frame &- transport, transport &+ 4) }
    return true
  }
}
