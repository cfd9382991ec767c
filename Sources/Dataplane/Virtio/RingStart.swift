internal import Linux

/// Validating a ring and translating its three parts, once.
///
/// SAFETY: the three addresses come from `RingSpace.host`, which proves that the whole part is mapped in one piece;
/// the ring's record keeps the mapping alive for as long as a worker may use them.
extension SplitQueue {
  /// - Parameter counters: of the queue the ring belongs to; a fault of the ring before is cleared.
  init(
    _ setup: RingSetup, memory: some RingSpace, counters: Counters
  ) throws(DataplaneError) {
    let size = setup.size
    guard size > 0, size <= 32768, size & (size - 1) == 0 else {
      throw DataplaneError("a split ring of \(size) entries: not a power of two up to 32768")
    }
    let parts = setup.parts
    let descriptors = unsafe try memory.place(of: parts[0])
    let avail = unsafe try memory.place(of: parts[1])
    let used = unsafe try memory.place(of: parts[2])
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
    _ setup: RingSetup, isTransmitq: Bool, memory: some RingSpace, counters: Counters
  ) throws(DataplaneError) {
    let size = setup.size
    guard (1...32768).contains(size) else {
      throw DataplaneError("a packed ring of \(size) descriptors: not within 1…32768")
    }
    let next = PackedPosition(word: UInt16(truncatingIfNeeded: setup.base))
    guard next.index < size else {
      throw DataplaneError("a packed ring of \(size) descriptors can't begin at \(next.index)")
    }
    let parts = setup.parts
    let descriptors = unsafe try memory.place(of: parts[0])
    let driver = unsafe try memory.place(of: parts[1])
    let device = unsafe try memory.place(of: parts[2])
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
    _ setup: RingSetup, at block: UnsafeMutableRawPointer, isTransmitq: Bool,
    memory: some RingSpace,
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
