internal import CLinux
internal import CVector

/// The virtio-net header (virtio v1.4, 5.1.9) and the frame behind it: what is judged on the way in and
/// written on the way out, whatever kind of queue they lie in.
extension Burst {
  /// What `judge` found in frames that were not dropped before.
  struct Judged {
    /// Bytes of the frames.
    var bytes = 0
    /// Whether every frame has the source and the destination of frame 0, and none is dropped.
    var isOneFlow = true
  }

  /// Asks for the first line of each frame that `judge` will look at: more of them come at a time than the loads
  /// there, with what is done between them, would ask for.
  @inline(always)
  func prefetch(_ gathered: Gathered) {
    if gathered.judged | gathered.dropped != 0 { return }
    let addresses = unsafe addresses
    for index in 0..<gathered.frames {
      // SAFETY: a plain frame's address is never 0.
      unsafe clx_prefetch_read(UnsafeRawPointer(bitPattern: addresses[index]).unsafelyUnwrapped)
    }
  }

  /// Loads the headers of each frame, once: what is judged here is what is delivered. Drops frames that ask
  /// for work that nobody negotiated.
  ///
  /// - Parameter headerSize: bytes between the virtio-net header's first and the frame's first, in frames
  ///   that are not judged yet.
  @inline(always)
  func judge(_ gathered: inout Gathered, headerSize: UInt32, _ counters: Counters) -> Judged {
    if gathered.judged | gathered.dropped == 0 {
      let (judged, asked) = loadPlain(gathered.frames, headerSize: headerSize)
      if !Burst.isOffload(asked) { return judged }
    } else {
      loadRest(gathered, headerSize: headerSize)
    }
    return judgeEach(&gathered, counters)
  }

  /// A burst of plain frames: few instructions each, so that the processor has many of the loads, which miss
  /// its caches, in flight at a time.
  @inline(always)
  private func loadPlain(_ count: Int, headerSize: UInt32) -> (judged: Judged, asked: UInt16) {
    let addresses = unsafe addresses
    let headers = unsafe headers
    let lengths = unsafe lengths
    let netHeaders = unsafe netHeaders
    let back = UInt(headerSize)
    let flow = unsafe load(addresses[0])
    var difference: UInt64 = 0
    var asked: UInt16 = 0
    var bytes: UInt64 = 0
    var index = 0
    while index < count {
      let address = unsafe addresses[index]
      let header = index == 0 ? flow : load(address)
      let net = loadNet(address &- back)
      unsafe headers[index] = header
      unsafe netHeaders[index] = net
      difference |= header.difference(from: flow)
      asked |= net
      bytes &+= UInt64(unsafe lengths[index])
      index &+= 1
    }
    return (Judged(bytes: Int(bytes), isOneFlow: difference == 0), asked)
  }

  @inline(never)
  private func loadRest(_ gathered: Gathered, headerSize: UInt32) {
    for index in 0..<gathered.frames
    where (gathered.judged | gathered.dropped) & 1 &<< UInt64(index) == 0 {
      let address = unsafe addresses[index]
      unsafe headers[index] = load(address)
      unsafe netHeaders[index] = loadNet(address &- UInt(headerSize))
    }
  }

  @inline(never)
  private func judgeEach(_ gathered: inout Gathered, _ counters: Counters) -> Judged {
    var judged = Judged()
    let flow = unsafe headers[0]
    for index in 0..<gathered.frames {
      let bit: Set = 1 &<< UInt64(index)
      if gathered.dropped & bit == 0, unsafe Burst.isOffload(netHeaders[index]) {
        counters.drop(.offloadNotNegotiated)
        gathered.dropped |= bit
      }
      if gathered.dropped & bit != 0 {
        judged.isOneFlow = false
        continue
      }
      judged.bytes &+= Int(unsafe lengths[index])
      if unsafe headers[index].difference(from: flow) != 0 { judged.isOneFlow = false }
    }
    return judged
  }

  @inline(always)
  private func load(_ address: UInt) -> EthernetHeader {
    // SAFETY: a plain frame has at least 16 bytes.
    let data = unsafe UnsafeRawPointer(bitPattern: address).unsafelyUnwrapped
    return unsafe EthernetHeader(first: clx_fetch64(data), second: clx_fetch64(data + 8))
  }

  @inline(always)
  private func loadNet(_ address: UInt) -> UInt16 {
    // SAFETY: a plain frame's virtio-net header lies right before it, in the same buffer.
    unsafe clx_fetch16(UnsafeRawPointer(bitPattern: address).unsafelyUnwrapped)
  }

  /// Flags (low byte) and type of segmentation ask for work. Unknown flags are ignored (5.1.9.2.2).
  @inline(always)
  private static func isOffload(_ flagsAndType: UInt16) -> Bool {
    flagsAndType & (UInt16(VIRTIO_NET_HDR_F_NEEDS_CSUM) | 0xFF00) != 0
  }

  // ---- Frames in pieces ----

  /// Makes frame `index` a view of `count` pieces from `first` of the segment table, which begin with the
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

    var cursor = unsafe SegmentCursor(segments + first, count: count)
    let flags = UInt16(cursor.byte())
    let type = UInt16(cursor.byte())
    unsafe netHeaders[index] = flags | type &<< 8
    cursor.skip(Int(headerSize) &- 2)
    cursor.dropConsumed()
    unsafe lengths[index] = length
    unsafe addresses[index] = 0
    if cursor.remainingHere >= Int(length), length >= UInt32(EthernetHeader.held) {
      unsafe addresses[index] = UInt(bitPattern: cursor.here)
    } else {
      unsafe pieces[index] = Pieces(
        first: UInt32(truncatingIfNeeded: first &+ cursor.index),
        count: UInt32(truncatingIfNeeded: count &- cursor.index))
    }

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
    unsafe headers[index] = EthernetHeader(
      first: UInt64(littleEndian: words.0), second: UInt64(littleEndian: words.1))
    return nil
  }

  // ---- Delivery ----

  /// Copies frames in one piece, in the order given, to `buffers`, each of which has room for its frame and the
  /// virtio-net header.
  @inline(always)
  func copy(_ order: UnsafeMutablePointer<UInt16>, _ count: Int, headerSize: UInt32) {
    if vectors {
      unsafe cvx_copy(
        order, UInt32(truncatingIfNeeded: count), addresses, lengths, headers, buffers, headerSize)
    } else {
      for position in 0..<min(count, 8) { prefetch(position, headerSize: headerSize) }
      for position in 0..<count {
        if position &+ 8 < count { prefetch(position &+ 8, headerSize: headerSize) }
        unsafe copy(Int(order[position]), to: buffers[position], headerSize: headerSize)
      }
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
    unsafe Burst.writeNetHeader(base, buffers: 1, headerSize: headerSize)
    let header = unsafe headers[index]
    let data = unsafe base + Int(headerSize)
    unsafe data.storeBytes(of: header.first, as: UInt64.self)
    unsafe data.storeBytes(of: header.second, toByteOffset: 8, as: UInt64.self)
    let length = Int(unsafe lengths[index])
    let source = unsafe UnsafeRawPointer(bitPattern: addresses[index]).unsafelyUnwrapped
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

  /// Copies frame `index`, however it lies, into the first `count` of `targets`, which have room for it and
  /// the virtio-net header.
  ///
  /// - Parameter buffers: what the header says of them.
  func fill(_ index: Int, targets count: Int, buffers: Int, headerSize: UInt32) {
    var cursor = unsafe SegmentCursor(targets, count: count)
    let length = Int(unsafe lengths[index])
    // SAFETY: the scratch is private memory of the size given; `held` bytes of the header are the frame's
    // own.
    unsafe withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { scratch in
      guard let base = scratch.baseAddress else { return }
      unsafe Burst.writeNetHeader(
        base, buffers: UInt16(truncatingIfNeeded: buffers), headerSize: headerSize)
      unsafe cursor.write(base, Int(headerSize))
    }
    let held = min(length, EthernetHeader.held)
    unsafe cursor.write(UnsafeRawPointer(headers + index), held)
    if let base = unsafe UnsafeRawPointer(bitPattern: addresses[index]) {
      unsafe cursor.write(base + held, length &- held)
    } else {
      let pieces = unsafe pieces[index]
      var source = unsafe SegmentCursor(segments + Int(pieces.first), count: Int(pieces.count))
      source.skip(held)
      cursor.copy(from: &source, length &- held)
    }
  }

  /// The whole virtio-net header, padding included: no byte of this process's memory reaches a guest.
  /// Nothing is offloaded, so all of it is zero but `num_buffers` (5.1.9.4.1), where there is one.
  @inline(always)
  private static func writeNetHeader(
    _ base: UnsafeMutableRawPointer, buffers: UInt16, headerSize: UInt32
  ) {
    unsafe base.storeBytes(of: 0, as: UInt64.self)
    unsafe base.storeBytes(of: 0, toByteOffset: 8, as: UInt16.self)
    if headerSize == 12 {
      unsafe base.storeBytes(of: buffers.littleEndian, toByteOffset: 10, as: UInt16.self)
    }
  }
}
