internal import CLinux

/// What frames ask to have done, and doing the checksum of those whose receiver won't.
///
/// Out of the way of frames that ask for nothing: `special.frames` is 0 for a burst of such.
extension Burst {
  /// Whether frame `index` asks for anything; also that of the segment being made.
  @inline(always)
  func asksOffload(_ index: Int) -> Bool {
    unsafe special.marked != 0 && !special.needs[index].isEmpty
  }

  func netHeader(_ index: Int) -> NetHeader {
    unsafe NetHeader(word: netHeaders[index], checksumOffset: special.checksumOffsets[index])
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
    guard start &+ Int(asked.checksumOffset) &+ 2 <= length else { return .malformedOffload }
    if asked.type == NetHeader.Segmentation.none {
      let isBehindIPv4 = unsafe start >= EthernetHeader.size &+ 20 && headers[index].isPlainIPv4
      guard isBehindIPv4 || start >= endOfNetworkHeader(index) else { return .malformedOffload }
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
    guard let headers = takeHeaders(index) else { return .malformedOffload }
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

  /// Offset of the first byte of frame `index` in which a checksum may begin, and then be written: behind addresses, tags
  /// and type, by which frames are switched, and behind what routes them. That is IP's header with its options; what other
  /// packets begin with is not known here, and not kept from them.
  @inline(never)
  private func endOfNetworkHeader(_ index: Int) -> Int {
    let header = unsafe headers[index]
    if header.isTagged { return endOfTaggedHeader(index) }
    return Burst.endOfNetworkHeader(
      type: header.type, first: header.firstOfPayload, at: EthernetHeader.size)
  }

  /// The same behind tags, which are judged in the frame's front, so that they are what is delivered. More than two are
  /// a packet that begins with a tag.
  private func endOfTaggedHeader(_ index: Int) -> Int {
    let most = EthernetHeader.size &+ 2 &* 4
    let count = deepenFront(of: index, to: most &+ 1)
    // SAFETY: each offset is below `count`, the bytes of the front.
    let bytes = unsafe special.start(index, special.fronts[index])
    var place = EthernetHeader.size
    while place < count {
      let type = unsafe UInt16(bytes[place &- 2]) &<< 8 | UInt16(bytes[place &- 1])
      if type != 0x8100 && type != 0x88A8 || place == most {
        return unsafe Burst.endOfNetworkHeader(type: type, first: bytes[place], at: place)
      }
      place &+= 4
    }
    // The frame ends among its tags, and no checksum fits behind them.
    return .max
  }

  private static func endOfNetworkHeader(type: UInt16, first: UInt8, at place: Int) -> Int {
    switch type {
    case 0x0800: place &+ max(20, Int(first & 15) &* 4)
    case 0x86DD: place &+ 40
    default: place
    }
  }

  func keep(_ index: Int, _ header: NetHeader, needs: Offloads) {
    unsafe netHeaders[index] = header.word
    unsafe special.checksumOffsets[index] = header.checksumOffset
    unsafe special.needs[index] = needs
  }

  /// Finds the headers of frame `index`, which become its front: those that are judged are those that are delivered,
  /// with the frame or with each of its segments.
  private func takeHeaders(_ index: Int) -> SegmentableHeaders? {
    let count = deepenFront(of: index, to: SegmentableHeaders.maximum)
    guard let headers = headers(in: index, count) else { return nil }
    shortenFront(of: index, to: headers.length)
    return headers
  }

  /// The headers that a frame's front, of `count` bytes, begins with.
  func headers(in index: Int, _ count: Int) -> SegmentableHeaders? {
    unsafe SegmentableHeaders(special.start(index, special.fronts[index]), count: count)
  }

  // ---- The way out ----

  /// Whether frame `index` is too long for a port.
  ///
  /// - Parameter limit: bytes of the longest untagged frame. A VLAN tag, or two, is not part of the MTU, and of a frame that
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
    if asksOffload(index), unsafe special.needs[index].segments {
      let header = netHeader(index)
      length = min(length, UInt32(header.headersLength &+ header.segmentSize))
    }
    if unsafe !headers[index].isTagged { return length > limit }
    return length > limit &+ 4 && (length > limit &+ 8 || !hasSecondTag(index))
  }

  /// Whether behind the tag of frame `index` there is another. Of a frame whose headers were not copied it is a look at what its
  /// sender may be changing: four bytes more or less, of a frame of its own, are nothing to gain.
  private func hasSecondTag(_ index: Int) -> Bool {
    let front = unsafe front(of: index)
    let place = EthernetHeader.size &+ 2
    var type: UInt16
    if unsafe front.length >= place &+ 2 {
      type = unsafe front.base.loadUnaligned(fromByteOffset: place, as: UInt16.self).byteSwapped
    } else {
      guard unsafe front.length == place else { return false }
      var rest = rest(of: index)
      type = UInt16(rest.byte()) &<< 8
      type |= UInt16(rest.byte())
    }
    return type == 0x8100 || type == 0x88A8
  }

  /// Whether frame `index` must be cut into segments for a receiver.
  @inline(always)
  func mustSegment(_ index: Int, accepted: Offloads) -> Bool {
    let needs = unsafe special.needs[index]
    return needs.segments && !accepted.covers(needs)
  }

  /// Takes `count` of the segments that the burst may still be cut into; `false`: there are too few. They are the
  /// burst's, not a receiver's, so that a turn stays short however many of those a frame has.
  func claimSegments(_ count: Int) -> Bool {
    let left = special.segmentsLeft &- count
    if left < 0 { return false }
    special.segmentsLeft = left
    return true
  }

  /// Mends the first `count` of `buffers`, into which frames were copied as if there were nothing special about them:
  /// each gets its front, and its virtio-net header, or its checksum where the receiver does not do it.
  @inline(never)
  func finish(
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, headerSize: UInt32, accepted: Offloads
  ) {
    for position in 0..<count {
      let index = Int(unsafe order[position])
      let needs = unsafe special.needs[index]
      let front = unsafe special.fronts[index]
      // SAFETY: the buffer has room for the header and the frame; the driver has not been shown it yet.
      let base = unsafe UnsafeMutableRawPointer(bitPattern: buffers[position]).unsafelyUnwrapped
      if front.length > 0 {
        unsafe clx_copy(
          base + Int(headerSize), special.start(index, front), Int(front.length))
      }
      if needs.isEmpty { continue }
      if accepted.covers(needs) {
        unsafe netHeader(index).writeRequest(base)
      } else {
        unsafe targets[0] = unsafe Piece(base + Int(headerSize), lengths[index])
        completeChecksum(index, of: unsafe PieceCursor(targets, count: 1))
      }
    }
  }

  /// Completes the checksum of frame `index`: in the receiver's copy, so that it is that of the bytes that were
  /// delivered. A receiver that changes them meanwhile harms itself.
  ///
  /// - Parameter frame: where the copy begins.
  func completeChecksum(_ index: Int, of frame: PieceCursor) {
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
