/// Work on frames that one side of a virtio-net device leaves to the other (virtio v1.4, 5.1.3): of a transmitq
/// what its driver may ask for (CSUM, HOST_…), of a receiveq what its driver takes over (GUEST_CSUM, GUEST_…).
///
/// No `OptionSet`: its generic operations count as such that may lock or allocate, which workers must not.
public struct Offloads: Sendable, Hashable, BitwiseCopyable {
  public let rawValue: UInt8

  @inline(always)
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static var none: Offloads { Offloads(rawValue: 0) }
  /// The checksum of TCP or UDP is not complete; everything else needs this too.
  public static var checksum: Offloads { Offloads(rawValue: 1 << 0) }
  /// TCP over IPv4 and over IPv6, in frames to be cut into segments.
  public static var tcp4: Offloads { Offloads(rawValue: 1 << 1) }
  public static var tcp6: Offloads { Offloads(rawValue: 1 << 2) }
  /// Such frames whose CWR flag belongs to the first segment only.
  public static var ecn: Offloads { Offloads(rawValue: 1 << 3) }
  /// UDP over IPv4 and over IPv6, in frames to be cut into datagrams.
  public static var udp4: Offloads { Offloads(rawValue: 1 << 4) }
  public static var udp6: Offloads { Offloads(rawValue: 1 << 5) }
  /// More datagrams than every receiver takes in one frame. Nobody negotiates it, so these are always cut.
  static var manyDatagrams: Offloads { Offloads(rawValue: 1 << 6) }

  /// What every kernel does for its TAP devices.
  public static var tcp: Offloads { checksum.union(tcp4).union(tcp6).union(ecn) }
  /// Everything that can be asked for here. UFO is not among it (decision 11).
  public static var all: Offloads { tcp.union(udp4).union(udp6) }

  @inline(always)
  public func union(_ other: Offloads) -> Offloads {
    Offloads(rawValue: rawValue | other.rawValue)
  }

  /// Whether everything in `other` is here.
  @inline(always)
  public func covers(_ other: Offloads) -> Bool { other.rawValue & ~rawValue == 0 }

  @inline(always)
  var isEmpty: Bool { rawValue == 0 }

  /// Whether there is more to do than a checksum.
  @inline(always)
  var segments: Bool { rawValue > Offloads.checksum.rawValue }
}
