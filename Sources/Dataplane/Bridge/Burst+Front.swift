internal import CLinux

/// The bytes of a frame that the worker holds itself, and which stand for its first ones.
///
/// Theory of operation. A frame's payload stays in its sender's memory, and its sender may change it at any time. Its
/// first 16 bytes are judged in the worker's own memory, and delivered from there (`Burst.headers`). A frame may have a
/// longer front: headers that were judged because an offload is asked for, or other bytes than the sender's, because
/// the frame was rewritten. A delivery writes the front, and goes on in the sender's memory behind the bytes for which
/// the front stands. So bytes are dropped from a frame's beginning and others put in their place without a copy of it,
/// and what was judged is what is delivered.
///
/// A frame is rewritten between being judged and being delivered, for one destination or for all; `restore` makes it
/// what it was. Where front and sender's bytes can be made to end at the same distance from an address, the frame stays
/// a plain one: it is copied as if it had no front, and the front is written over the copy's first bytes.
struct Front: BitwiseCopyable {
  /// Where the front begins in its area.
  var start: UInt16 = 0
  /// Bytes; 0: the frame has no other front than its entry in `Burst.headers`.
  var length: UInt16 = 0
  /// Bytes of the sender's memory that it stands for.
  var skipped: UInt16 = 0
  /// Whether the frame is another one than its sender's.
  var isRewritten = false

  /// Bytes before the first place at which a judged front begins: more than any tag or tunnel header.
  static let headroom = 128
  /// Bytes of the sender's that a front may hold: enough for all headers but a long list of IPv6 extension headers.
  static let capacity = SegmentableHeaders.maximum
  static let areaSize = headroom + capacity
}

/// What a frame was before it was rewritten.
struct Original: BitwiseCopyable {
  var address: UInt = 0
  var header = EthernetHeader()
  var netHeader: UInt64 = 0
  var extent = Burst.Extent()
  var length: UInt32 = 0
  var front = Front()
  var isBehindHeader = false
}

/// SAFETY: areas have `Front.areaSize` bytes, and `start + length` stays within; fronts are no longer than their frames.
extension Burst {
  /// The bytes that a delivery writes first: their place, how many, and how many of the sender's they stand for.
  @inline(always)
  func front(of index: Int) -> (base: UnsafeRawPointer, length: Int, skipped: Int) {
    if special.marked != 0 {
      let front = unsafe special.fronts[index]
      if front.length > 0 {
        return unsafe (
          UnsafeRawPointer(special.start(index, front)), Int(front.length), Int(front.skipped)
        )
      }
    }
    let held = min(Int(unsafe lengths[index]), EthernetHeader.held)
    return unsafe (UnsafeRawPointer(headers + index), held, held)
  }

  /// The sender's memory behind the front of a frame.
  func rest(of index: Int) -> PieceCursor {
    var cursor = source(index)
    cursor.skip(unsafe front(of: index).skipped)
    return cursor
  }

  /// A frame's bytes in its sender's memory as a list of pieces, also those of a frame that lies in one.
  func source(_ index: Int) -> PieceCursor {
    if let base = unsafe UnsafeMutableRawPointer(bitPattern: addresses[index]) {
      let whole = unsafe pieces + (Burst.wholePieces &+ index)
      let front = unsafe special.marked != 0 ? special.fronts[index] : Front()
      // Other than the frame's own are only the bytes that the front stands for.
      let length = unsafe Int(lengths[index]) &- Int(front.length) &+ Int(front.skipped)
      unsafe whole.pointee = unsafe Piece(base, UInt32(truncatingIfNeeded: length))
      return unsafe PieceCursor(whole, count: 1)
    }
    let extent = unsafe extents[index]
    return unsafe PieceCursor(pieces + Int(extent.first), count: Int(extent.count))
  }

  /// Has a frame's first bytes, `count` at most, in its front: copied from the sender's memory, once, but for those
  /// that were judged before. Returns how many there are.
  func deepenFront(of index: Int, to count: Int) -> Int {
    let old = unsafe front(of: index)
    let area = unsafe special.area(
      index, rewritten: special.fronts[index].isRewritten)
    let length = min(count, Int(unsafe lengths[index]))
    if unsafe length <= old.length, unsafe special.fronts[index].length > 0 {
      return unsafe old.length
    }
    var start = Front.headroom
    var front = unsafe special.fronts[index]
    if front.length == 0 {
      unsafe clx_copy(area + start, old.base, old.length)
    } else {
      start = Int(front.start)
    }
    let more = min(unsafe length &- old.length, unsafe Front.areaSize &- start &- old.length)
    if more > 0 {
      var piece = unsafe Piece(
        UnsafeMutableRawPointer(area + start + old.length), UInt32(truncatingIfNeeded: more))
      unsafe withUnsafeMutablePointer(to: &piece) { piece in
        var target = unsafe PieceCursor(piece, count: 1)
        var source = source(index)
        unsafe source.skip(old.skipped)
        target.copy(from: &source, more)
      }
    }
    front.start = UInt16(truncatingIfNeeded: start)
    front.length = UInt16(truncatingIfNeeded: unsafe old.length &+ max(0, more))
    front.skipped = UInt16(truncatingIfNeeded: unsafe old.skipped &+ max(0, more))
    unsafe special.fronts[index] = front
    special.marked |= 1 &<< UInt64(index)
    return Int(front.length)
  }

  /// Gives up the bytes of a front behind the first `count`: they are the sender's again.
  func shortenFront(of index: Int, to count: Int) {
    let surplus = unsafe Int(special.fronts[index].length) &- count
    if surplus <= 0 { return }
    unsafe special.fronts[index].length &-= UInt16(truncatingIfNeeded: surplus)
    unsafe special.fronts[index].skipped &-= UInt16(truncatingIfNeeded: surplus)
  }

  /// Makes what is kept of special frames mean something, in a burst of `count` frames that had none so far.
  func beginMarking(_ count: Int) {
    if special.marked != 0 { return }
    for index in 0..<count {
      unsafe special.needs[index] = .none
      unsafe special.fronts[index] = Front()
    }
    special.segmentsLeft = Burst.maximumSegmentsOfBurst
  }

  // ---- Other bytes than the sender's ----

  /// Drops the first bytes of a frame and puts others in their place. What it asks for moves with its headers.
  ///
  /// `beginMarking` was called for the burst. May be called for a frame again; then what it is now is rewritten.
  ///
  /// - Parameters:
  ///   - dropped: bytes, of those that are in the first `Front.capacity`.
  ///   - bytes: `put` bytes in the worker's own memory, no more than there is headroom for.
  /// - Returns: `false` when that can't be: what is left is no frame, or what it asks for concerns the dropped bytes.
  ///   Then the frame is as it was.
  @inline(never)
  func rewrite(_ index: Int, dropping dropped: Int, putting bytes: UnsafeRawPointer, count put: Int)
    -> Bool
  {
    let length = Int(unsafe lengths[index]) &- dropped &+ put
    guard dropped >= 0, put >= 0, dropped <= Int(unsafe lengths[index]),
      length >= EthernetHeader.size, length <= Burst.maximumLength
    else { return false }
    let asked = unsafe special.needs[index]
    let moved = netHeader(index).moved(by: put &- dropped, segmented: asked.segments)
    if !asked.isEmpty, netHeader(index).checksumStart < dropped { return false }
    let before = unsafe special.fronts[index]
    if !before.isRewritten { keepOriginal(index, before) }

    // As many of the sender's bytes as are dropped, and as a header has, must be at hand.
    let needed = dropped &+ max(0, EthernetHeader.held &- put)
    let held = deepenFront(of: index, to: needed)
    var front = unsafe special.fronts[index]
    let start = Int(front.start) &+ dropped &- put
    guard held >= min(needed, Int(unsafe lengths[index])), start >= 0 else {
      if !before.isRewritten { restore(index) }
      return false
    }
    let area = unsafe special.area(index, rewritten: true)
    if !before.isRewritten {
      let kept = Int(front.start) &+ dropped
      unsafe clx_copy(
        area + kept, special.start(index, front) + dropped, max(0, held &- dropped))
    }
    unsafe clx_move(area + start, bytes, put)
    front.start = UInt16(truncatingIfNeeded: start)
    front.length = UInt16(truncatingIfNeeded: held &- dropped &+ put)
    front.isRewritten = true
    unsafe special.fronts[index] = front
    unsafe lengths[index] = UInt32(truncatingIfNeeded: length)
    if !asked.isEmpty { unsafe netHeaders[index] = moved.word }
    var header = EthernetHeader()
    unsafe withUnsafeMutableBytes(of: &header) { header in
      if let base = header.baseAddress {
        unsafe clx_copy(
          base, area + start, min(EthernetHeader.held, Int(front.length)))
      }
    }
    unsafe headers[index] = header
    align(index)
    return true
  }

  /// Lets a frame in one piece begin where its front and the sender's bytes end at the same distance, if that is in
  /// memory of the sender's; else it becomes a frame in pieces.
  private func align(_ index: Int) {
    let address = unsafe addresses[index]
    if address == 0 { return }
    var front = unsafe special.fronts[index]
    let distance = Int(front.skipped) &- Int(front.length)
    let isReachable =
      distance >= 0
      || (-distance <= NetHeader.leastSize && special.behindHeader &>> UInt64(index) & 1 != 0)
    if isReachable, unsafe lengths[index] >= UInt32(EthernetHeader.held) {
      unsafe addresses[index] = address &+ UInt(bitPattern: distance)
      front.skipped = front.length
      unsafe special.fronts[index] = front
      // The room before the frame is used now.
      if distance < 0 { special.behindHeader &= ~(1 &<< UInt64(index)) }
      return
    }
    _ = source(index)
    unsafe extents[index] = Extent(
      first: UInt32(truncatingIfNeeded: Burst.wholePieces &+ index), count: 1)
    unsafe addresses[index] = 0
  }

  private func keepOriginal(_ index: Int, _ front: Front) {
    unsafe special.originals[index] = unsafe Original(
      address: addresses[index], header: headers[index], netHeader: netHeaders[index],
      extent: extents[index], length: lengths[index], front: front,
      isBehindHeader: special.behindHeader &>> UInt64(index) & 1 != 0)
  }

  /// Makes frames that were rewritten what their sender sent.
  @inline(never)
  func restore(_ frames: FrameSet) {
    var left = frames
    while left != 0 {
      let index = left.trailingZeroBitCount
      left &= left &- 1
      if unsafe special.fronts[index].isRewritten { restore(index) }
    }
  }

  private func restore(_ index: Int) {
    let original = unsafe special.originals[index]
    let bit: FrameSet = 1 &<< UInt64(index)
    if original.isBehindHeader { special.behindHeader |= bit }
    unsafe addresses[index] = original.address
    unsafe headers[index] = original.header
    unsafe netHeaders[index] = original.netHeader
    unsafe extents[index] = original.extent
    unsafe lengths[index] = original.length
    unsafe special.fronts[index] = original.front
    if original.front.length == 0, unsafe special.needs[index].isEmpty { special.marked &= ~bit }
  }
}
