internal import CLinux
internal import CVector

/// Copying frames into receive buffers: each once, from its sender's memory.
extension Burst {
  /// Copies frames, in the order given, to `buffers`, each of which has room for its frame and the virtio-net header.
  ///
  /// - Parameter plain: how many of them, from the first on, are known to lie in one piece.
  @inline(always)
  func copy(
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, plain: Int, headerSize: UInt32
  ) {
    if vectors {
      unsafe copyVectors(order, count, plain: plain, headerSize: headerSize)
    } else {
      for position in 0..<min(count, 8) { prefetch(position, headerSize: headerSize) }
      for position in 0..<count {
        if position &+ 8 < count { prefetch(position &+ 8, headerSize: headerSize) }
        unsafe copy(Int(order[position]), to: buffers[position], headerSize: headerSize)
      }
    }
  }

  /// The same with vector code, which wants frames in one piece.
  @inline(always)
  private func copyVectors(
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, plain: Int, headerSize: UInt32
  ) {
    var first = 0
    var end = plain
    while first < count {
      while end < count, unsafe addresses[Int(order[end])] != 0 { end &+= 1 }
      unsafe cvx_copy(
        order + first, UInt32(truncatingIfNeeded: end &- first), addresses, lengths, headers,
        buffers + first, headerSize)
      if end < count {
        unsafe copy(Int(order[end]), to: buffers[end], headerSize: headerSize)
        end &+= 1
      }
      first = end
    }
  }

  /// Asks for the first line of a frame's place in a buffer (decision 7).
  @inline(always)
  private func prefetch(_ position: Int, headerSize: UInt32) {
    // SAFETY: the buffer has room for a frame behind the header.
    unsafe clx_prefetch_write(
      UnsafeMutableRawPointer(bitPattern: buffers[position] &+ UInt(headerSize)).unsafelyUnwrapped)
  }

  /// Copies one frame to `buffer`.
  @inline(always)
  private func copy(_ index: Int, to buffer: UInt, headerSize: UInt32) {
    let base = unsafe UnsafeMutableRawPointer(bitPattern: buffer).unsafelyUnwrapped
    unsafe NetHeader.none.write(base, buffers: 1, size: headerSize)
    let data = unsafe base + Int(headerSize)
    guard let source = unsafe UnsafeRawPointer(bitPattern: addresses[index]) else {
      unsafe copyPieces(index, to: data)
      return
    }
    let header = unsafe headers[index]
    unsafe data.storeBytes(of: header.first, as: UInt64.self)
    unsafe data.storeBytes(of: header.second, toByteOffset: 8, as: UInt64.self)
    let length = Int(unsafe lengths[index])
    // SAFETY: a frame in one piece has at least 16 bytes; the caller has proved room for all of it.
    if length >= 32, length <= 128 {
      // Vectors of 16 bytes, the last of which may overlap the one before it.
      var offset = EthernetHeader.held
      while offset < length &- 16 {
        unsafe data.storeBytes(
          of: (source + offset).loadUnaligned(as: SIMD16<UInt8>.self), toByteOffset: offset,
          as: SIMD16<UInt8>.self)
        offset &+= 16
      }
      let last = length &- 16
      unsafe data.storeBytes(
        of: (source + last).loadUnaligned(as: SIMD16<UInt8>.self), toByteOffset: last,
        as: SIMD16<UInt8>.self)
    } else {
      unsafe clx_copy(
        data + EthernetHeader.held, source + EthernetHeader.held, length &- EthernetHeader.held)
    }
  }

  /// Copies a frame in pieces to one place.
  @inline(never)
  private func copyPieces(_ index: Int, to data: UnsafeMutableRawPointer) {
    let front = unsafe front(of: index)
    // SAFETY: the caller has proved room for all of the frame, and a front is no longer.
    unsafe clx_copy(data, front.base, front.length)
    let extent = unsafe extents[index]
    let length = Int(unsafe lengths[index])
    var done = unsafe front.length
    var skipped = unsafe front.skipped
    var number = Int(extent.first)
    let end = number &+ Int(extent.count)
    while done < length, number < end {
      let piece = unsafe pieces[number]
      number &+= 1
      let there = Int(piece.length) &- skipped
      if there <= 0 {
        skipped &-= Int(piece.length)
        continue
      }
      let step = min(there, length &- done)
      let source = unsafe UnsafeRawPointer(bitPattern: piece.base &+ UInt(skipped))
      // SAFETY: `step` bytes lie in the piece. Both may overlap only if a guest shares memory with itself through two
      // ports, and then only its own bytes suffer.
      unsafe clx_move(data + done, source.unsafelyUnwrapped, step)
      skipped = 0
      done &+= step
    }
  }

  /// Copies frame `index`, however it lies, into the first `count` of `targets`, which have room for it and
  /// the virtio-net header.
  ///
  /// - Parameters:
  ///   - buffers: what the header says of them.
  ///   - accepted: what the receiver does itself; what it does not is done here.
  func fill(
    _ index: Int, targets count: Int, buffers: Int, headerSize: UInt32, accepted: Offloads
  ) {
    var cursor = unsafe PieceCursor(targets, count: count)
    let length = Int(unsafe lengths[index])
    var header = NetHeader.none
    var completes = false
    if asksOffload(index) {
      if unsafe accepted.covers(special.needs[index]) {
        header = netHeader(index)
      } else {
        completes = true
      }
    }
    // SAFETY: the scratch is private memory of the size given.
    unsafe withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { scratch in
      guard let base = scratch.baseAddress else { return }
      unsafe header.write(
        base, buffers: UInt16(truncatingIfNeeded: buffers), size: headerSize)
      unsafe cursor.write(base, Int(headerSize))
    }
    let frame = cursor
    let front = unsafe front(of: index)
    unsafe cursor.write(front.base, front.length)
    if let base = unsafe UnsafeRawPointer(bitPattern: addresses[index]) {
      unsafe cursor.write(base + front.skipped, length &- front.length)
    } else {
      let extent = unsafe extents[index]
      var rest = unsafe PieceCursor(pieces + Int(extent.first), count: Int(extent.count))
      unsafe rest.skip(front.skipped)
      unsafe cursor.copy(from: &rest, length &- front.length)
    }
    if completes { completeChecksum(index, of: frame) }
  }
}
