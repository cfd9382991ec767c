internal import CLinux
internal import Glibc

/// One queue of a TAP device, seen from a worker: a descriptor that gives and takes one frame a call, behind
/// a virtio-net header.
@safe struct TapQueue {
  /// Frames read in one burst.
  static let burst = 32
  /// Bytes of one frame's place in the worker's buffer: header, the longest frame, up to a whole page.
  static let stride = 17 * 4096
  static let bufferBytes = burst * stride
  /// Where the frame begins in its place; the header lies before it, and the frame is aligned.
  static let frameOffset = 64
  /// Vectors of one write: the virtio-net header, the frame's first bytes, its pieces.
  static let vectorCapacity = Burst.maximumSegments + 4

  let descriptor: CInt
  /// Bytes of the virtio-net header.
  let headerSize: Int
  /// What the kernel takes over of the frames written.
  let offloads: Offloads

  /// Reads what is there into `buffer`, at most `burst` frames, as plain ones: the virtio-net header lies right
  /// before the frame.
  func gather(
    _ burst: Burst, _ buffer: UnsafeMutableRawPointer, _ counters: Counters
  ) -> Gathered {
    var gathered = Gathered()
    while gathered.frames < TapQueue.burst {
      let index = gathered.frames
      let data = unsafe buffer + (index &* TapQueue.stride &+ TapQueue.frameOffset)
      // SAFETY: a place has room for the header before `data` and the longest frame behind it.
      let count = unsafe clx_read(
        descriptor, data - headerSize, TapQueue.stride &- TapQueue.frameOffset &+ headerSize)
      if count <= 0 {
        // What a deleted interface answers; nothing will ever come from it again.
        if count == -Int(EBADFD) { counters.breakDown(.deviceGone) }
        break
      }
      gathered.frames &+= 1
      let length = count &- headerSize
      if length < EthernetHeader.held {
        // Linux pads what it sends to 60 bytes, so nothing shorter is worth a path of its own.
        counters.drop(.runt)
        gathered.dropped |= 1 &<< UInt64(index)
        continue
      }
      unsafe burst.addresses[index] = UInt(bitPattern: data)
      unsafe burst.lengths[index] = UInt32(truncatingIfNeeded: length)
    }
    return gathered
  }

  /// Writes frames in the order given, each straight from its sender's memory.
  ///
  /// - Parameters:
  ///   - order: `count` frames of the burst.
  ///   - vectors: room for `vectorCapacity`.
  @inline(never)
  func deliver(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32,
    vectors: UnsafeMutablePointer<iovec>, _ counters: Counters
  ) -> Delivered {
    var delivered = Delivered()
    let offloaded = burst.requests.frames != 0
    for position in 0..<count {
      let index = Int(unsafe order[position])
      if offloaded, burst.mustSegment(index, accepted: offloads) {
        unsafe deliverSegments(index, burst, limit: limit, vectors, counters, &delivered)
      } else {
        unsafe deliver(index, burst, limit: limit, vectors, counters, &delivered)
      }
    }
    return delivered
  }

  @inline(never)
  private func deliverSegments(
    _ index: Int, _ burst: Burst, limit: UInt32, _ vectors: UnsafeMutablePointer<iovec>,
    _ counters: Counters, _ delivered: inout Delivered
  ) {
    if burst.exceeds(limit, index) {
      counters.drop(.exceedsMTU)
      return
    }
    guard var segments = Segmenter(burst, index) else {
      counters.drop(.malformedOffload)
      return
    }
    guard burst.claimSegments(segments.count) else {
      counters.drop(.segmentLimit)
      return
    }
    delivered.extra &+= segments.count &- 1
    while segments.next() {
      unsafe deliver(Burst.size, burst, limit: limit, vectors, counters, &delivered)
    }
  }

  private func deliver(
    _ index: Int, _ burst: Burst, limit: UInt32, _ vectors: UnsafeMutablePointer<iovec>,
    _ counters: Counters, _ delivered: inout Delivered
  ) {
    if burst.exceeds(limit, index) {
      counters.drop(.exceedsMTU)
      return
    }
    let result = unsafe write(index, burst, vectors)
    if result >= 0 {
      delivered.frames &+= 1
      delivered.bytes &+= Int(unsafe burst.lengths[index])
      return
    }
    switch Int32(truncatingIfNeeded: -result) {
    case EAGAIN, ENOBUFS: counters.drop(.uplinkBusy)
    case EIO, ENODEV, EBADFD: counters.drop(.uplinkDown)
    default: counters.drop(.uplinkError)
    }
  }

  private func write(
    _ index: Int, _ burst: Burst, _ vectors: UnsafeMutablePointer<iovec>
  ) -> Int {
    // The virtio-net header and the judged bytes come from private memory.
    let asked = burst.asksOffload(index) ? burst.netHeader(index) : NetHeader.none
    var header: (UInt64, UInt64) = (0, 0)
    let length = Int(unsafe burst.lengths[index])
    let held = min(length, EthernetHeader.held)
    // SAFETY: every vector names bytes that live until the call returns: a local, the burst, or guest
    // memory that stays mapped while this turn lasts.
    return unsafe withUnsafeMutableBytes(of: &header) { header in
      if let base = header.baseAddress { unsafe asked.writeRequest(base) }
      unsafe vectors[0] = unsafe iovec(iov_base: header.baseAddress, iov_len: headerSize)
      unsafe vectors[1] = unsafe iovec(
        iov_base: UnsafeMutableRawPointer(burst.headers + index), iov_len: held)
      var count = 2
      if let base = unsafe UnsafeMutableRawPointer(bitPattern: burst.addresses[index]) {
        unsafe vectors[2] = unsafe iovec(iov_base: base + held, iov_len: length &- held)
        count = 3
      } else {
        let pieces = unsafe burst.pieces[index]
        let segments = unsafe burst.segments + Int(pieces.first)
        var skip = held
        for piece in 0..<Int(pieces.count) {
          let segment = unsafe segments[piece]
          let step = min(skip, Int(segment.length))
          skip &-= step
          if step == Int(segment.length) { continue }
          unsafe vectors[count] = unsafe iovec(
            iov_base: UnsafeMutableRawPointer(bitPattern: segment.base &+ UInt(step)),
            iov_len: Int(segment.length) &- step)
          count &+= 1
        }
      }
      return unsafe clx_writev(descriptor, vectors, CInt(truncatingIfNeeded: count))
    }
  }
}
