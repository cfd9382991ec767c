/// Taking short chains (`ShortChain`) from a split ring: linked descriptors, or one indirect table of such.
///
/// SAFETY: `table` is the ring's own or an indirect one proved to be mapped for `size` entries, and indices are held
/// against `size`; the caller has room for `ShortChain.mostPieces` for each frame.
extension SplitQueue {
  /// Takes short chains as frames `first ..< end` of the burst, for as long as such come; returns how many. A chain of one
  /// descriptor is none: it is taken faster.
  @inline(never)
  mutating func takeShort(
    _ burst: Burst, from first: Int, to end: Int, pieces used: inout Int
  ) -> Int {
    let ring = ring
    let pieces = unsafe burst.pieces
    var finder = ShortChain.Finder(memory, region: region, headerSize: headerSize)
    var index = first
    while index < end {
      let step = UInt16(truncatingIfNeeded: index &- first)
      let head = ring.availEntry(nextAvail &+ step)
      if head >= ring.size { break }
      var chain = unsafe ShortChain(pieces + used)
      guard collect(head, &chain, ring, &finder), chain.finish(burst, index, first: used)
      else { break }
      used &+= chain.pieces
      ring.setUsed(nextUsed &+ step, head: head, written: 0)
      index &+= 1
    }
    region = finder.region
    let taken = UInt16(truncatingIfNeeded: index &- first)
    nextAvail &+= taken
    nextUsed &+= taken
    if index > first { burst.loadHeaders(from: first, to: index) }
    return index &- first
  }

  /// Collects the descriptors of a chain that begins at `head`, below `size`, if they are few and as they should be: the
  /// rules are those of the walk over any chain, but for what only that one allows.
  @inline(always)
  private func collect(
    _ head: UInt16, _ chain: inout ShortChain, _ ring: SplitRing, _ finder: inout ShortChain.Finder
  ) -> Bool {
    var table = unsafe ring.descriptors
    var size = UInt32(ring.size)
    var descriptor = unsafe Descriptor(table, head)
    if descriptor.flags & Descriptor.indirect != 0 {
      size = descriptor.length / 16
      guard indirect, descriptor.flags & Descriptor.next == 0,
        descriptor.length % 16 == 0, size > 0, size <= UInt32(ShortChain.most),
        finder.covers(descriptor.address, descriptor.length),
        case let start = finder.place(descriptor.address), start & 7 == 0
      else { return false }
      unsafe table = unsafe UnsafeMutableRawPointer(bitPattern: start).unsafelyUnwrapped
      descriptor = unsafe Descriptor(table, 0)
    } else if descriptor.flags & Descriptor.next == 0 {
      return false
    }
    if descriptor.flags & (Descriptor.write | Descriptor.indirect) != 0 { return false }
    if !chain.begin(descriptor.address, descriptor.length, &finder) { return false }
    // No chain has more links than its table has entries, so a loop ends.
    var left = min(size, UInt32(ShortChain.most))
    while descriptor.flags & Descriptor.next != 0 {
      left &-= 1
      if left == 0 || UInt32(descriptor.next) >= size { return false }
      descriptor = unsafe Descriptor(table, descriptor.next)
      if descriptor.flags & (Descriptor.write | Descriptor.indirect) != 0 { return false }
      if !chain.append(descriptor.address, descriptor.length, &finder) { return false }
    }
    return true
  }
}
