internal import Synchronization

/// Walking a descriptor chain of a packed ring, whatever its layout (virtio v1.4, 2.8.5 to 2.8.7).
extension PackedQueue {
  /// Translates the chain that begins `ahead` descriptors behind the next one into pieces of this process's
  /// memory; `nil` when none is available there, or the ring has broken.
  ///
  /// A chain that breaks a rule is walked on to its end, as the next one begins there. Invariants: a descriptor is
  /// looked at only when it is available, and no more of them than the ring has (so a loop ends); a chain is
  /// judged for `budget` descriptors; an indirect table stands alone, and lies wholly inside guest memory; in it
  /// WRITE alone counts (2.8.7); every byte of every piece lies in a region; directions are as the queue wants.
  ///
  /// - Parameters: as in `Virtqueue.chain`.
  @inline(never)
  mutating func chain(
    ahead: Int, writable: Bool, output: UnsafeMutablePointer<Piece>, capacity: Int,
    budget: inout Int
  ) -> Chain? {
    let room = ring.size &- unpublished &- ahead
    if room <= 0 || counters.isBroken { return nil }
    var position = next
    position.advance(by: ahead, size: ring.size)
    var rest = ring.rest(position.index)
    if rest & PackedRing.availMask != position.availBits { return nil }
    var pieces = unsafe ChainPieces(output, capacity, memory, region)
    var fault: DropReason?
    var span = 0
    while true {
      span &+= 1
      if fault == nil {
        fault = judge(
          position.index, rest, isFirst: span == 1, writable: writable, &pieces, &budget)
      }
      if PackedRing.flags(rest) & Descriptor.next == 0 { break }
      position.advance(by: 1, size: ring.size)
      // The driver makes a chain's first descriptor available last (2.8.6). Where one without an end would go
      // on, and the next begin, nobody knows.
      if span < room { rest = ring.rest(position.index) }
      if span == room || rest & PackedRing.availMask != position.availBits {
        breakDown(.chainWithoutEnd)
        return nil
      }
    }
    region = pieces.region
    return Chain(
      PackedRing.id(rest), span: UInt16(truncatingIfNeeded: span), pieces, fault)
  }

  @inline(always)
  mutating func plainBuffer(ahead: Int) -> PlainBuffer? {
    if ring.size &- unpublished &- ahead <= 0 || counters.isBroken { return nil }
    var position = next
    position.advance(by: ahead, size: ring.size)
    let rest = ring.rest(position.index)
    guard rest & PackedRing.kindMask == position.availBits | PackedRing.write,
      let base = unsafe memory.translate(
        ring.address(position.index), PackedRing.length(rest), hint: &region)
    else { return nil }
    return PlainBuffer(
      id: PackedRing.id(rest), piece: unsafe Piece(base, PackedRing.length(rest)))
  }

  /// Judges one descriptor of a chain; returns what is wrong with it.
  private func judge(
    _ index: Int, _ rest: UInt64, isFirst: Bool, writable: Bool, _ pieces: inout ChainPieces,
    _ budget: inout Int
  ) -> DropReason? {
    if budget == 0 { return .chainTooLong }
    budget &-= 1
    let flags = PackedRing.flags(rest)
    let length = PackedRing.length(rest)
    let address = ring.address(index)
    if flags & Descriptor.indirect == 0 {
      if (flags & Descriptor.write != 0) != writable { return .malformedDescriptor }
      return pieces.append(address, length)
    }
    guard indirect, isFirst, flags & Descriptor.next == 0, length != 0, length % 16 == 0
    else { return .malformedDescriptor }
    // Words are loaded as aligned words.
    guard let table = unsafe memory.translate(address, length, hint: &pieces.region),
      UInt(bitPattern: table) & 7 == 0
    else {
      guard let table = IndirectTable(memory, address, size: length / 16) else {
        return .malformedDescriptor
      }
      return judge(table, writable: writable, &pieces, &budget)
    }
    for entry in 0..<Int(length / 16) {
      if budget == 0 { return .chainTooLong }
      budget &-= 1
      // SAFETY: the whole table is mapped, and `entry` is inside it.
      let words = unsafe (table + 16 &* entry).assumingMemoryBound(to: Atomic<UInt64>.self)
      let rest = unsafe words[1].load(ordering: .relaxed)
      if (rest & PackedRing.write != 0) != writable { return .malformedDescriptor }
      let address = unsafe words[0].load(ordering: .relaxed)
      if let fault = pieces.append(address, PackedRing.length(rest)) { return fault }
    }
    return nil
  }

  /// Judges an indirect table that does not lie here as one.
  @inline(never)
  private func judge(
    _ table: IndirectTable, writable: Bool, _ pieces: inout ChainPieces, _ budget: inout Int
  ) -> DropReason? {
    for index in 0..<table.size {
      if budget == 0 { return .chainTooLong }
      budget &-= 1
      guard let (address, rest) = table.entry(index) else { return table.fault }
      if (rest & PackedRing.write != 0) != writable { return .malformedDescriptor }
      if let fault = pieces.append(address, PackedRing.length(rest)) { return fault }
    }
    return nil
  }
}
