/// Walking a descriptor chain of a split ring, whatever its layout (virtio v1.4, 2.7.4.1, 2.7.5).
extension SplitQueue {
  /// What a walk found: the pieces it wrote and their bytes together, or why the chain is no good.
  struct Chain {
    var segments: UInt32
    /// Sum of the pieces' lengths; a chain longer than 4 GiB counts as 4 GiB − 1.
    var length: UInt32
    var fault: DropReason?

    static func bad(_ reason: DropReason) -> Chain { Chain(segments: 0, length: 0, fault: reason) }
  }

  /// Translates the chain that begins at `head` into pieces of this process's memory.
  ///
  /// Invariants, each beside its check below: an index is inside its table before it is used; a chain has
  /// no more links than the larger of its table and the ring (so a loop ends); one indirect table at most,
  /// wholly inside guest memory, and nothing after it (2.7.5.3.1); every byte of every piece lies in a
  /// region; directions are as the queue wants. The WRITE flag of a descriptor that refers to an indirect
  /// table is ignored (2.7.5.3.2).
  ///
  /// SAFETY: `table` is the ring's own or an indirect one proved to be mapped for `tableSize` entries; pieces are
  /// written below `capacity`.
  ///
  /// - Parameters:
  ///   - head: below `size`.
  ///   - writable: the direction the queue wants: `true` in a receiveq.
  ///   - output: room for `capacity` pieces.
  ///   - budget: descriptors that may still be looked at. Empty ones take no piece, so `capacity` alone would
  ///     let a guest keep a worker for 32,768 of them, chain after chain.
  @inline(never)
  mutating func walk(
    head: UInt16, writable: Bool, output: UnsafeMutablePointer<Segment>, capacity: Int,
    budget: inout Int
  ) -> Chain {
    var table = unsafe descriptors
    var tableSize = UInt32(size)
    var index = UInt32(head)
    var inIndirect = false
    var steps = 0
    var count = 0
    var total: UInt64 = 0
    let wanted = writable ? Descriptor.write : 0
    while true {
      if budget == 0 { return .bad(.chainTooLong) }
      budget &-= 1
      // `index` < `tableSize`: checked by the caller for the head and below for each `next`.
      let descriptor = unsafe Descriptor(table, UInt16(truncatingIfNeeded: index))
      steps &+= 1
      if steps > Int(max(tableSize, UInt32(size))) { return .bad(.chainTooLong) }

      if descriptor.flags & Descriptor.indirect != 0 {
        guard indirect, !inIndirect, descriptor.flags & Descriptor.next == 0,
          descriptor.length != 0, descriptor.length % 16 == 0,
          descriptor.length / 16 <= 32768
        else { return .bad(.malformedDescriptor) }
        guard
          let start = unsafe memory.translate(
            descriptor.address, descriptor.length, hint: &region)
        else { return .bad(.malformedDescriptor) }
        // The table's words are loaded as aligned words.
        guard UInt(bitPattern: start) & 7 == 0 else { return .bad(.malformedDescriptor) }
        unsafe table = unsafe start
        tableSize = descriptor.length / 16
        index = 0
        inIndirect = true
        steps = 0
        continue
      }

      if descriptor.flags & Descriptor.write != wanted { return .bad(.malformedDescriptor) }
      total &+= UInt64(descriptor.length)
      var address = descriptor.address
      var rest = descriptor.length
      // A piece may run from one region into the next where their guest addresses meet.
      while rest > 0 {
        guard count < capacity else { return .bad(.chainTooLong) }
        if let base = unsafe memory.translate(address, rest, hint: &region) {
          unsafe output[count] = unsafe Segment(base, rest)
          count &+= 1
          break
        }
        guard let part = unsafe memory.reach(address, rest) else {
          return .bad(.malformedDescriptor)
        }
        let length = unsafe part.length
        unsafe output[count] = unsafe Segment(part.base, length)
        count &+= 1
        rest &-= length
        let (following, overflow) = address.addingReportingOverflow(UInt64(length))
        if overflow { return .bad(.malformedDescriptor) }
        address = following
      }

      if descriptor.flags & Descriptor.next == 0 { break }
      index = UInt32(descriptor.next)
      if index >= tableSize { return .bad(.malformedDescriptor) }
    }
    return Chain(
      segments: UInt32(truncatingIfNeeded: count), length: UInt32(clamping: total), fault: nil)
  }
}
