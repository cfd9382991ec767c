internal import CLinux

/// What the frames of one flow have in common, in both directions: a number made of their addresses and ports.
///
/// Frames of one flow always have the same; different flows seldom do. A hint: it says on which queue pair a
/// frame is best received, and nothing else. So the bytes behind those that a burst holds may be read here from
/// the memory of their sender, who may be changing them: nothing is judged by them, and what is delivered is
/// read by whoever delivers it. A length found in them is loaded once, and compared with the frame's own.
struct FlowHash: Equatable {
  let word: UInt32

  /// - Parameters:
  ///   - one: address and port of one end, in any form; `other`: those of the other end in the same form.
  ///   - kind: what tells apart ends that have the same form.
  ///   - key: random, so that nobody can foresee which flows meet.
  @inline(always)
  init(_ one: UInt64, _ other: UInt64, kind: UInt8, key: UInt64) {
    // The lesser end first: which of them sends is no matter.
    let first = (min(one, other) ^ key).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
    let second = (max(one, other) ^ first.high ^ first.low &+ UInt64(kind))
      .multipliedFullWidth(by: KeyedHash.multiplier(key))
    let sum = second.high ^ second.low
    word = UInt32(truncatingIfNeeded: sum ^ sum &>> 32)
  }
}

extension FlowHash {
  /// Bytes of a frame in pieces that are looked at, copied to one place: tags, IPv6, and some extension headers.
  static let reach = 128
  /// Extension headers of IPv6 that are passed over on the way to the ports.
  private static let extensionHeaders = 4

  private enum Kind {
    static let stations: UInt8 = 0
    static let tcp: UInt8 = 6
    static let udp: UInt8 = 17
    static let hosts: UInt8 = 255
  }

  /// The flow of frame `index`: of TCP or UDP over IPv4 or IPv6, whatever VLAN tags are before them, the
  /// addresses and ports; of other packets and of fragments, whose ports only the first one has, the IP
  /// addresses; of every other frame the Ethernet addresses.
  ///
  /// - Parameter scratch: `reach` bytes.
  init(_ burst: Burst, _ index: Int, key: UInt64, scratch: UnsafeMutableRawPointer) {
    let header = unsafe burst.headers[index]
    var bytes = unsafe Bytes(burst, index, scratch)
    var type = header.type
    if header.isTagged { type = bytes.skipTags(type) }
    switch type {
    case 0x0800:
      if let hash = FlowHash(ipv4: bytes, key: key) {
        self = hash
        return
      }
    case 0x86DD:
      if let hash = FlowHash(ipv6: bytes, key: key) {
        self = hash
        return
      }
    default: break
    }
    self.init(header.source.word, header.destination.word, kind: Kind.stations, key: key)
  }

  /// RFC 791.
  @inline(always)
  private init?(ipv4 packet: Bytes, key: UInt64) {
    guard packet.count >= 20 else { return nil }
    let (headerLength, next) = (Int(packet.byte(0) & 15) &* 4, packet.byte(9))
    let addresses = packet.word(12)
    let (source, destination) = (addresses & 0xFFFF_FFFF, addresses &>> 32)
    // No fragment: neither more to come nor an offset.
    if next == Kind.tcp || next == Kind.udp, packet.half(6) & 0x3FFF == 0, headerLength >= 20,
      packet.count >= headerLength &+ 4
    {
      self.init(
        source &<< 16 | UInt64(packet.half(headerLength)),
        destination &<< 16 | UInt64(packet.half(headerLength &+ 2)), kind: next, key: key)
    } else {
      self.init(source, destination, kind: Kind.hosts, key: key)
    }
  }

  /// RFC 8200.
  @inline(always)
  private init?(ipv6 packet: Bytes, key: UInt64) {
    guard packet.count >= 40 else { return nil }
    let source = FlowHash.fold(packet.word(8), packet.word(16))
    let destination = FlowHash.fold(packet.word(24), packet.word(32))
    var next = packet.byte(6)
    var offset = 40
    for _ in 0...FlowHash.extensionHeaders {
      if next == Kind.tcp || next == Kind.udp {
        if packet.count < offset &+ 4 { break }
        self.init(
          source ^ UInt64(packet.half(offset)), destination ^ UInt64(packet.half(offset &+ 2)),
          kind: next, key: key)
        return
      }
      // Hop-by-hop options, routing, destination options: each tells its length. Behind a fragment header (44) not
      // every packet has ports.
      guard next == 0 || next == 43 || next == 60, packet.count >= offset &+ 2 else { break }
      next = packet.byte(offset)
      offset &+= 8 &+ 8 &* Int(packet.byte(offset &+ 1))
    }
    self.init(source, destination, kind: Kind.hosts, key: key)
  }

  /// An IPv6 address in one word, whose low bits are good for a port.
  @inline(always)
  private static func fold(_ high: UInt64, _ low: UInt64) -> UInt64 {
    let product = (high ^ 0x9E37_79B9_7F4A_7C15).multipliedFullWidth(by: low | 1)
    return product.high ^ product.low ^ low
  }
}

/// A frame's bytes behind its Ethernet header, in one piece.
///
/// SAFETY: whoever asks for bytes has compared their place with `count`, which lies within the frame or the scratch
/// memory that its beginning was copied to.
@safe private struct Bytes {
  private var base: UnsafeRawPointer
  private(set) var count: Int

  @inline(always)
  init(_ burst: Burst, _ index: Int, _ scratch: UnsafeMutableRawPointer) {
    let length = Int(unsafe burst.lengths[index])
    if let address = unsafe UnsafeRawPointer(bitPattern: burst.addresses[index]),
      !burst.isRewritten(index)
    {
      unsafe base = unsafe address + EthernetHeader.size
      count = length &- EthernetHeader.size
    } else {
      let taken = min(length, FlowHash.reach)
      unsafe burst.copyFront(of: index, taken, to: scratch)
      unsafe base = UnsafeRawPointer(scratch + EthernetHeader.size)
      count = taken &- EthernetHeader.size
    }
  }

  @inline(always)
  func byte(_ offset: Int) -> UInt8 { unsafe clx_fetch8(base + offset) }

  /// Two bytes in the network's order.
  @inline(always)
  func half(_ offset: Int) -> UInt16 { UInt16(bigEndian: unsafe clx_fetch16(base + offset)) }

  /// Eight bytes, the first of them the lowest.
  @inline(always)
  func word(_ offset: Int) -> UInt64 { UInt64(littleEndian: unsafe clx_fetch64(base + offset)) }

  /// Moves behind one or two VLAN tags (IEEE 802.1Q, 802.1ad) and returns the type that follows.
  mutating func skipTags(_ first: UInt16) -> UInt16 {
    var type = first
    for _ in 0..<2 where type == 0x8100 || type == 0x88A8 {
      if count < 4 { return 0 }
      type = half(2)
      unsafe base += 4
      count &-= 4
    }
    return type
  }
}

extension Burst {
  /// Whether a frame begins with other bytes than its sender's.
  @inline(always)
  fileprivate func isRewritten(_ index: Int) -> Bool {
    unsafe special.marked != 0 && special.fronts[index].isRewritten
  }

  /// Copies the first `length` bytes of a frame, or as many as there are, to `target`.
  @inline(never)
  fileprivate func copyFront(of index: Int, _ length: Int, to target: UnsafeMutableRawPointer) {
    var place = unsafe Piece(target, UInt32(truncatingIfNeeded: length))
    unsafe withUnsafeMutablePointer(to: &place) { place in
      var cursor = unsafe PieceCursor(place, count: 1)
      let front = unsafe front(of: index)
      unsafe cursor.write(front.base, min(front.length, length))
      var rest = rest(of: index)
      cursor.copy(from: &rest, unsafe length &- front.length)
    }
  }
}
