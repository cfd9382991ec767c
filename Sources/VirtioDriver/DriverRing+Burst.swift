internal import Synchronization

/// Bursts of single-descriptor buffers without allocation: the benchmark's way.
///
/// The caller owns the heads it has reserved or taken, posts them, and gets them back from `take` in the
/// order the device used them. A buffer is found by its head: buffer `h` of a pool lies at
/// `base + h * stride`.
extension DriverRing {
  /// A pool with one buffer for each descriptor of a ring.
  public struct Pool: Sendable {
    /// Guest physical address of buffer 0.
    public let base: UInt64
    /// Bytes from one buffer to the next.
    public let stride: Int

    public init(base: UInt64, stride: Int) {
      self.base = base
      self.stride = stride
    }
  }

  /// Takes free descriptors into `heads`, from element `first` to its end; returns how many.
  public mutating func reserve(_ heads: inout MutableSpan<UInt16>, from first: Int = 0) -> Int {
    let count = min(heads.count - first, freeCount)
    for index in 0..<count { heads[first + index] = pop() }
    return count
  }

  /// Makes the first `count` of `heads` available, each `length` bytes of its buffer in `pool`. The heads
  /// must be the caller's: reserved or taken, and not posted since.
  public mutating func post(
    _ heads: Span<UInt16>, count: Int, pool: Pool, length: UInt32, writable: Bool
  ) {
    for index in 0..<count {
      let head = heads[index]
      precondition(Int(head) < size)
      place(
        head, Piece(pool.base &+ UInt64(Int(head) &* pool.stride), length), writable: writable)
    }
  }

  /// Writes every descriptor once, `length` bytes of its buffer in `pool`, so that `repost` alone makes
  /// buffers available. No buffer may be outstanding.
  public mutating func prime(pool: Pool, length: UInt32, writable: Bool) {
    precondition(outstanding == 0)
    for index in 0..<size {
      if isSequential {
        let piece = Piece(pool.base &+ UInt64(index &* pool.stride), length)
        setImage(UInt16(truncatingIfNeeded: index), piece, writable: writable)
        continue
      }
      writeDescriptor(
        index,
        RawDescriptor(
          address: pool.base &+ UInt64(index &* pool.stride), length: length,
          flags: writable ? RawDescriptor.writeFlag : 0))
      unsafe shadow[index].writable = writable ? length : 0
    }
  }

  /// Writes the descriptors of one device-readable buffer once, in `head` and those behind it, or in its
  /// table, so that `repost` alone makes it available. The buffer may not be outstanding. Where descriptors
  /// are used in ring order a buffer of several pieces needs a table.
  public mutating func prime(_ head: UInt16, _ pieces: [Piece], indirect: Bool) {
    precondition(Int(head) < size && !pieces.isEmpty)
    var list = pieces.map { RawDescriptor(address: $0.address, length: $0.length) }
    if indirect {
      writeTable(Int(head), list)
      list = [
        RawDescriptor(
          address: tableAddress(Int(head)), length: UInt32(16 * list.count),
          flags: RawDescriptor.indirectFlag)
      ]
    }
    if isSequential {
      precondition(list.count == 1, "a burst of longer chains")
      return setImage(head, list[0])
    }
    for index in list.indices {
      if index + 1 < list.count {
        list[index].flags |= RawDescriptor.nextFlag
        list[index].next = head + UInt16(index + 1)
      }
      writeDescriptor(Int(head) + index, list[index])
    }
    // SAFETY: below `size`, by the first line.
    unsafe shadow[Int(head)].writable = 0
  }

  /// Makes the first `count` of `heads` available again with the descriptors they had: of a split
  /// ring only the avail ring is written.
  public mutating func repost(_ heads: Span<UInt16>, count: Int) {
    if isSequential { return repostInOrder(heads, count: count) }
    for index in 0..<count { precondition(Int(heads[index]) < size) }
    // SAFETY: `count` elements are there, all below `size`, by the line above.
    unsafe heads.withUnsafeBufferPointer {
      guard let base = $0.baseAddress else { return }
      unsafe repost(base, count: count)
    }
  }

  /// `repost`, of `count` heads at `heads`, all below the ring's size. A function of its own, like
  /// `takeGood`.
  @inline(always)
  mutating func repost(_ heads: UnsafePointer<UInt16>, count: Int) {
    if isSequential {
      // SAFETY: the caller's promise.
      repostInOrder(unsafe Span(_unsafeStart: heads, count: count), count: count)
    } else {
      unsafe repostGood(heads, count)
    }
  }

  @inline(never)
  private mutating func repostGood(_ heads: UnsafePointer<UInt16>, _ count: Int) {
    let (avail, shadow, mask, first) = unsafe (avail + 2, shadow, UInt32(mask), UInt32(nextAvail))
    var index = 0
    while index < count {
      // SAFETY: below `size`, as the caller says; `mask` keeps the slot inside the ring.
      let head = unsafe heads[index]
      unsafe shadow[Int(head)].chain = 1
      let slot = unsafe avail + Int((first &+ UInt32(truncatingIfNeeded: index)) & mask)
      // A device that uses buffers in order finds the same heads round after round: an entry that is
      // left alone stays in its cache (DPDK's driver does the same).
      if unsafe slot.pointee.load(ordering: .relaxed) != head {
        unsafe slot.pointee.store(head, ordering: .relaxed)
      }
      index &+= 1
    }
    nextAvail &+= UInt16(truncatingIfNeeded: count)
    unkicked &+= count
    outstanding &+= count
  }

  /// Makes one head available again.
  @inline(always)
  mutating func repost(_ head: UInt16) {
    precondition(Int(head) < size)
    if isSequential { return repostInOrder(head) }
    // SAFETY: below `size`, by the line above.
    let writable = unsafe shadow[Int(head)].writable
    offer(head, chain: 1, writable: writable)
  }

  /// Takes up to `limit` used buffers, or as many as fit, with the bytes written into each; returns how
  /// many. The heads are the caller's afterwards: to post again or to `release`. `used.idx` is loaded once.
  public mutating func take(
    _ heads: inout MutableSpan<UInt16>, lengths: inout MutableSpan<UInt32>, limit: Int = .max
  ) -> Int {
    let limit = min(limit, heads.count, lengths.count)
    if isSequential { return takeInOrder(&heads, lengths: &lengths, limit: limit) }
    // SAFETY: both have room for `limit` elements.
    return unsafe heads.withUnsafeMutableBufferPointer { heads in
      unsafe lengths.withUnsafeMutableBufferPointer { lengths in
        guard let heads = heads.baseAddress, let lengths = lengths.baseAddress else { return 0 }
        return unsafe take(heads, lengths, limit: limit)
      }
    }
  }

  /// `take`, into memory with room for `limit` elements.
  mutating func take(
    _ heads: UnsafeMutablePointer<UInt16>, _ lengths: UnsafeMutablePointer<UInt32>, limit: Int
  ) -> Int {
    if isSequential {
      // SAFETY: the caller's promise.
      var headSpan = unsafe MutableSpan(_unsafeStart: heads, count: limit)
      var lengthSpan = unsafe MutableSpan(_unsafeStart: lengths, count: limit)
      return takeInOrder(&headSpan, lengths: &lengthSpan, limit: limit)
    }
    if Int(seenUsed &- nextUsedIndex) < limit { _ = refreshUsed() }
    let count = min(limit, Int(seenUsed &- nextUsedIndex))
    if count <= 0 { return 0 }
    var index = unsafe takeGood(heads, lengths, count)
    var taken = index
    while index < count {
      // Something is wrong with this one.
      if let used = judge(nextUsedIndex &+ UInt16(truncatingIfNeeded: index)) {
        unsafe heads[taken] = used.token
        unsafe lengths[taken] = used.length
        taken &+= 1
      }
      index &+= 1
    }
    nextUsedIndex &+= UInt16(truncatingIfNeeded: count)
    outstanding &-= taken
    return taken
  }

  /// Takes used entries as long as nothing is wrong with them; returns how many of `count`. A function of
  /// its own, so that all its values find a register.
  @inline(never)
  private func takeGood(
    _ heads: UnsafeMutablePointer<UInt16>, _ lengths: UnsafeMutablePointer<UInt32>, _ count: Int
  ) -> Int {
    let (shadow, mask, size) = unsafe (shadow, UInt32(mask), UInt32(truncatingIfNeeded: size))
    // SAFETY: entries begin four bytes into the used ring and are two words each; `mask` keeps the index
    // inside the ring.
    let entries = unsafe UnsafeMutableRawPointer(used + 2)
      .assumingMemoryBound(to: Atomic<UInt32>.self)
    let first = UInt32(nextUsedIndex)
    var index = 0
    while index < count {
      let entry = unsafe entries + 2 &* Int((first &+ UInt32(truncatingIfNeeded: index)) & mask)
      let id = unsafe entry.pointee.load(ordering: .relaxed)
      let length = unsafe entry[1].load(ordering: .relaxed)
      if id >= size { break }
      // SAFETY: `id` is below `size`, `index` below `count`.
      let state = unsafe shadow + Int(id)
      if unsafe state.pointee.chain == 0 || length > state.pointee.writable { break }
      unsafe state.pointee.chain = 0
      unsafe heads[index] = UInt16(truncatingIfNeeded: id)
      unsafe lengths[index] = length
      index &+= 1
    }
    return index
  }

  /// Notes what is wrong with the used entry at `position`; returns it if it can be made do with.
  @inline(never)
  private mutating func judge(_ position: UInt16) -> Used? {
    let (id, length) = readUsedEntry(position)
    // SAFETY: the shadow is read only for an index below `size`.
    guard id < UInt32(size), unsafe shadow[Int(id)].chain != 0 else {
      note(.unknownToken(id))
      return nil
    }
    let token = UInt16(truncatingIfNeeded: id)
    unsafe shadow[Int(id)].chain = 0
    let writable = unsafe shadow[Int(id)].writable
    if length > writable {
      note(.overlong(token: token, length: length, writable: writable))
    }
    return Used(token: token, length: min(length, writable))
  }

  /// The next used buffer, of one descriptor, which is the caller's afterwards.
  @inline(always)
  mutating func takeSingle() -> Used? {
    guard let used = takeUsed() else { return nil }
    // SAFETY: `takeUsed` returns tokens below `size` only.
    precondition(unsafe shadow[Int(used.token)].chain == 1, "a burst of longer chains")
    unsafe shadow[Int(used.token)].chain = 0
    return used
  }

  /// Gives elements `range` of `heads` back to the ring.
  public mutating func release(_ heads: Span<UInt16>, _ range: Range<Int>) {
    for index in range {
      precondition(Int(heads[index]) < size)
      push(heads[index])
    }
  }
}
