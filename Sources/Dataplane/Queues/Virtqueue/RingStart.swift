internal import Linux

/// Validating a ring and translating its three parts, once.
///
/// SAFETY: the three addresses come from `RingSpace.host`, which proves that the whole part is mapped in one piece;
/// the ring's record keeps the mapping alive for as long as a worker may use them.
extension SplitQueue {
  /// - Parameter state: the queue's; a fault of the ring before is cleared.
  init(
    _ setup: RingSetup, memory: some RingSpace, state: QueueState
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
    state.counters.setFault(nil)
    state.setJournal(nil)
    unsafe self.init(
      ring: SplitRing(
        descriptors: descriptors, avail: avail, used: used, size: UInt16(size),
        mask: UInt16(size - 1)), memory: memory.view, state: state,
      headerSize: setup.version1 || setup.mergeable ? 12 : 10, eventIndex: setup.eventIndex,
      indirect: setup.indirect, mergeable: setup.mergeable, offloads: setup.offloads,
      nextAvail: base, seenAvail: base, nextUsed: 0, signalledUsed: 0)
    // A split ring's used index is not part of the base; the ring's memory has it (vhost-user:
    // VHOST_USER_SET_VRING_BASE).
    goOnAtUsed(otherwise: base)
    // Until the first entry is looked for, the driver may change its mind.
    seenAvail = nextAvail
  }
}

extension PackedQueue {
  /// - Parameter state: the queue's; a fault of the ring before is cleared.
  init(
    _ setup: RingSetup, isTransmitq: Bool, memory: some RingSpace, state: QueueState
  ) throws(DataplaneError) {
    let size = setup.size
    guard (1...32768).contains(size) else {
      throw DataplaneError("a packed ring of \(size) descriptors: not within 1…32768")
    }
    // What was taken and not given back is taken again. Some front-ends know of avail alone, and leave the other half 0.
    let used = setup.base >> 16
    var next = PackedPosition(word: UInt16(truncatingIfNeeded: used == 0 ? setup.base : used))
    guard next.index < size else {
      throw DataplaneError("a packed ring of \(size) descriptors can't begin at \(next.index)")
    }
    let parts = setup.parts
    let descriptors = unsafe try memory.place(of: parts[0])
    let driver = unsafe try memory.place(of: parts[1])
    let device = unsafe try memory.place(of: parts[2])
    state.counters.setFault(nil)
    let ring = unsafe PackedRing(
      descriptors: descriptors, driverArea: driver, deviceArea: device, size: size)
    if let journal = setup.journal {
      if let known = journal.position(of: setup, ring) { next = known }
      journal.begin(setup, at: next)
    }
    state.setJournal(setup.journal)
    self.init(
      ring: ring, memory: memory.view, state: state,
      headerSize: setup.version1 || setup.mergeable ? 12 : 10, eventIndex: setup.eventIndex,
      indirect: setup.indirect, mergeable: setup.mergeable, offloads: setup.offloads,
      // A receiveq's lengths differ, and each must be told.
      batches: setup.inOrder && isTransmitq, start: next.word, next: next)
  }
}

extension RingSetup {
  /// Makes the ring's queue, of which no worker knows yet.
  func make(_ place: QueuePlace, _ memory: GuestMemory, _ iotlb: IOTLB?) throws -> RunningQueue {
    let space: any RingSpace =
      iotlb.map {
        DeviceSpace($0, memory, place.state.view, isTransmitq: place.isTransmitq)
      } ?? memory
    if packed {
      let queue = try PackedQueue(
        self, isTransmitq: place.isTransmitq, memory: space, state: place.state)
      return unsafe try make(queue, place, space, try logged(memory, iotlb, space)) {
        unsafe .packed($0)
      }
    }
    let queue = try SplitQueue(self, memory: space, state: place.state)
    return unsafe try make(queue, place, space, try logged(memory, iotlb, space)) {
      unsafe .split($0)
    }
  }

  private func logged(
    _ memory: GuestMemory, _ iotlb: IOTLB?, _ space: some RingSpace
  ) throws(DataplaneError) -> LoggedRing? {
    guard let log else { return nil }
    let logged = try LoggedRing(log, self, memory, iotlb, space)
    // The queue was made, which may have mended the ring (`RingJournal`).
    try logged.markParts(self, space)
    return logged
  }

  private func make<Layout: Virtqueue>(
    _ value: Layout, _ place: QueuePlace, _ space: any RingSpace, _ logged: LoggedRing?,
    _ name: (UnsafeMutablePointer<Layout>) -> Queue
  ) throws -> RunningQueue {
    let bytes = MemoryLayout<Layout>.size
    let block = unsafe try place.arena.allocate(bytes: bytes)
    // SAFETY: the block has room for one.
    let queue = unsafe block.bindMemory(to: Layout.self, capacity: 1)
    unsafe queue.initialize(to: value)
    place.state.setCall(call)
    place.state.setLog(logged?.view)
    // While it is polled nobody need kick. In a receiveq nobody need ever.
    unsafe queue.pointee.suppressKicks()
    unsafe queue.pointee.lookAhead(isTransmitq: place.isTransmitq)
    var resources: [any Sendable & AnyObject] = [space]
    if let keepsJournal { resources.append(keepsJournal) }
    if let logged { resources.append(logged) }
    return unsafe RunningQueue(
      name(queue), at: block, bytes: bytes, resources: resources, space: space, log: log,
      headerSize: UInt8(value.headerSize), offloads: offloads, isEnabled: enabled,
      doorbell: place.isTransmitq ? kick.map { Doorbell(descriptor: $0, isEdge: true) } : nil,
      call: call)
  }
}
