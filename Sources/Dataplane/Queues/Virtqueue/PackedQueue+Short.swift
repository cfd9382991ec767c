internal import Synchronization

/// Taking short chains (`ShortChain`) from a packed ring: descriptors in a row, or one indirect table.
///
/// SAFETY: an indirect table is proved to be mapped before it is looked at; the caller has room for
/// `ShortChain.mostPieces` for each frame.
extension PackedQueue {
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
    while index < end, unpublished < ring.size {
      let rest = ring.rest(next.index)
      if rest & PackedRing.availMask != next.availBits { break }
      let isIndirect = PackedRing.flags(rest) & Descriptor.indirect != 0
      var chain = unsafe ShortChain(pieces + used)
      guard
        let last = isIndirect
          ? collectTable(rest, &chain, ring, &finder) : collect(rest, &chain, ring, &finder),
        chain.finish(burst, index, first: used)
      else { break }
      used &+= chain.pieces
      use(last.id, span: last.span, written: 0)
      index &+= 1
    }
    region = finder.region
    if index > first { burst.loadHeaders(from: first, to: index) }
    return index &- first
  }

  /// What a chain is given back with: the id in its last descriptor, and how many it has.
  private struct Last {
    var id: UInt16
    var span: UInt16
  }

  /// Collects the table that the next descriptor, whose second word is `rest`, refers to, if its entries are few and as they
  /// should be. In it WRITE alone counts (2.8.7).
  @inline(always)
  private func collectTable(
    _ rest: UInt64, _ chain: inout ShortChain, _ ring: PackedRing,
    _ finder: inout ShortChain.Finder
  ) -> Last? {
    let length = PackedRing.length(rest)
    let address = ring.address(next.index)
    guard indirect, PackedRing.flags(rest) & Descriptor.next == 0, length % 16 == 0, length > 0,
      length <= UInt32(16 * ShortChain.most), finder.covers(address, length),
      case let start = finder.place(address), start & 7 == 0
    else { return nil }
    let table = unsafe UnsafeMutableRawPointer(bitPattern: start).unsafelyUnwrapped
    var place = 0
    while place < Int(length) {
      let words = unsafe (table + place).assumingMemoryBound(to: Atomic<UInt64>.self)
      let entry = unsafe words[1].load(ordering: .relaxed)
      if entry & PackedRing.write != 0 { return nil }
      let address = unsafe words[0].load(ordering: .relaxed)
      let bytes = PackedRing.length(entry)
      guard
        place == 0
          ? chain.begin(address, bytes, &finder) : chain.append(address, bytes, &finder)
      else { return nil }
      place &+= 16
    }
    return Last(id: PackedRing.id(rest), span: 1)
  }

  /// Collects the chain that begins with the next descriptor, whose second word is `first`, if its descriptors are few and
  /// as they should be.
  @inline(always)
  private func collect(
    _ first: UInt64, _ chain: inout ShortChain, _ ring: PackedRing,
    _ finder: inout ShortChain.Finder
  ) -> Last? {
    let wrong = Descriptor.write | Descriptor.indirect
    guard PackedRing.flags(first) & (Descriptor.next | wrong) == Descriptor.next,
      chain.begin(ring.address(next.index), PackedRing.length(first), &finder)
    else { return nil }
    let most = min(ShortChain.most, ring.size &- unpublished)
    var position = next
    var span = 1
    while span < most {
      span &+= 1
      position.advance(by: 1, size: ring.size)
      let rest = ring.rest(position.index)
      guard rest & PackedRing.availMask == position.availBits,
        PackedRing.flags(rest) & wrong == 0,
        chain.append(ring.address(position.index), PackedRing.length(rest), &finder)
      else { return nil }
      if PackedRing.flags(rest) & Descriptor.next == 0 {
        return Last(id: PackedRing.id(rest), span: UInt16(truncatingIfNeeded: span))
      }
    }
    return nil
  }
}
