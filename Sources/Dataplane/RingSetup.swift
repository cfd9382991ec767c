public import Linux

/// What a ring is started with.
public struct RingSetup: Sendable {
  /// Entries: a power of two, 1 to 32,768.
  public var size: Int
  /// Front-end user addresses of the descriptor table (16-byte aligned), the avail ring (2) and the used
  /// ring (4) (virtio v1.4, 2.7).
  public var descriptors: UInt64
  public var avail: UInt64
  public var used: UInt64
  /// Next entry of the avail ring to take.
  public var base: UInt16
  public var eventIndex: Bool
  public var indirect: Bool
  public var mergeable: Bool
  /// VIRTIO_F_VERSION_1: the virtio-net header has 12 bytes whatever else holds.
  public var version1: Bool
  public var enabled: Bool
  /// `nil`: the driver does not kick, the worker must poll.
  public var kick: OwnedFD?
  /// `nil`: the driver polls and wants no interrupts.
  public var call: OwnedFD?

  public init(
    size: Int, descriptors: UInt64, avail: UInt64, used: UInt64, base: UInt16, eventIndex: Bool,
    indirect: Bool, mergeable: Bool, version1: Bool, enabled: Bool, kick: OwnedFD?, call: OwnedFD?
  ) {
    self.size = size
    self.descriptors = descriptors
    self.avail = avail
    self.used = used
    self.base = base
    self.eventIndex = eventIndex
    self.indirect = indirect
    self.mergeable = mergeable
    self.version1 = version1
    self.enabled = enabled
    self.kick = kick
    self.call = call
  }
}

/// Why the data plane refused something: one sentence for a person.
public struct DataplaneError: Error, Sendable, Equatable, CustomStringConvertible {
  public let description: String

  init(_ description: String) {
    self.description = description
  }
}

extension SplitQueue {
  /// Validates a ring and translates its three parts, once.
  ///
  /// SAFETY: the three addresses come from `GuestMemory.host`, which proves that the whole part lies inside
  /// one mapping; the ring's record keeps the mapping alive for as long as a worker may use them.
  ///
  /// - Parameter counters: of the queue the ring belongs to; a fault of the ring before is cleared.
  init(
    _ setup: RingSetup, memory: GuestMemory, counters: Counters
  ) throws(DataplaneError) {
    let size = setup.size
    guard size > 0, size <= 32768, size & (size - 1) == 0 else {
      throw DataplaneError("a split ring of \(size) entries: not a power of two up to 32768")
    }
    let descriptors = unsafe try SplitQueue.part(
      "descriptor table", setup.descriptors, 16 * size, alignment: 16, memory)
    let avail = unsafe try SplitQueue.part(
      "avail ring", setup.avail, 6 + 2 * size, alignment: 2, memory)
    let used = unsafe try SplitQueue.part(
      "used ring", setup.used, 6 + 8 * size, alignment: 4, memory)
    counters.setFault(nil)
    unsafe self.init(
      descriptors: descriptors, avail: avail, used: used, memory: memory.view, counters: counters,
      size: UInt16(size), mask: UInt16(size - 1),
      headerSize: setup.version1 || setup.mergeable ? 12 : 10, eventIndex: setup.eventIndex,
      indirect: setup.indirect, mergeable: setup.mergeable, call: setup.call?.raw ?? -1,
      nextAvail: setup.base, seenAvail: setup.base, nextUsed: 0, signalledUsed: 0)
    // A split ring's used index is not part of the base; the ring's memory has it (vhost-user:
    // VHOST_USER_SET_VRING_BASE).
    nextUsed = usedIndex
    signalledUsed = nextUsed
  }

  private static func part(
    _ name: String, _ address: UInt64, _ length: Int, alignment: UInt64, _ memory: GuestMemory
  ) throws(DataplaneError) -> UnsafeMutableRawPointer {
    guard let host = unsafe memory.host(user: address, length: length) else {
      throw DataplaneError(
        "the \(name) at 0x\(String(address, radix: 16)), \(length) bytes, lies outside the memory table"
      )
    }
    // Both must be aligned: the driver's view by the specification, ours because the words are atomic.
    guard address % alignment == 0, UInt64(UInt(bitPattern: host)) % alignment == 0 else {
      throw DataplaneError(
        "the \(name) at 0x\(String(address, radix: 16)) is not aligned to \(alignment) bytes")
    }
    return unsafe host
  }
}
