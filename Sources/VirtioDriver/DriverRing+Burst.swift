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
        head, Segment(pool.base &+ UInt64(Int(head) &* pool.stride), length), writable: writable)
    }
  }

  /// Writes every descriptor once, `length` bytes of its buffer in `pool`, so that `repost` alone makes
  /// buffers available. No buffer may be outstanding.
  public mutating func prime(pool: Pool, length: UInt32, writable: Bool) {
    precondition(outstanding == 0)
    for index in 0..<size {
      writeDescriptor(
        index,
        RawDescriptor(
          address: pool.base &+ UInt64(index &* pool.stride), length: length,
          flags: writable ? RawDescriptor.writeFlag : 0))
      unsafe shadow[index].writable = writable ? length : 0
    }
  }

  /// Makes the first `count` of `heads` available again with the descriptors they had: only the avail ring
  /// is written.
  public mutating func repost(_ heads: Span<UInt16>, count: Int) {
    // In a register: stores to shared memory would make the compiler reload and rewrite the member.
    var position = nextAvail
    for index in 0..<count {
      let head = heads[index]
      precondition(Int(head) < size)
      // SAFETY: below `size`, by the line above.
      unsafe shadow[Int(head)].chain = 1
      writeAvailEntry(position, head)
      position &+= 1
    }
    nextAvail = position
    outstanding &+= count
  }

  /// Makes one head available again.
  @inline(always)
  mutating func repost(_ head: UInt16) {
    precondition(Int(head) < size)
    // SAFETY: below `size`, by the line above.
    let writable = unsafe shadow[Int(head)].writable
    offer(head, chain: 1, writable: writable)
  }

  /// Takes up to `limit` used buffers, or as many as fit, with the bytes written into each; returns how
  /// many. The heads are the caller's afterwards: to post again or to `release`.
  public mutating func take(
    _ heads: inout MutableSpan<UInt16>, lengths: inout MutableSpan<UInt32>, limit: Int = .max
  ) -> Int {
    let limit = min(limit, heads.count, lengths.count)
    var count = 0
    while count < limit, let used = takeSingle() {
      heads[count] = used.token
      lengths[count] = used.length
      count &+= 1
    }
    return count
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
