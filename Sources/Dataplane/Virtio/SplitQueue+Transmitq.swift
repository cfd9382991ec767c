internal import CLinux

/// Taking frames from a guest: the burst becomes views of its memory, nothing is copied.
///
/// SAFETY: a frame's address is what `translate` or `walk` has proved to be mapped for the frame's length; frame
/// and segment indices stay below the capacities that `gather` checks before each chain.
extension SplitQueue {
  /// Takes up to `Burst.size` chains. Each becomes a frame of `burst`, or a named drop; either way it has
  /// its used entry, which `publish` shows once the burst has been delivered.
  ///
  /// Returns how many entries of `burst.frames` were filled (dropped ones have `destination` set to
  /// `Frame.dropped`) and the bytes of those that live.
  mutating func gather(_ burst: Burst) -> (frames: Int, bytes: Int) {
    let count = available(Burst.size)
    var taken = 0
    var bytes = 0
    var segments = 0
    while taken < count {
      let head = availEntry(nextAvail)
      if head >= size {
        breakDown(.headOutOfRange)
        break
      }
      // Bounds the work of one burst: a chain of a thousand pieces ends it.
      if segments > Burst.segmentCapacity &- Burst.maximumSegments { break }
      nextAvail &+= 1
      let reason = unsafe view(
        head, as: &burst.frames[taken], segments: burst.segments, used: &segments)
      if let reason {
        counters.drop(reason)
        unsafe burst.frames[taken].destination = Frame.dropped
      } else {
        bytes &+= Int(unsafe burst.frames[taken].length)
        unsafe burst.frames[taken].destination = 0
      }
      append(head: head, written: 0)
      taken &+= 1
    }
    return (taken, bytes)
  }

  /// Makes `frame` a view of the chain at `head`, or says why it can't.
  @inline(always)
  private mutating func view(
    _ head: UInt16, as frame: inout Frame, segments: UnsafeMutablePointer<Segment>,
    used: inout Int
  ) -> DropReason? {
    // The common case first: header and frame in one descriptor.
    let descriptor = unsafe Descriptor(descriptors, head)
    if descriptor.flags & (Descriptor.next | Descriptor.write | Descriptor.indirect) == 0,
      descriptor.length >= headerSize &+ UInt32(EthernetHeader.held),
      let base = unsafe memory.translate(descriptor.address, descriptor.length, hint: &region)
    {
      if unsafe offloadAsked(clx_fetch16(base)) { return .offloadNotNegotiated }
      return unsafe whole(base + Int(headerSize), descriptor.length &- headerSize, &frame)
    }
    return unsafe viewAnyLayout(head, as: &frame, segments: segments, used: &used)
  }

  /// A frame of at least 16 bytes in one piece.
  @inline(always)
  private func whole(
    _ data: UnsafeMutableRawPointer, _ length: UInt32, _ frame: inout Frame
  ) -> DropReason? {
    if length > UInt32(Frame.maximumLength) { return .oversize }
    frame.header.first = unsafe clx_fetch64(data)
    frame.header.second = unsafe clx_fetch64(data + 8)
    frame.contiguous = UInt(bitPattern: data)
    frame.length = length
    return nil
  }

  /// `flags` (low byte) and `gso_type` of the virtio-net header ask for work that nobody negotiated.
  /// Unknown flags are ignored (5.1.9.2.2).
  @inline(always)
  private func offloadAsked(_ flagsAndType: UInt16) -> Bool {
    flagsAndType & (UInt16(VIRTIO_NET_HDR_F_NEEDS_CSUM) | 0xFF00) != 0
  }

  /// The header may share a descriptor with the frame, or be split over several (2.7.4.1).
  @inline(never)
  private mutating func viewAnyLayout(
    _ head: UInt16, as frame: inout Frame, segments: UnsafeMutablePointer<Segment>,
    used: inout Int
  ) -> DropReason? {
    let output = unsafe segments + used
    var budget = Burst.maximumDescriptors
    let chain = unsafe walk(
      head: head, writable: false, output: output, capacity: Burst.maximumSegments,
      budget: &budget)
    if let fault = chain.fault { return fault }
    if chain.length < headerSize { return .headerTooShort }
    let length = chain.length &- headerSize
    if length < UInt32(EthernetHeader.size) { return .runt }
    if length > UInt32(Frame.maximumLength) { return .oversize }

    // The virtio-net header's first two bytes, then past the rest of it.
    var cursor = unsafe SegmentCursor(output, count: Int(chain.segments))
    let flags = UInt16(cursor.byte())
    let type = UInt16(cursor.byte())
    if offloadAsked(flags | type &<< 8) { return .offloadNotNegotiated }
    cursor.skip(Int(headerSize) &- 2)
    cursor.dropConsumed()

    if cursor.remainingHere >= Int(length), length >= UInt32(EthernetHeader.held) {
      return unsafe whole(cursor.here, length, &frame)
    }
    frame.contiguous = 0
    frame.length = length
    frame.firstSegment = UInt32(truncatingIfNeeded: used &+ cursor.index)
    frame.segmentCount = chain.segments &- UInt32(truncatingIfNeeded: cursor.index)
    used &+= Int(chain.segments)

    // What is judged is kept; delivery writes these bytes and reads the pieces only behind them.
    var words: (UInt64, UInt64) = (0, 0)
    let held = min(Int(length), EthernetHeader.held)
    for position in 0..<held {
      let byte = UInt64(cursor.byte())
      if position < 8 {
        words.0 |= byte &<< UInt64(8 &* position)
      } else {
        words.1 |= byte &<< UInt64(8 &* (position &- 8))
      }
    }
    frame.header.first = UInt64(littleEndian: words.0)
    frame.header.second = UInt64(littleEndian: words.1)
    return nil
  }
}
