public import Linux

/// One queue pair of a traffic generator: a receiveq that is emptied and a transmitq that is filled, in
/// bursts, at as few instructions and cache lines a frame as a driver can do with.
///
/// Theory of operation. Descriptors are written once (`prepare`); from then on only the avail ring is, where
/// it changes (`DriverRing+Burst.swift`). The frame of every buffer begins on a cache line, with the
/// virtio-net header just before it, as DPDK's drivers lay them out: a 64-byte frame is one line, and the
/// line of a transmit buffer's header, written once, stays in both caches. Buffers are an odd number of
/// lines apart, so that the beginnings of frames use every set of a cache.
///
/// Every frame sent gets its addresses, EtherType and stamp anew; of every frame received the first line is
/// read (`Lane+Burst.swift`). Transmit buffers are used in turn. One thread at a time.
@safe public struct Lane: ~Copyable {
  /// How a lane's rings and buffers are made.
  public struct Options: Sendable {
    /// What was agreed upon.
    public var features: VirtioFeatures
    /// Descriptors of each queue.
    public var ringSize: Int
    /// Bytes of a frame that one receive buffer holds, and one transmit buffer.
    public var receiveRoom: Int
    public var transmitRoom: Int
    /// Most transmit buffers of a frame.
    public var pieces: Int
    /// Frames are sent through indirect tables, the virtio-net header in an entry of its own.
    public var indirect: Bool
    /// Frames are TCP over IPv4 with segmentation asked for, as a guest's TCP sends them.
    public var segmented: Bool

    public init(
      features: VirtioFeatures = [.version1, .mrgRxbuf], ringSize: Int = 256,
      receiveRoom: Int = 2048, transmitRoom: Int = 2048, pieces: Int = 1, indirect: Bool = false,
      segmented: Bool = false
    ) {
      self.features = features
      self.ringSize = ringSize
      self.receiveRoom = receiveRoom
      self.transmitRoom = transmitRoom
      self.pieces = pieces
      self.indirect = indirect
      self.segmented = segmented
    }

    /// Bytes of guest memory for the lane.
    var memoryNeeded: Int {
      let tables = indirect ? 16 * (pieces + 1) * ringSize : 0
      let rings =
        RingParts.descriptorBytes(ringSize) + RingParts.availBytes(ringSize)
        + RingParts.usedBytes(ringSize) + 3 * line
      let buffers =
        Lane.stride(receiveRoom) + Lane.stride(transmitRoom) * (indirect ? pieces : 1)
      return 2 * rings + tables + ringSize * buffers + 4 * line
    }
  }

  /// Most frames of a turn in each direction.
  public static let burst = 64
  /// Bytes of every frame before its stamp: addresses, EtherType and two more; in segmented ones all headers and
  /// two more.
  let stampOffset: Int
  /// The shortest frame.
  public var minFrameLength: Int { stampOffset + 8 }

  public internal(set) var receiveq: DriverRing
  public internal(set) var transmitq: DriverRing
  public let options: Options
  /// The mapping that the pointers below point into.
  let memory: GuestMemory
  let headerLength: Int

  /// First byte of the frame in buffer 0, and the bytes from there to the next buffer's.
  let receiveFrames: UnsafeMutableRawPointer
  let receiveStride: Int
  /// Bytes that the device wrote when a frame may go on in another buffer; `UInt32.max`: none does.
  let fullLength: UInt32
  /// Buffers that the frame being received still has.
  var continuation = 0

  let transmit: GuestBuffer
  let transmitFrames: UnsafeMutableRawPointer
  /// From a head's first buffer to the next head's.
  let transmitStride: Int
  /// Transmit buffers there are: heads are multiples of `pieces` where chains are direct.
  var buffers = 0
  /// Bytes of the frame in every transmit buffer; 0: `frameLengths` has them, by head.
  var frameLength = 0
  let frameLengths: UnsafeMutablePointer<UInt32>
  /// Heads that the lane holds, the longest idle one at `idleFirst`: a ring of the queue's size.
  let idle: UnsafeMutablePointer<UInt16>
  var idleFirst = 0
  var idleCount = 0

  /// Room for a burst.
  let heads: UnsafeMutablePointer<UInt16>
  let lengths: UnsafeMutablePointer<UInt32>

  static let flowCapacity = 4096
  let flows: UnsafeMutablePointer<SIMD2<UInt64>>
  public internal(set) var flowCount = 0
  var nextFlow = 0
  /// Not 0: the source address of each frame is another one, of so many, and that of its flow is not used.
  public var inventedSources: UInt32 = 0
  /// The number of the next frame.
  var sequence: UInt64 = 0
  /// Frames sent in this run of the generator.
  var runSent: UInt64 = 0
  /// Frames are sent on this lane.
  public var isSending = true

  public internal(set) var counts = Counts()
  /// The sum of all that was read of received frames, which keeps the reads from being optimised away.
  public internal(set) var sum: UInt64 = 0

  /// Makes a lane in `memory` and posts every receive buffer.
  ///
  /// - Returns: `nil` when the memory has no room for it.
  public init?(_ options: Options, in memory: GuestMemory) throws(SystemError) {
    precondition(options.transmitRoom >= Lane.line && options.receiveRoom >= Lane.line)
    let size = options.ringSize
    let mergeable = options.features.contains(.mrgRxbuf)
    let each = Lane.stride(options.transmitRoom)
    receiveStride = Lane.stride(options.receiveRoom)
    transmitStride = options.indirect ? each * options.pieces : each
    headerLength = mergeable || options.features.contains(.version1) ? 12 : 10
    let ring = DriverRing.Options(options.features)
    var transmitRing = ring
    transmitRing.tableEntries = options.indirect ? options.pieces + 1 : 0
    guard let receiveParts = RingParts(size: size, packed: ring.packed, in: memory),
      let receiveq = try DriverRing(size: size, parts: receiveParts, in: memory, options: ring),
      let transmitParts = RingParts(size: size, packed: ring.packed, in: memory),
      let transmitq = try DriverRing(
        size: size, parts: transmitParts, in: memory, options: transmitRing),
      let receive = memory.allocate(receiveStride * size),
      let transmit = memory.allocate(transmitStride * size)
    else { return nil }
    self.options = options
    stampOffset = options.segmented ? Lane.segmentedFrontLength : 16
    self.memory = memory
    self.receiveq = receiveq
    self.transmitq = transmitq
    self.transmit = transmit
    unsafe receiveFrames = receive.pointer + Lane.line
    unsafe transmitFrames = transmit.pointer + Lane.line
    let receiveLength = UInt32(headerLength + options.receiveRoom)
    fullLength = mergeable ? receiveLength : .max
    // SAFETY: freed by `deinit`.
    unsafe frameLengths = .allocate(capacity: size)
    unsafe idle = .allocate(capacity: size)
    unsafe heads = .allocate(capacity: Lane.burst)
    unsafe lengths = .allocate(capacity: Lane.burst)
    unsafe flows = .allocate(capacity: Lane.flowCapacity)
    unsafe frameLengths.initialize(repeating: 0, count: size)
    unsafe idle.initialize(repeating: 0, count: size)
    unsafe heads.initialize(repeating: 0, count: Lane.burst)
    unsafe lengths.initialize(repeating: 0, count: Lane.burst)
    let net = Lane.netHeader(options).bytes(length: headerLength)
    for buffer in 0..<transmit.length / each {
      transmit.write(net, at: buffer * each + Lane.line - headerLength)
    }
    self.receiveq.disableInterrupts()
    self.transmitq.disableInterrupts()
    self.receiveq.prime(
      pool: .init(
        base: receive.address + UInt64(Lane.line - headerLength), stride: receiveStride),
      length: receiveLength, writable: true)
    for head in 0..<size { self.receiveq.repost(UInt16(head)) }
    self.receiveq.publish()
    prepare([max(Lane.line, minFrameLength)])
  }

  deinit {
    unsafe frameLengths.deallocate()
    unsafe idle.deallocate()
    unsafe heads.deallocate()
    unsafe lengths.deallocate()
    unsafe flows.deallocate()
  }

  // ---- Layout ----

  /// Bytes of a cache line.
  static let line = 64

  /// Bytes from one buffer to the next for frames of up to `room` bytes: a line for the header, the frame
  /// in whole lines, an odd number of lines in all.
  static func stride(_ room: Int) -> Int {
    (1 + (room + line - 1) / line | 1) * line
  }
}
