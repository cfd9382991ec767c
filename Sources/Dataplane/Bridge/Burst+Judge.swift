internal import CLinux

/// Judging the headers of a burst's frames on their way in, whatever kind of queue they lie in.
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
  /// for work that was not negotiated, or can't be done.
  ///
  /// - Parameters:
  ///   - headerSize: bytes between the virtio-net header's first and the frame's first, in frames that are not
  ///     judged yet.
  ///   - allowed: what the sender may ask for.
  @inline(always)
  func judge(
    _ gathered: inout Gathered, headerSize: UInt32, allowed: Offloads, _ counters: Counters
  ) -> Judged {
    special.marked = 0
    special.behindHeader = ~gathered.judged
    if gathered.judged | gathered.dropped == 0 {
      let (judged, asked) = loadPlain(gathered.frames, headerSize: headerSize)
      if !NetHeader.asks(asked) { return judged }
    } else {
      let (judged, asked) = loadRest(gathered, headerSize: headerSize)
      if gathered.dropped == 0, !NetHeader.asks(asked) { return judged }
    }
    return judgeEach(&gathered, headerSize: headerSize, allowed: allowed, counters)
  }

  /// A burst of plain frames: few instructions each, so that the processor has many of the loads, which miss
  /// its caches, in flight at a time. A function of its own, as its loop wants every register.
  @inline(never)
  private func loadPlain(_ count: Int, headerSize: UInt32) -> (judged: Judged, asked: UInt64) {
    let addresses = unsafe addresses
    let headers = unsafe headers
    let lengths = unsafe lengths
    let netHeaders = unsafe netHeaders
    let back = UInt(headerSize)
    let flow = unsafe load(addresses[0])
    var difference: UInt64 = 0
    var asked: UInt64 = 0
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

  /// The same of a burst of which some frames are judged or dropped already; what it returns means something if none is
  /// dropped.
  @inline(never)
  private func loadRest(
    _ gathered: Gathered, headerSize: UInt32
  ) -> (judged: Judged, asked: UInt64) {
    var left = ~(gathered.judged | gathered.dropped)
    if gathered.frames < Burst.size { left &= 1 &<< UInt64(gathered.frames) &- 1 }
    while left != 0 {
      let index = left.trailingZeroBitCount
      left &= left &- 1
      let address = unsafe addresses[index]
      unsafe headers[index] = load(address)
      unsafe netHeaders[index] = loadNet(address &- UInt(headerSize))
    }
    let flow = unsafe headers[0]
    var difference: UInt64 = 0
    var asked: UInt64 = 0
    var bytes: UInt64 = 0
    var index = 0
    while index < gathered.frames {
      difference |= unsafe headers[index].difference(from: flow)
      asked |= unsafe netHeaders[index]
      bytes &+= UInt64(unsafe lengths[index])
      index &+= 1
    }
    return (Judged(bytes: Int(bytes), isOneFlow: difference == 0), asked)
  }

  @inline(never)
  private func judgeEach(
    _ gathered: inout Gathered, headerSize: UInt32, allowed: Offloads, _ counters: Counters
  ) -> Judged {
    var judged = Judged()
    var offloaded: FrameSet = 0
    let flow = unsafe headers[0]
    for index in 0..<gathered.frames {
      let bit: FrameSet = 1 &<< UInt64(index)
      unsafe special.needs[index] = .none
      unsafe special.fronts[index] = Front()
      if gathered.dropped & bit == 0, unsafe NetHeader.asks(netHeaders[index]) {
        if gathered.judged & bit == 0 {
          unsafe special.checksumOffsets[index] = loadChecksumOffset(
            addresses[index] &- UInt(headerSize))
        }
        if let reason = judgeOffload(index, allowed: allowed) {
          counters.drop(reason)
          gathered.dropped |= bit
        } else {
          offloaded |= bit
        }
      }
      if gathered.dropped & bit != 0 {
        judged.isOneFlow = false
        continue
      }
      judged.bytes &+= Int(unsafe lengths[index])
      if unsafe headers[index].difference(from: flow) != 0 { judged.isOneFlow = false }
    }
    special.marked = offloaded
    special.segmentsLeft = Burst.maximumSegmentsOfBurst
    return judged
  }

  @inline(always)
  private func load(_ address: UInt) -> EthernetHeader {
    // SAFETY: a plain frame has at least 16 bytes.
    let data = unsafe UnsafeRawPointer(bitPattern: address).unsafelyUnwrapped
    return unsafe EthernetHeader(first: clx_fetch64(data), second: clx_fetch64(data + 8))
  }

  @inline(always)
  private func loadNet(_ address: UInt) -> UInt64 {
    // SAFETY: a plain frame's virtio-net header lies right before it, in the same buffer.
    UInt64(
      littleEndian: unsafe clx_fetch64(UnsafeRawPointer(bitPattern: address).unsafelyUnwrapped))
  }

  @inline(always)
  private func loadChecksumOffset(_ address: UInt) -> UInt16 {
    let place = address &+ UInt(NetHeader.checksumOffsetPlace)
    // SAFETY: as in `loadNet`.
    return UInt16(
      littleEndian: unsafe clx_fetch16(UnsafeRawPointer(bitPattern: place).unsafelyUnwrapped))
  }
}
