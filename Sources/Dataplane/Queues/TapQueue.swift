internal import CLinux
internal import Glibc
public import Linux

/// One direction of a queue of a TAP device, seen from a worker: a descriptor that gives or takes one frame a call,
/// behind a virtio-net header.
///
/// A read is a system call, and an idle uplink must not cost the guests one a turn. So after an empty read the queue is
/// left alone for a microsecond, and longer and longer after more of them; silent for longer, it is waited for by its descriptor
/// (`Attention`).
@safe struct TapQueue {
  /// Where the frame begins in its place; the header lies before it, and the frame is aligned.
  static let frameOffset = 64
  /// Microseconds without a look: after the first empty read, and at the most.
  private static let pauses = 1...16

  let descriptor: CInt
  /// Bytes of the virtio-net header.
  let headerSize: Int
  /// What the kernel takes over of the frames written.
  let offloads: Offloads
  let state: QueueState
  /// The time-stamp counter at which to read next, and how long to wait after an empty read.
  private var due: UInt64 = 0
  private var pause: UInt64 = 0
  private let shortest = TickClock.counts(microseconds: TapQueue.pauses.lowerBound)
  private let longest = TickClock.counts(microseconds: TapQueue.pauses.upperBound)

  init(descriptor: CInt, headerSize: Int, offloads: Offloads, state: QueueState) {
    self.descriptor = descriptor
    self.headerSize = headerSize
    self.offloads = offloads
    self.state = state
  }

  /// Reads what is there, and there is room for, as plain frames: the virtio-net header lies right before the frame.
  @inline(never)
  mutating func gather(_ burst: Burst) -> Gathered {
    let now = clx_ticks()
    if now < due || state.counters.isBroken { return Gathered() }
    let gathered = read(burst)
    pause = gathered.frames > 0 ? 0 : min(longest, max(shortest, pause &* 2))
    due = now &+ pause
    return gathered
  }

  private func read(_ burst: Burst) -> Gathered {
    let counters = state.counters
    let buffer = unsafe burst.special.room
    var gathered = Gathered()
    // What long ones cost others: as of any burst.
    var surplus = 0
    while gathered.frames < Burst.Special.roomPlaces, surplus < Burst.size {
      let index = gathered.frames
      let data = unsafe buffer + (index &* Burst.Special.roomStride &+ TapQueue.frameOffset)
      // SAFETY: a place has room for the header before `data` and the longest frame behind it.
      let count = unsafe clx_read(
        descriptor, data - headerSize,
        Burst.Special.roomStride &- TapQueue.frameOffset &+ headerSize)
      if count <= 0 {
        // What a deleted interface answers; nothing will ever come from it again.
        if count == -Int(EBADFD) { counters.breakDown(.deviceGone) }
        break
      }
      gathered.frames &+= 1
      let length = count &- headerSize
      surplus &+= Burst.surplus(UInt32(truncatingIfNeeded: max(1, length)))
      if length < EthernetHeader.held {
        unsafe take(short: index, burst, data - headerSize, count, &gathered)
        continue
      }
      unsafe burst.addresses[index] = UInt(bitPattern: data)
      unsafe burst.lengths[index] = UInt32(truncatingIfNeeded: length)
    }
    return gathered
  }

  /// Takes a frame that does not fill what is judged as one in pieces, of which there is one. Nothing on a TAP pads a frame, and
  /// what is behind this one is an earlier frame's.
  @inline(never)
  private func take(
    short index: Int, _ burst: Burst, _ base: UnsafeMutableRawPointer, _ count: Int,
    _ gathered: inout Gathered
  ) {
    unsafe burst.pieces[index] = Piece(
      UInt(bitPattern: base), UInt32(truncatingIfNeeded: count))
    let reason = burst.view(
      index, first: index, count: 1, length: UInt32(truncatingIfNeeded: count),
      headerSize: UInt32(truncatingIfNeeded: headerSize))
    if let reason {
      state.counters.drop(reason)
      gathered.dropped |= 1 &<< UInt64(index)
    } else {
      gathered.judged |= 1 &<< UInt64(index)
    }
  }

  /// The worker has slept, and looks at once.
  mutating func disarm() { due = 0 }

  /// Writes frames in the order given, each straight from its sender's memory.
  ///
  /// - Parameter order: `count` frames of the burst.
  @inline(never)
  func deliver(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) -> Delivered {
    var delivered = Delivered()
    let isMarked = burst.special.marked != 0
    for position in 0..<count {
      let index = Int(unsafe order[position])
      if isMarked, burst.mustSegment(index, accepted: offloads) {
        deliverSegments(index, burst, limit: limit, &delivered)
      } else {
        deliver(index, burst, limit: limit, &delivered)
      }
    }
    return delivered
  }

  @inline(never)
  private func deliverSegments(
    _ index: Int, _ burst: Burst, limit: UInt32, _ delivered: inout Delivered
  ) {
    let counters = state.counters
    if burst.exceeds(limit, index) {
      counters.dropTogether(.exceedsMTU)
      return
    }
    guard var segments = Segmenter(burst, index) else {
      counters.dropTogether(.malformedOffload)
      return
    }
    guard burst.claimSegments(segments.count) else {
      counters.dropTogether(.segmentLimit)
      return
    }
    delivered.extra &+= segments.count &- 1
    while segments.next() {
      deliver(Burst.size, burst, limit: limit, &delivered)
    }
  }

  private func deliver(
    _ index: Int, _ burst: Burst, limit: UInt32, _ delivered: inout Delivered
  ) {
    let counters = state.counters
    if burst.exceeds(limit, index) {
      counters.dropTogether(.exceedsMTU)
      return
    }
    let result = write(index, burst)
    if result >= 0 {
      delivered.frames &+= 1
      delivered.bytes &+= Int(unsafe burst.lengths[index])
      return
    }
    switch Int32(truncatingIfNeeded: -result) {
    case EAGAIN, ENOBUFS: counters.dropTogether(.uplinkBusy)
    case EIO, ENODEV, EBADFD: counters.dropTogether(.uplinkDown)
    default: counters.dropTogether(.uplinkError)
    }
  }

  private func write(_ index: Int, _ burst: Burst) -> Int {
    // The virtio-net header and the judged bytes come from private memory.
    let asked = burst.asksOffload(index) ? burst.netHeader(index) : NetHeader.none
    var header: (UInt64, UInt64) = (0, 0)
    let length = Int(unsafe burst.lengths[index])
    let vectors = unsafe burst.special.vectors
    // SAFETY: every vector names bytes that live until the call returns: a local, the burst, or guest
    // memory that stays mapped while this turn lasts.
    return unsafe withUnsafeMutableBytes(of: &header) { header in
      if let base = header.baseAddress { unsafe asked.writeRequest(base) }
      unsafe vectors[0] = unsafe iovec(iov_base: header.baseAddress, iov_len: headerSize)
      let front = unsafe burst.front(of: index)
      unsafe vectors[1] = unsafe iovec(
        iov_base: UnsafeMutableRawPointer(mutating: front.base), iov_len: front.length)
      var count = 2
      var rest = burst.rest(of: index)
      var left = unsafe length &- front.length
      while left > 0, count < Burst.Special.vectorCapacity {
        let step = min(left, rest.remainingHere)
        if step == 0 { break }
        unsafe vectors[count] = unsafe iovec(iov_base: rest.here, iov_len: step)
        rest.skip(step)
        left &-= step
        count &+= 1
      }
      return unsafe clx_writev(descriptor, vectors, CInt(truncatingIfNeeded: count))
    }
  }
}

/// What a TAP port's queues are made from.
public struct TapSetup: Sendable {
  /// Non-blocking; gives and takes a frame a call, behind a virtio-net header.
  public var descriptor: OwnedFD
  /// Bytes of that header: 10 or 12.
  public var headerSize: Int
  /// What the kernel takes over of the frames written. Those read may ask for everything.
  public var offloads: Offloads

  public init(descriptor: OwnedFD, headerSize: Int, offloads: Offloads) {
    self.descriptor = descriptor
    self.headerSize = headerSize
    self.offloads = offloads
  }

  func make(_ place: QueuePlace) throws -> RunningQueue {
    let bytes = MemoryLayout<TapQueue>.stride
    let block = unsafe try place.arena.allocate(bytes: bytes)
    // SAFETY: the block has room for one.
    let queue = unsafe block.bindMemory(to: TapQueue.self, capacity: 1)
    unsafe queue.initialize(
      to: TapQueue(
        descriptor: descriptor.raw, headerSize: headerSize, offloads: offloads, state: place.state))
    place.state.counters.setFault(nil)
    return unsafe RunningQueue(
      .tap(queue), at: block, bytes: bytes, resources: [descriptor],
      headerSize: UInt8(headerSize), offloads: .all, isEnabled: true,
      doorbell: place.isTransmitq ? Doorbell(descriptor: descriptor, isEdge: false) : nil)
  }
}

extension QueueSetup {
  /// Frames that come as datagrams of a socket, which gives one a call as a TAP does, and asks for nothing.
  ///
  /// - Parameters: as of `TapSetup`.
  static func datagrams(_ descriptor: OwnedFD, headerSize: Int) -> QueueSetup {
    .tap(TapSetup(descriptor: descriptor, headerSize: headerSize, offloads: .none))
  }
}
