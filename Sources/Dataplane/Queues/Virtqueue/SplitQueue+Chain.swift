/// Walking a descriptor chain of a split ring, whatever its layout (virtio v1.4, 2.7.4.1, 2.7.5).
extension SplitQueue {
  /// Translates the chain that is `ahead` places behind the next one into pieces of this process's memory; `nil`
  /// when none is available there, or the ring has broken.
  ///
  /// - Parameters: as in `Virtqueue.chain`.
  mutating func chain(
    ahead: Int, writable: Bool, output: UnsafeMutablePointer<Piece>, capacity: Int,
    budget: inout Int
  ) -> Chain? {
    if available(ahead &+ 1) <= ahead { return nil }
    let head = ring.availEntry(nextAvail &+ UInt16(truncatingIfNeeded: ahead))
    if head >= ring.size {
      breakDown(.headOutOfRange)
      return nil
    }
    var pieces = unsafe ChainPieces(output, capacity, memory, region)
    let fault = walk(head: head, writable: writable, &pieces, budget: &budget)
    region = pieces.region
    return Chain(head, span: 1, pieces, fault)
  }

  @inline(always)
  mutating func plainBuffer(ahead: Int) -> PlainBuffer? {
    if available(ahead &+ 1) <= ahead { return nil }
    let head = ring.availEntry(nextAvail &+ UInt16(truncatingIfNeeded: ahead))
    if head >= ring.size { return nil }
    let descriptor = unsafe Descriptor(ring.descriptors, head)
    guard
      descriptor.flags & (Descriptor.next | Descriptor.write | Descriptor.indirect)
        == Descriptor.write,
      let base = unsafe memory.translate(descriptor.address, descriptor.length, hint: &region)
    else { return nil }
    return PlainBuffer(id: head, piece: unsafe Piece(base, descriptor.length))
  }

  /// Collects the pieces of the chain that begins at `head`; returns what is wrong with it.
  ///
  /// Invariants, each beside its check below: an index is inside its table before it is used; a chain has
  /// no more links than the larger of its table and the ring (so a loop ends); one indirect table at most,
  /// wholly inside guest memory, and nothing after it (2.7.5.3.1); every byte of every piece lies in a
  /// region; directions are as the queue wants. The WRITE flag of a descriptor that refers to an indirect
  /// table is ignored (2.7.5.3.2).
  ///
  /// SAFETY: `table` is the ring's own or an indirect one proved to be mapped for `tableSize` entries.
  ///
  /// - Parameter head: below `size`.
  @inline(never)
  private func walk(
    head: UInt16, writable: Bool, _ pieces: inout ChainPieces, budget: inout Int
  ) -> DropReason? {
    var table = unsafe ring.descriptors
    var tableSize = UInt32(ring.size)
    var index = UInt32(head)
    var inIndirect = false
    var steps = 0
    let wanted = writable ? Descriptor.write : 0
    while true {
      if budget == 0 { return .chainTooLong }
      budget &-= 1
      // `index` < `tableSize`: checked by the caller for the head and below for each `next`.
      let descriptor = unsafe Descriptor(table, UInt16(truncatingIfNeeded: index))
      steps &+= 1
      if steps > Int(max(tableSize, UInt32(ring.size))) { return .chainTooLong }

      if descriptor.flags & Descriptor.indirect != 0 {
        guard indirect, !inIndirect, descriptor.flags & Descriptor.next == 0,
          descriptor.length != 0, descriptor.length % 16 == 0,
          descriptor.length / 16 <= 32768
        else { return .malformedDescriptor }
        // Words are loaded as aligned words.
        guard
          let start = unsafe memory.translate(
            descriptor.address, descriptor.length, hint: &pieces.region),
          UInt(bitPattern: start) & 7 == 0
        else {
          guard
            let table = IndirectTable(memory, descriptor.address, size: descriptor.length / 16)
          else { return .malformedDescriptor }
          return walk(table, writable: writable, &pieces, budget: &budget)
        }
        unsafe table = unsafe start
        tableSize = descriptor.length / 16
        index = 0
        inIndirect = true
        steps = 0
        continue
      }

      if descriptor.flags & Descriptor.write != wanted { return .malformedDescriptor }
      if let fault = pieces.append(descriptor.address, descriptor.length) { return fault }
      if descriptor.flags & Descriptor.next == 0 { return nil }
      index = UInt32(descriptor.next)
      if index >= tableSize { return .malformedDescriptor }
    }
  }

  /// Collects the pieces of an indirect table that does not lie here as one: `walk`, with a look-up for each word.
  @inline(never)
  private func walk(
    _ table: IndirectTable, writable: Bool, _ pieces: inout ChainPieces, budget: inout Int
  ) -> DropReason? {
    var index: UInt32 = 0
    var steps = 0
    let wanted = writable ? Descriptor.write : 0
    while true {
      if budget == 0 { return .chainTooLong }
      budget &-= 1
      steps &+= 1
      if steps > Int(max(table.size, UInt32(ring.size))) { return .chainTooLong }
      guard let words = table.entry(index) else { return table.fault }
      let descriptor = Descriptor(address: words.first, rest: words.second)
      if descriptor.flags & Descriptor.indirect != 0 { return .malformedDescriptor }
      if descriptor.flags & Descriptor.write != wanted { return .malformedDescriptor }
      if let fault = pieces.append(descriptor.address, descriptor.length) { return fault }
      if descriptor.flags & Descriptor.next == 0 { return nil }
      index = UInt32(descriptor.next)
      if index >= table.size { return .malformedDescriptor }
    }
  }
}
