internal import CLinux

/// Frames in pieces, as descriptor chains of any layout bring them.
///
/// SAFETY: `index` is below the burst's size; the pieces are what a queue has put into the table.
extension Burst {
  /// Makes frame `index` a view of `count` pieces from `first` of the table, which begin with the
  /// virtio-net header, or says why it can't. Its headers are loaded here.
  ///
  /// - Parameters:
  ///   - length: bytes of the pieces together.
  ///   - headerSize: bytes of the virtio-net header.
  func view(
    _ index: Int, first: Int, count: Int, length: UInt32, headerSize: UInt32
  ) -> DropReason? {
    if length < headerSize { return .headerTooShort }
    let length = length &- headerSize
    if length < UInt32(EthernetHeader.size) { return .runt }
    if length > UInt32(Burst.maximumLength) { return .oversize }

    var cursor = unsafe PieceCursor(pieces + first, count: count)
    unsafe netHeaders[index] = cursor.word()
    let low = UInt16(cursor.byte())
    unsafe special.checksumOffsets[index] = low | UInt16(cursor.byte()) &<< 8
    cursor.skip(Int(headerSize) &- 10)
    cursor.dropConsumed()
    unsafe lengths[index] = length
    unsafe addresses[index] = 0
    if cursor.remainingHere >= Int(length), length >= UInt32(EthernetHeader.held) {
      unsafe addresses[index] = UInt(bitPattern: cursor.here)
    } else {
      unsafe extents[index] = Extent(
        first: UInt32(truncatingIfNeeded: first &+ cursor.index),
        count: UInt32(truncatingIfNeeded: count &- cursor.index))
    }

    // What is judged is kept; delivery writes these bytes and reads the pieces only behind them.
    let first = cursor.word()
    let second = cursor.word()
    unsafe headers[index] = EthernetHeader(first: first.littleEndian, second: second.littleEndian)
    return nil
  }

  // ---- Short chains ----

  /// Asks for the lines that `loadHeaders` will look at.
  ///
  /// - Parameter pieces: the header, and the first piece of the frame.
  @inline(always)
  func prefetchHeaders(_ pieces: UnsafeMutablePointer<Piece>) {
    // SAFETY: no piece is at 0.
    unsafe clx_prefetch_read(UnsafeRawPointer(bitPattern: pieces[0].base).unsafelyUnwrapped)
    unsafe clx_prefetch_read(UnsafeRawPointer(bitPattern: pieces[1].base).unsafelyUnwrapped)
  }

  /// Loads, once, the headers of frames that were short chains: the virtio-net header is the piece before the frame's
  /// first.
  @inline(never)
  func loadHeaders(from first: Int, to end: Int) {
    for index in first..<end {
      let place = unsafe pieces + Int(extents[index].first)
      // SAFETY: a virtio-net header has ten bytes at least, and the frame's first piece 16.
      let net = unsafe UnsafeRawPointer(bitPattern: (place - 1).pointee.base).unsafelyUnwrapped
      let data = unsafe UnsafeRawPointer(bitPattern: place.pointee.base).unsafelyUnwrapped
      unsafe netHeaders[index] = UInt64(littleEndian: unsafe clx_fetch64(net))
      unsafe special.checksumOffsets[index] = UInt16(
        littleEndian: unsafe clx_fetch16(net + NetHeader.checksumOffsetPlace))
      unsafe headers[index] = unsafe EthernetHeader(
        first: clx_fetch64(data), second: clx_fetch64(data + 8))
    }
  }
}
