internal import CVector

/// The common case of a packed ring: buffers of one descriptor.
///
/// Descriptors are gone through a stretch at a time, which ends with the ring at the latest: within it the wrap
/// counter, and so what an available and a used descriptor look like, stays the same.
///
/// SAFETY: a frame's address is what the memory's table has proved to be mapped for the frame's length; frame
/// indices stay below the capacities that the caller gives.
extension PackedQueue {
  /// Descriptors from the next on that a stretch may have, at most `limit`.
  @inline(always)
  private func stretch(_ limit: Int) -> Int {
    // Of three, `min` would make an array of those behind the second.
    min(limit, min(ring.size &- unpublished, ring.size &- next.index))
  }

  /// Takes chains of one descriptor that holds header and frame, for as long as they come; returns how many.
  /// Nothing of the frames themselves is looked at.
  @inline(always)
  mutating func takePlain(_ burst: Burst, from first: Int, to end: Int, longest: Int) -> Int {
    var index = first
    while index < end {
      let length = stretch(end &- index)
      let taken = takeStretch(burst, from: index, length, longest: longest)
      index &+= taken
      if taken < length || length == 0 { break }
    }
    return index &- first
  }

  @inline(always)
  private mutating func takeStretch(
    _ burst: Burst, from first: Int, _ count: Int, longest: Int
  ) -> Int {
    let addresses = unsafe burst.addresses + first
    let lengths = unsafe burst.lengths + first
    let ring = ring
    let batches = batches
    let least = headerSize &+ UInt32(EthernetHeader.held)
    let range = UInt32(truncatingIfNeeded: longest &- EthernetHeader.held)
    let back = UInt(headerSize)
    let (start, wanted, usedBits) = (next.index, next.availBits, next.usedBits)
    // The first of the burst is held back.
    let isFirst = heldIndex < 0
    var lookup = memory.lookup(hint: region)
    var last: UInt64 = 0
    var run = 0
    if burst.vectors {
      let most = headerSize &+ UInt32(truncatingIfNeeded: longest)
      var vector = unsafe ring.vector(next, count, hold: isFirst, batch: batches)
      // SAFETY: the descriptors are inside the ring, `count` frames in the burst, and the region as it was proved.
      run = unsafe withUnsafePointer(to: lookup.vector) { region in
        unsafe Int(
          cvx_take_packed(&vector, region, headerSize, least, most, addresses, lengths))
      }
      if run > 0 {
        if isFirst {
          heldIndex = start
          held = unsafe vector.first
        }
        last = unsafe vector.last
      }
    }
    while run < count {
      let rest = ring.rest(start &+ run)
      // Available, readable, and alone.
      if rest & PackedRing.kindMask != wanted { break }
      let whole = PackedRing.length(rest)
      let length = whole &- least
      // Also true when the subtraction wrapped.
      if length > range { break }
      let address = ring.address(start &+ run)
      if !lookup.covers(address, whole) {
        guard unsafe memory.translate(address, whole, hint: &region) != nil else { break }
        lookup = memory.lookup(hint: region)
      }
      unsafe addresses[run] = lookup.place(address) &+ back
      unsafe lengths[run] = length &+ UInt32(EthernetHeader.held)
      last = rest & PackedRing.idMask | usedBits
      if run == 0, isFirst {
        heldIndex = start
        held = last
      } else if !batches {
        ring.setUsed(start &+ run, last)
      }
      run &+= 1
    }
    if run > 0, batches {
      held = held & ~PackedRing.idMask | last & PackedRing.idMask
    }
    unpublished &+= run
    next.advance(by: run, size: ring.size)
    return run
  }

  /// Delivers frames into buffers of one descriptor each, for as long as such come; returns how many, and their bytes.
  @inline(always)
  mutating func placePlain(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) -> (frames: Int, bytes: Int) {
    let ready = available(count)
    var bytes = 0
    var run = 0
    var plain = 0
    while run < ready {
      let length = stretch(ready &- run)
      var vectored = 0
      let placed = unsafe placeStretch(
        burst, order + run, burst.buffers + run, length, limit: limit, &bytes, &vectored)
      if plain == run { plain &+= vectored }
      run &+= placed
      if placed < length || length == 0 { break }
    }
    unsafe burst.copy(order, run, plain: plain, headerSize: headerSize)
    return (run, bytes)
  }

  /// - Parameter vectored: how many of them vector code has placed: they lie in one piece.
  @inline(always)
  private mutating func placeStretch(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ buffers: UnsafeMutablePointer<UInt>,
    _ count: Int, limit: UInt32, _ bytes: inout Int, _ vectored: inout Int
  ) -> Int {
    let addresses = unsafe burst.addresses
    let lengths = unsafe burst.lengths
    let ring = ring
    let headerSize = headerSize
    let (start, wanted) = (next.index, next.availBits | PackedRing.write)
    let usedBits = next.usedBits | PackedRing.write
    let isFirst = heldIndex < 0
    var lookup = memory.lookup(hint: region)
    var run = 0
    if burst.vectors, count > 0, unsafe Int(order[count &- 1] &- order[0]) == count &- 1 {
      // The frames follow each other in the burst too.
      let natural = Int(unsafe order[0])
      var vector = unsafe ring.vector(next, count, hold: isFirst, batch: false)
      // SAFETY: the descriptors are inside the ring, `count` frames and buffers in the burst, and the region as
      // it was proved.
      run = unsafe withUnsafePointer(to: lookup.vector) { region in
        unsafe Int(
          cvx_place_packed(
            &vector, region, headerSize, limit, addresses + natural, lengths + natural, buffers))
      }
      if run > 0, isFirst {
        heldIndex = start
        held = unsafe vector.first
      }
      vectored = run
      for index in natural..<(natural &+ run) { bytes &+= Int(unsafe lengths[index]) }
    }
    while run < count {
      let index = Int(unsafe order[run])
      let length = unsafe lengths[index]
      if length > limit { break }
      let rest = ring.rest(start &+ run)
      // Available, writable, and alone.
      if rest & PackedRing.kindMask != wanted { break }
      let needed = headerSize &+ length
      if PackedRing.length(rest) < needed { break }
      let address = ring.address(start &+ run)
      if !lookup.covers(address, needed) {
        guard unsafe memory.translate(address, needed, hint: &region) != nil else { break }
        lookup = memory.lookup(hint: region)
      }
      unsafe buffers[run] = lookup.place(address)
      let used = rest & PackedRing.idMask | usedBits | UInt64(needed)
      if run == 0, isFirst {
        heldIndex = start
        held = used
      } else {
        ring.setUsed(start &+ run, used)
      }
      bytes &+= Int(length)
      run &+= 1
    }
    unpublished &+= run
    next.advance(by: run, size: ring.size)
    return run
  }
}
