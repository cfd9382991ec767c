internal import CLinux
internal import Linux
internal import Synchronization

/// Making buffers available (virtio v1.4, 2.7.13 and 2.8.21).
extension DriverRing {
  /// Adds a buffer of device-readable, then device-writable pieces; `publish` shows it. In a packed ring
  /// pieces are all direct or all indirect (2.8.5).
  ///
  /// - Returns: the buffer's token, or `nil` when there are too few free descriptors.
  public mutating func add(
    readable: [Piece], writable: [Piece] = [], layout: ChainLayout = .direct
  ) -> UInt16? {
    let pieces = readable + writable
    precondition(!pieces.isEmpty, "a buffer of no pieces")
    let normal: Int
    switch layout {
    case .direct: normal = pieces.count
    case .indirect(let after): normal = min(after, pieces.count)
    }
    let inTable = pieces.count - normal
    precondition(inTable <= max(options.tableEntries, 0), "more pieces than a table has entries")
    precondition(!options.packed || normal == 0 || inTable == 0, "a packed chain of both kinds")
    let needed = normal + (inTable > 0 ? 1 : 0)
    guard needed <= freeCount, let token = nextToken else { return nil }

    var links = pieces.enumerated().map { index, piece in
      RawDescriptor(
        address: piece.address, length: piece.length,
        flags: index >= readable.count ? RawDescriptor.writeFlag : 0)
    }
    if inTable > 0 {
      // The table of the descriptor that will refer to it; in ring order that of the token.
      let owner =
        unsafe isSequential ? Int(token) : Int(freeStack[freeTokens - needed])
      writeTable(owner, Array(links[normal...]))
      links.removeSubrange(normal...)
      links.append(
        RawDescriptor(
          address: tableAddress(owner), length: UInt32(16 * inTable),
          flags: RawDescriptor.indirectFlag))
    }
    let bytes = UInt32(clamping: writable.reduce(UInt64(0)) { $0 + UInt64($1.length) })
    if isSequential {
      linkInOrder(links, writable: bytes)
    } else {
      link(links, writable: bytes)
    }
    return token
  }

  /// Writes an indirect table. In a split ring entries are linked; in a packed one WRITE alone counts
  /// (2.7.5.3, 2.8.7).
  func writeTable(_ owner: Int, _ entries: [RawDescriptor]) {
    for (slot, entry) in entries.enumerated() {
      var entry = entry
      if options.packed {
        let packed = PackedDescriptor(
          address: entry.address, length: entry.length, flags: entry.flags)
        writeTableEntry(owner, slot, packed)
        continue
      }
      if slot + 1 < entries.count {
        entry.flags |= RawDescriptor.nextFlag
        entry.next = UInt16(slot + 1)
      }
      writeTableEntry(owner, slot, entry)
    }
  }

  /// Writes a chain into descriptors from the stack.
  private mutating func link(_ links: [RawDescriptor], writable: UInt32) {
    guard let head = nextToken else { return }
    for (position, descriptor) in links.enumerated() {
      let index = pop()
      var descriptor = descriptor
      // The stack's top is the next to be popped.
      if position + 1 < links.count, let next = nextToken {
        descriptor.flags |= RawDescriptor.nextFlag
        descriptor.next = next
      }
      writeDescriptor(Int(index), descriptor)
      unsafe shadow[Int(index)] = Shadow(next: descriptor.next)
    }
    offer(head, chain: UInt16(links.count), writable: writable)
  }

  /// Adds a buffer of one descriptor: `add`, without its cost.
  public mutating func add(_ piece: Piece, writable: Bool) -> UInt16? {
    guard freeCount > 0 else { return nil }
    let token = pop()
    place(token, piece, writable: writable)
    return token
  }

  /// Makes the buffer `token` available, one descriptor.
  @inline(always)
  mutating func place(_ token: UInt16, _ piece: Piece, writable: Bool) {
    if isSequential {
      setImage(token, piece, writable: writable)
      return repostInOrder(token)
    }
    writeDescriptor(
      Int(token),
      RawDescriptor(
        address: piece.address, length: piece.length,
        flags: writable ? RawDescriptor.writeFlag : 0))
    offer(token, chain: 1, writable: writable ? piece.length : 0)
  }

  /// Writes the avail entry of a split ring's chain whose descriptors are written.
  @inline(always)
  mutating func offer(_ head: UInt16, chain: UInt16, writable: UInt32) {
    // SAFETY: heads come from the stack or from a bounds-checked burst, so they are below `size`.
    unsafe shadow[Int(head)].chain = chain
    unsafe shadow[Int(head)].writable = writable
    outstanding &+= 1
    writeAvailEntry(nextAvail, head)
    nextAvail &+= 1
    unkicked &+= 1
  }

  /// Shows the device every buffer added so far (2.7.13.3, 2.8.21.1).
  public mutating func publish() {
    if options.packed { publishPacked() } else { availIndex = nextAvail }
  }

  /// Whether the device wants to hear of what has been published since this was last asked (2.7.13.4,
  /// 2.8.21.2). With EVENT_IDX a `true` is given once: the caller must kick.
  public mutating func shouldKick() -> Bool {
    if options.packed { return shouldKickPacked() }
    let count = unkicked
    if count == 0 { return false }
    // The device writes its wish, then looks at avail.idx; we wrote avail.idx, then look at its wish. Only
    // a full fence orders a store before a load.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    unkicked = 0
    if !options.eventIndex { return usedFlags & 1 == 0 }
    // With a whole lap of the index behind us every event lies in between, whatever it is.
    guard let lap = UInt16(exactly: count) else { return true }
    return clx_need_event(availEvent, nextAvail, nextAvail &- lap) != 0
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
