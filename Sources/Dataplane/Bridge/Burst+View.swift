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
}
