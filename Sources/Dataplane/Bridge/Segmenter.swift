internal import CLinux

/// Cuts one frame of a burst into segments for a receiver that can't take it whole: TCP (RFC 9293) over IPv4 and
/// IPv6, and UDP, a datagram each.
///
/// `next` makes one segment after the other, as frame `Burst.size` of the burst: its front is the headers that were
/// judged, changed for the segment, its pieces are the sender's payload. Its checksum is left to be completed, so
/// it is delivered like any other frame that asks for that.
///
/// SAFETY: the fronts and the spare pieces belong to the burst; offsets into a front are those that
/// `SegmentableHeaders` has found within it.
@safe struct Segmenter {
  private let burst: Burst
  private let index: Int
  private let headers: SegmentableHeaders
  private let whole: NetHeader
  private let payload: Int
  private var source: PieceCursor
  /// Bytes of payload that were cut off so far, and segments made of them.
  private var done = 0
  private var number = 0

  /// - Parameter index: a frame that was judged to ask for segmentation.
  init?(_ burst: Burst, _ index: Int) {
    let front = unsafe burst.special.fronts[index]
    // They were found before, in the same bytes.
    guard let headers = burst.headers(in: index, Int(front.length)),
      headers.length == Int(front.length)
    else { return nil }
    self.burst = burst
    self.index = index
    self.headers = headers
    whole = burst.netHeader(index)
    payload = Int(unsafe burst.lengths[index]) &- headers.length
    source = burst.rest(of: index)
  }

  /// Segments there will be.
  var count: Int { max(1, (payload &+ whole.segmentSize &- 1) / whole.segmentSize) }
  /// Segments there are still to be made.
  var left: Int { count &- number }

  /// Makes the next segment; `false`: there is none.
  mutating func next() -> Bool {
    if number > 0, done >= payload { return false }
    let part = min(whole.segmentSize, payload &- done)
    let isLast = done &+ part == payload
    let segment = Burst.size
    let copy = unsafe burst.special.area(segment, rewritten: false)
    let front = unsafe burst.front(of: index)
    unsafe clx_copy(copy, front.base, headers.length)
    unsafe change(copy, part: part, isLast: isLast)

    unsafe burst.headers[segment] = unsafe burst.headers[index]
    unsafe burst.lengths[segment] = UInt32(truncatingIfNeeded: headers.length &+ part)
    unsafe burst.addresses[segment] = 0
    burst.keep(
      segment, NetHeader(checksumAt: headers.transport, offset: headers.checksumOffset),
      needs: .checksum)
    unsafe burst.special.fronts[segment] = Front(
      length: UInt16(truncatingIfNeeded: headers.length))
    let pieces = unsafe source.cut(
      part, into: burst.pieces + Burst.sparePieces, capacity: Burst.spareCapacity &- 3)
    unsafe burst.extents[segment] = Burst.Extent(
      first: UInt32(Burst.sparePieces), count: UInt32(truncatingIfNeeded: pieces))
    done &+= part
    number &+= 1
    return true
  }

  // ---- The headers ----

  private func change(_ copy: UnsafeMutablePointer<UInt8>, part: Int, isLast: Bool) {
    let length = headers.length &+ part
    if headers.isIPv6 {
      unsafe store(length &- headers.network &- 40, copy, headers.network &+ 4)
    } else {
      unsafe store(length &- headers.network, copy, headers.network &+ 2)
      unsafe store(word(copy, headers.network &+ 4) &+ number, copy, headers.network &+ 4)
      unsafe store(0, copy, headers.network &+ 10)
      var sum = Checksum()
      unsafe sum.add(copy + headers.network, Int(copy[headers.network] & 15) &* 4)
      unsafe store(Int((~sum.folded).bigEndian), copy, headers.network &+ 10)
    }

    // The sender has summed the pseudo header, with the length of the whole: only that differs. Which addresses
    // belong into it where there are routing headers is the sender's business.
    var sum = Checksum()
    let field = headers.transport &+ Int(headers.checksumOffset)
    unsafe sum.add(UInt16(truncatingIfNeeded: word(copy, field)))
    sum.add(~UInt16(truncatingIfNeeded: headers.length &+ payload &- headers.transport))
    sum.add(UInt16(truncatingIfNeeded: length &- headers.transport))
    unsafe store(Int(sum.folded.bigEndian), copy, field)

    if headers.isTCP {
      let sequence = headers.transport &+ 4
      let low = unsafe word(copy, sequence &+ 2) &+ (done & 0xFFFF)
      unsafe store(low, copy, sequence &+ 2)
      unsafe store(word(copy, sequence) &+ done &>> 16 &+ low &>> 16, copy, sequence)
      let flags = unsafe copy + (headers.transport &+ 13)
      // CWR tells of one event, so once; FIN and PSH belong to the end.
      if number > 0 { unsafe flags.pointee &= ~0x80 }
      if !isLast { unsafe flags.pointee &= ~0x09 }
    } else {
      unsafe store(length &- headers.transport, copy, headers.transport &+ 4)
    }
  }

  /// The value of two bytes in network byte order.
  @inline(always)
  private func word(_ copy: UnsafeMutablePointer<UInt8>, _ offset: Int) -> Int {
    unsafe Int(copy[offset]) &<< 8 | Int(copy[offset &+ 1])
  }

  /// Stores the low 16 bits of `value` in network byte order.
  @inline(always)
  private func store(_ value: Int, _ copy: UnsafeMutablePointer<UInt8>, _ offset: Int) {
    unsafe copy[offset] = UInt8(truncatingIfNeeded: value &>> 8)
    unsafe copy[offset &+ 1] = UInt8(truncatingIfNeeded: value)
  }
}
