internal import CLinux

/// What frames ask to have done, and doing the checksum of those whose receiver won't.
///
/// Out of the way of frames that ask for nothing: `requests.frames` is 0 for a burst of such.
extension Burst {
  /// Whether frame `index` asks for anything; also that of the segment being made.
  @inline(always)
  func asksOffload(_ index: Int) -> Bool {
    unsafe requests.frames != 0 && !requests.needs[index].isEmpty
  }

  func netHeader(_ index: Int) -> NetHeader {
    unsafe NetHeader(word: netHeaders[index], checksumOffset: requests.checksumOffsets[index])
  }

  // ---- The way in ----

  /// Judges what frame `index` asks for (virtio v1.4, 5.1.9.2), and keeps it in the form in which receivers get
  /// it: fields that mean nothing are 0, the length of the headers is what was found, whatever the sender said.
  func judgeOffload(_ index: Int, allowed: Offloads) -> DropReason? {
    let asked = netHeader(index)
    let length = Int(unsafe lengths[index])
    guard allowed.covers(.checksum) else { return .offloadNotNegotiated }
    // Segments need a checksum each.
    guard asked.needsChecksum else { return .malformedOffload }
    let start = asked.checksumStart
    // The addresses decide where a frame goes, so no checksum may be written into them.
    guard start >= EthernetHeader.size, start &+ Int(asked.checksumOffset) &+ 2 <= length
    else { return .malformedOffload }
    if asked.type == NetHeader.Segmentation.none {
      keep(index, NetHeader(checksumAt: start, offset: asked.checksumOffset), needs: .checksum)
      return nil
    }

    let type = asked.type & ~NetHeader.Segmentation.ecn
    var needs: Offloads
    switch type {
    case NetHeader.Segmentation.tcp4: needs = .checksum.union(.tcp4)
    case NetHeader.Segmentation.tcp6: needs = .checksum.union(.tcp6)
    case NetHeader.Segmentation.udp: needs = .checksum
    case NetHeader.Segmentation.fragments: return .offloadNotNegotiated
    default: return .malformedOffload
    }
    guard let headers = copyHeaders(index) else { return .malformedOffload }
    if type == NetHeader.Segmentation.udp { needs = needs.union(headers.isIPv6 ? .udp6 : .udp4) }
    if asked.type != type {
      if type == NetHeader.Segmentation.udp { return .malformedOffload }
      needs = needs.union(.ecn)
    }
    guard allowed.covers(needs) else { return .offloadNotNegotiated }
    guard headers.isTCP == (type != NetHeader.Segmentation.udp),
      type == NetHeader.Segmentation.udp
        || headers.isIPv6 == (type == NetHeader.Segmentation.tcp6),
      headers.transport == start, headers.checksumOffset == asked.checksumOffset,
      asked.segmentSize > 0,
      length &- headers.length <= asked.segmentSize &* Burst.maximumSegmentsOfFrame
    else { return .malformedOffload }
    keep(
      index,
      NetHeader(
        checksumAt: start, offset: asked.checksumOffset, type: asked.type,
        headers: headers.length, size: asked.segmentSize), needs: needs)
    return nil
  }

  func keep(_ index: Int, _ header: NetHeader, needs: Offloads) {
    unsafe netHeaders[index] = header.word
    unsafe requests.checksumOffsets[index] = header.checksumOffset
    unsafe requests.needs[index] = needs
  }

  /// Copies the first bytes of frame `index` to the place there is for them, so that the headers that are judged
  /// are those that segments get.
  private func copyHeaders(_ index: Int) -> SegmentableHeaders? {
    let count = min(Int(unsafe lengths[index]), SegmentableHeaders.maximum)
    let copy = unsafe requests.headers(index)
    var target = unsafe SegmentCursor(
      whole(UnsafeMutableRawPointer(copy), SegmentableHeaders.maximum, at: 1), count: 1)
    let held = min(count, EthernetHeader.held)
    unsafe target.write(UnsafeRawPointer(headers + index), held)
    var source = source(index)
    source.skip(held)
    target.copy(from: &source, count &- held)
    return unsafe SegmentableHeaders(copy, count: count)
  }

  /// A frame as a list of pieces, also one that lies in one.
  func source(_ index: Int) -> SegmentCursor {
    if let base = unsafe UnsafeMutableRawPointer(bitPattern: addresses[index]) {
      return unsafe SegmentCursor(whole(base, Int(lengths[index]), at: 0), count: 1)
    }
    let pieces = unsafe pieces[index]
    return unsafe SegmentCursor(segments + Int(pieces.first), count: Int(pieces.count))
  }

  /// A list of one piece, in one of the two places there are for such.
  private func whole(
    _ base: UnsafeMutableRawPointer, _ length: Int, at place: Int
  ) -> UnsafeMutablePointer<Segment> {
    let list = unsafe segments + (Burst.spareSegments &+ Burst.spareCapacity &- 2 &+ place)
    unsafe list.pointee = unsafe Segment(base, UInt32(truncatingIfNeeded: length))
    return unsafe list
  }

  // ---- The way out ----

  /// Whether frame `index` is too long for a port.
  ///
  /// - Parameter limit: bytes of the longest untagged frame. A VLAN tag is not part of the MTU, and of a frame that
  ///   is to be cut into segments the segments count (5.1.4.1).
  @inline(always)
  func exceeds(_ limit: UInt32, _ index: Int) -> Bool {
    let length = unsafe lengths[index]
    if length <= limit { return false }
    return exceedsReally(limit, index, length)
  }

  @inline(never)
  private func exceedsReally(_ limit: UInt32, _ index: Int, _ whole: UInt32) -> Bool {
    var length = whole
    if asksOffload(index), unsafe requests.needs[index].segments {
      let header = netHeader(index)
      length = min(length, UInt32(header.headersLength &+ header.segmentSize))
    }
    return length > limit &+ (unsafe headers[index].isTagged ? 4 : 0)
  }

  /// Whether frame `index` must be cut into segments for a receiver.
  @inline(always)
  func mustSegment(_ index: Int, accepted: Offloads) -> Bool {
    let needs = unsafe requests.needs[index]
    return needs.segments && !accepted.covers(needs)
  }

  /// Takes `count` of the segments that the burst may still be cut into; `false`: there are too few. They are the
  /// burst's, not a receiver's, so that a turn stays short however many of those a frame has.
  func claimSegments(_ count: Int) -> Bool {
    let left = requests.segmentsLeft &- count
    if left < 0 { return false }
    requests.segmentsLeft = left
    return true
  }

  /// Mends the first `count` of `buffers`, into which frames were copied as if they asked for nothing: each gets its
  /// virtio-net header, or its checksum where the receiver does not do it.
  @inline(never)
  func finish(
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, headerSize: UInt32, accepted: Offloads
  ) {
    for position in 0..<count {
      let index = Int(unsafe order[position])
      let needs = unsafe requests.needs[index]
      if needs.isEmpty { continue }
      // SAFETY: the buffer has room for the header and the frame; the driver has not been shown it yet.
      let base = unsafe UnsafeMutableRawPointer(bitPattern: buffers[position]).unsafelyUnwrapped
      if accepted.covers(needs) {
        unsafe netHeader(index).writeRequest(base)
      } else {
        unsafe targets[0] = unsafe Segment(base + Int(headerSize), lengths[index])
        completeChecksum(index, of: unsafe SegmentCursor(targets, count: 1))
      }
    }
  }

  /// Completes the checksum of frame `index`: in the receiver's copy, so that it is that of the bytes that were
  /// delivered. A receiver that changes them meanwhile harms itself.
  ///
  /// - Parameter frame: where the copy begins.
  func completeChecksum(_ index: Int, of frame: SegmentCursor) {
    let header = netHeader(index)
    let length = Int(unsafe lengths[index])
    let start = header.checksumStart
    var rest = frame
    rest.skip(start)
    var sum = Checksum()
    rest.add(length &- start, to: &sum)
    var field = sum.field
    var place = frame
    place.skip(start &+ Int(header.checksumOffset))
    unsafe withUnsafeBytes(of: &field) { bytes in
      if let base = bytes.baseAddress { unsafe place.write(base, 2) }
    }
  }
}
