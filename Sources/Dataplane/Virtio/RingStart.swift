internal import Linux

/// Validating a ring and translating its three parts, once.
///
/// SAFETY: the three addresses come from `GuestMemory.host`, which proves that the whole part lies inside one
/// mapping; the ring's record keeps the mapping alive for as long as a worker may use them.
extension SplitQueue {
  /// - Parameter counters: of the queue the ring belongs to; a fault of the ring before is cleared.
  init(
    _ setup: RingSetup, memory: GuestMemory, counters: Counters
  ) throws(DataplaneError) {
    let size = setup.size
    guard size > 0, size <= 32768, size & (size - 1) == 0 else {
      throw DataplaneError("a split ring of \(size) entries: not a power of two up to 32768")
    }
    let descriptors = unsafe try memory.part(
      "descriptor table", setup.descriptors, 16 * size, alignment: 16)
    let avail = unsafe try memory.part("avail ring", setup.avail, 6 + 2 * size, alignment: 2)
    let used = unsafe try memory.part("used ring", setup.used, 6 + 8 * size, alignment: 4)
    let base = UInt16(truncatingIfNeeded: setup.base)
    counters.setFault(nil)
    unsafe self.init(
      ring: SplitRing(
        descriptors: descriptors, avail: avail, used: used, size: UInt16(size),
        mask: UInt16(size - 1)), memory: memory.view, counters: counters,
      headerSize: setup.version1 || setup.mergeable ? 12 : 10, eventIndex: setup.eventIndex,
      indirect: setup.indirect, mergeable: setup.mergeable, offloads: setup.offloads,
      call: setup.call?.raw ?? -1, nextAvail: base, seenAvail: base, nextUsed: 0, signalledUsed: 0)
    // A split ring's used index is not part of the base; the ring's memory has it (vhost-user:
    // VHOST_USER_SET_VRING_BASE).
    nextUsed = ring.usedIndex
    signalledUsed = nextUsed
  }
}

extension PackedQueue {
  /// - Parameter counters: of the queue the ring belongs to; a fault of the ring before is cleared.
  init(
    _ setup: RingSetup, isTransmitq: Bool, memory: GuestMemory, counters: Counters
  ) throws(DataplaneError) {
    let size = setup.size
    guard (1...32768).contains(size) else {
      throw DataplaneError("a packed ring of \(size) descriptors: not within 1…32768")
    }
    let next = PackedPosition(word: UInt16(truncatingIfNeeded: setup.base))
    guard next.index < size else {
      throw DataplaneError("a packed ring of \(size) descriptors can't begin at \(next.index)")
    }
    let descriptors = unsafe try memory.part(
      "descriptor ring", setup.descriptors, 16 * size, alignment: 16)
    let driver = unsafe try memory.part("driver area", setup.avail, 4, alignment: 4)
    let device = unsafe try memory.part("device area", setup.used, 4, alignment: 4)
    counters.setFault(nil)
    unsafe self.init(
      ring: PackedRing(
        descriptors: descriptors, driverArea: driver, deviceArea: device, size: size),
      memory: memory.view, counters: counters,
      headerSize: setup.version1 || setup.mergeable ? 12 : 10, eventIndex: setup.eventIndex,
      indirect: setup.indirect, mergeable: setup.mergeable, offloads: setup.offloads,
      // A receiveq's lengths differ, and each must be told.
      batches: setup.inOrder && isTransmitq, call: setup.call?.raw ?? -1, next: next)
  }
}

extension VirtqueuePointer {
  /// Makes the queue that `setup` asks for at `block`, which has `byteCount` bytes.
  init(
    _ setup: RingSetup, at block: UnsafeMutableRawPointer, isTransmitq: Bool, memory: GuestMemory,
    counters: Counters
  ) throws(DataplaneError) {
    if setup.packed {
      let value = try PackedQueue(
        setup, isTransmitq: isTransmitq, memory: memory, counters: counters)
      let queue = unsafe block.bindMemory(to: PackedQueue.self, capacity: 1)
      unsafe queue.initialize(to: value)
      self = unsafe .packed(queue)
    } else {
      let value = try SplitQueue(setup, memory: memory, counters: counters)
      let queue = unsafe block.bindMemory(to: SplitQueue.self, capacity: 1)
      unsafe queue.initialize(to: value)
      self = unsafe .split(queue)
    }
  }
}

extension GuestMemory {
  /// The address here of one part of a ring.
  fileprivate func part(
    _ name: String, _ address: UInt64, _ length: Int, alignment: UInt64
  ) throws(DataplaneError) -> UnsafeMutableRawPointer {
    guard let place = unsafe host(user: address, length: length) else {
      throw DataplaneError(
        "the \(name) at 0x\(String(address, radix: 16)), \(length) bytes, lies outside the memory table"
      )
    }
    // Both must be aligned: the driver's view by the specification, ours because the words are atomic.
    guard address % alignment == 0, UInt64(UInt(bitPattern: place)) % alignment == 0 else {
      throw DataplaneError(
        "the \(name) at 0x\(String(address, radix: 16)) is not aligned to \(alignment) bytes")
    }
    return unsafe place
  }
}
