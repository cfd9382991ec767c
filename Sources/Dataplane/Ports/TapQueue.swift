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
  static let vectorCapacity = Burst.maximumSegments + 2

  let descriptor: CInt
  /// Bytes of the virtio-net header.
  let headerSize: Int

  /// Reads what is there into `buffer`, at most `burst` frames. Returns their number and bytes; a frame too
  /// short for an Ethernet header counts as dropped.
  func gather(
    _ burst: Burst, _ buffer: UnsafeMutableRawPointer, _ counters: Counters
  ) -> (frames: Int, bytes: Int) {
    var taken = 0
    var bytes = 0
    while taken < TapQueue.burst {
      let data = unsafe buffer + (taken &* TapQueue.stride &+ TapQueue.frameOffset)
      // SAFETY: a place has room for the header before `data` and the longest frame behind it.
      let count = unsafe read(
        descriptor, data - headerSize, TapQueue.stride &- TapQueue.frameOffset &+ headerSize)
      if count <= 0 {
        // What a deleted interface answers; nothing will ever come from it again.
        if count < 0, errno == EBADFD { counters.setFault(.deviceGone) }
        break
      }
      let length = count &- headerSize
      let frame = unsafe burst.frames + taken
      taken &+= 1
      if length < EthernetHeader.held {
        // Linux pads what it sends to 60 bytes, so nothing shorter is worth a path of its own.
        counters.drop(.runt)
        unsafe frame.pointee.destination = Frame.dropped
        continue
      }
      bytes &+= length
      unsafe frame.pointee.header.first = clx_fetch64(data)
      unsafe frame.pointee.header.second = clx_fetch64(data + 8)
      unsafe frame.pointee.contiguous = UInt(bitPattern: data)
      unsafe frame.pointee.length = UInt32(truncatingIfNeeded: length)
      unsafe frame.pointee.destination = 0
    }
    return (taken, bytes)
  }

  /// Writes the frames linked from `first`, each straight from its sender's memory.
  ///
  /// - Parameter vectors: room for `vectorCapacity`.
  func deliver(
    _ burst: Burst, first: UInt16, limit: UInt32, vectors: UnsafeMutablePointer<iovec>,
    _ counters: Counters
  ) -> SplitQueue.Delivered {
    var delivered = SplitQueue.Delivered()
    var index = first
    while index != Frame.end {
      let frame = unsafe burst.frames + Int(index)
      let length = unsafe frame.pointee.length
      index = unsafe frame.pointee.next
      if length > limit, unsafe length > limit &+ (frame.pointee.header.isTagged ? 4 : 0) {
        counters.drop(.exceedsMTU)
        continue
      }
      let result = unsafe write(frame, burst, vectors)
      if result >= 0 {
        delivered.frames &+= 1
        delivered.bytes &+= Int(length)
      } else {
        switch errno {
        case EAGAIN, ENOBUFS: counters.drop(.uplinkBusy)
        case EIO, ENODEV, EBADFD: counters.drop(.uplinkDown)
        default: counters.drop(.uplinkError)
        }
      }
    }
    return delivered
  }

  private func write(
    _ frame: UnsafeMutablePointer<Frame>, _ burst: Burst, _ vectors: UnsafeMutablePointer<iovec>
  ) -> Int {
    // A header of zeroes: nothing is offloaded. It and the judged bytes come from private memory.
    var zero: (UInt64, UInt64) = (0, 0)
    let length = Int(unsafe frame.pointee.length)
    let held = min(length, EthernetHeader.held)
    // SAFETY: every vector names bytes that live until the call returns: a local, the burst, or guest
    // memory that stays mapped while this turn lasts.
    return unsafe withUnsafeMutableBytes(of: &zero) { header in
      unsafe vectors[0] = unsafe iovec(iov_base: header.baseAddress, iov_len: headerSize)
      unsafe vectors[1] = unsafe iovec(iov_base: UnsafeMutableRawPointer(frame), iov_len: held)
      var count = 2
      if let base = unsafe UnsafeMutableRawPointer(bitPattern: frame.pointee.contiguous) {
        unsafe vectors[2] = unsafe iovec(iov_base: base + held, iov_len: length &- held)
        count = 3
      } else {
        let segments = unsafe burst.segments + Int(frame.pointee.firstSegment)
        var skip = held
        for piece in 0..<Int(unsafe frame.pointee.segmentCount) {
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
      return unsafe writev(descriptor, vectors, CInt(truncatingIfNeeded: count))
    }
  }
}
