/// Where the three parts of a ring lie in guest memory (virtio v1.4, 2.7 and 2.8).
public struct RingParts: Sendable {
  public let descriptors: GuestBuffer
  /// The driver area: the avail ring, or the driver's event suppression structure of a packed ring.
  public let avail: GuestBuffer
  /// The device area: the used ring, or the device's event suppression structure of a packed ring.
  public let used: GuestBuffer

  /// Any three buffers, even overlapping or misaligned ones. Each must be as long as the ring needs; the
  /// shared words must be aligned for this process to touch them: a split ring's `avail` and `used` to 2 and
  /// 4 bytes, a packed ring's to 4.
  public init(descriptors: GuestBuffer, avail: GuestBuffer, used: GuestBuffer) {
    self.descriptors = descriptors
    self.avail = avail
    self.used = used
  }

  /// Allocates the parts of a ring of `size` descriptors, each on cache lines of its own; `nil` when the
  /// memory has no room.
  public init?(size: Int, packed: Bool = false, in memory: GuestMemory, region: Int? = nil) {
    guard
      let descriptors = memory.allocate(RingParts.descriptorBytes(size), region: region),
      let avail = memory.allocate(RingParts.availBytes(size, packed: packed), region: region),
      let used = memory.allocate(RingParts.usedBytes(size, packed: packed), region: region)
    else { return nil }
    self.init(descriptors: descriptors, avail: avail, used: used)
  }

  public static func descriptorBytes(_ size: Int) -> Int { 16 * size }
  public static func availBytes(_ size: Int, packed: Bool = false) -> Int {
    packed ? 4 : 6 + 2 * size
  }
  public static func usedBytes(_ size: Int, packed: Bool = false) -> Int {
    packed ? 4 : 6 + 8 * size
  }
}
