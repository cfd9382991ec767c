/// Where the three parts of a split ring lie in guest memory (virtio v1.4, 2.7).
public struct RingParts: Sendable {
  public let descriptors: GuestBuffer
  public let avail: GuestBuffer
  public let used: GuestBuffer

  /// Any three buffers, even overlapping or misaligned ones. Each must be as long as the ring needs; the
  /// shared words of `avail` and `used` must be aligned to 2 and 4 bytes for this process to touch them.
  public init(descriptors: GuestBuffer, avail: GuestBuffer, used: GuestBuffer) {
    self.descriptors = descriptors
    self.avail = avail
    self.used = used
  }

  /// Allocates the parts of a ring of `size` descriptors, each on cache lines of its own; `nil` when the
  /// memory has no room.
  public init?(size: Int, in memory: GuestMemory, region: Int? = nil) {
    guard
      let descriptors = memory.allocate(RingParts.descriptorBytes(size), region: region),
      let avail = memory.allocate(RingParts.availBytes(size), region: region),
      let used = memory.allocate(RingParts.usedBytes(size), region: region)
    else { return nil }
    self.init(descriptors: descriptors, avail: avail, used: used)
  }

  public static func descriptorBytes(_ size: Int) -> Int { 16 * size }
  public static func availBytes(_ size: Int) -> Int { 6 + 2 * size }
  public static func usedBytes(_ size: Int) -> Int { 6 + 8 * size }
}
