internal import CLinux
internal import Linux
internal import Synchronization

/// Making buffers available (virtio v1.4, 2.7.13).
extension DriverRing {
  /// Adds a buffer of device-readable, then device-writable segments; `publish` shows it.
  ///
  /// - Returns: the buffer's token, or `nil` when there are too few free descriptors.
  public mutating func add(
    readable: [Segment], writable: [Segment] = [], layout: ChainLayout = .direct
  ) -> UInt16? {
    let segments = readable + writable
    precondition(!segments.isEmpty, "a buffer of no segments")
    let normal: Int
    switch layout {
    case .direct: normal = segments.count
    case .indirect(let after): normal = min(after, segments.count)
    }
    let inTable = segments.count - normal
    precondition(inTable <= max(options.tableEntries, 0), "more segments than a table has entries")
    let needed = normal + (inTable > 0 ? 1 : 0)
    guard needed <= freeCount, let head = nextHead else { return nil }

    func flags(_ index: Int) -> UInt16 {
      index >= readable.count ? RawDescriptor.writeFlag : 0
    }
    for position in 0..<needed {
      let index = pop()
      // The stack's top is the next to be popped.
      let next = position + 1 < needed ? nextHead : nil
      let chained = next != nil ? RawDescriptor.nextFlag : 0
      if position < normal {
        writeDescriptor(
          Int(index),
          RawDescriptor(
            address: segments[position].address, length: segments[position].length,
            flags: flags(position) | chained, next: next ?? 0))
      } else {
        for slot in 0..<inTable {
          let last = slot + 1 == inTable
          writeTableEntry(
            Int(index), slot,
            RawDescriptor(
              address: segments[normal + slot].address, length: segments[normal + slot].length,
              flags: flags(normal + slot) | (last ? 0 : RawDescriptor.nextFlag),
              next: last ? 0 : UInt16(slot + 1)))
        }
        writeDescriptor(
          Int(index),
          RawDescriptor(
            address: tableAddress(Int(index)), length: UInt32(16 * inTable),
            flags: RawDescriptor.indirectFlag))
      }
      unsafe shadow[Int(index)] = Shadow(next: next ?? 0, chain: 0, writable: 0)
    }
    let bytes = writable.reduce(UInt64(0)) { $0 + UInt64($1.length) }
    offer(head, chain: UInt16(needed), writable: UInt32(clamping: bytes))
    return head
  }

  /// Adds a buffer of one descriptor: `add`, without its cost.
  public mutating func add(_ segment: Segment, writable: Bool) -> UInt16? {
    guard freeCount > 0 else { return nil }
    let head = pop()
    place(head, segment, writable: writable)
    return head
  }

  /// Writes the single descriptor `head` and its avail entry.
  @inline(always)
  mutating func place(_ head: UInt16, _ segment: Segment, writable: Bool) {
    writeDescriptor(
      Int(head),
      RawDescriptor(
        address: segment.address, length: segment.length,
        flags: writable ? RawDescriptor.writeFlag : 0))
    offer(head, chain: 1, writable: writable ? segment.length : 0)
  }

  /// Writes the avail entry of a chain whose descriptors are written.
  @inline(always)
  mutating func offer(_ head: UInt16, chain: UInt16, writable: UInt32) {
    // SAFETY: heads come from the stack or from a bounds-checked burst, so they are below `size`.
    unsafe shadow[Int(head)].chain = chain
    unsafe shadow[Int(head)].writable = writable
    outstanding &+= 1
    writeAvailEntry(nextAvail, head)
    nextAvail &+= 1
  }

  /// Shows the device every buffer added so far (2.7.13.3).
  public func publish() {
    availIndex = nextAvail
  }

  /// Whether the device wants to hear of what has been published since this was last asked (2.7.13.4).
  /// With EVENT_IDX a `true` is given once: the caller must kick.
  public mutating func shouldKick() -> Bool {
    let old = kickedAvail
    if nextAvail == old { return false }
    // The device writes its wish, then looks at avail.idx; we wrote avail.idx, then look at its wish. Only
    // a full fence orders a store before a load.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    kickedAvail = nextAvail
    if options.eventIndex { return clx_need_event(availEvent, nextAvail, old) != 0 }
    return usedFlags & 1 == 0
  }

  /// Notifies the device, wanted or not (2.7.13.4, E21).
  public mutating func kick() {
    kickEvent.signal()
    kicks &+= 1
  }

  /// `publish`, and `kick` if the device wants it.
  public mutating func publishAndKick() {
    publish()
    if shouldKick() { kick() }
  }
}
