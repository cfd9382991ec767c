public import Linux

/// A receiveq and a transmitq with a buffer for every descriptor, as a simple driver keeps them.
///
/// Buffer `t` of a queue belongs to token `t`: the receiveq's are all posted, the transmitq's are
/// filled when a frame is sent. One thread at a time per pair.
@safe public final class QueuePair: @unchecked Sendable {
  /// What the pair has done and seen.
  public struct Statistics: Sendable, Equatable {
    public var sentFrames = 0
    public var sentBytes = 0
    public var receivedFrames = 0
    /// Without the virtio-net headers.
    public var receivedBytes = 0
    /// Frames that were not sent as the transmitq was full.
    public var refused = 0
  }

  /// A frame and how it came.
  public struct Received: Sendable, Equatable {
    public var header: NetHeader
    public var frame: [UInt8]
    /// Receive buffers it filled.
    public var buffers: Int

    public init(header: NetHeader, frame: [UInt8], buffers: Int) {
      self.header = header
      self.frame = frame
      self.buffers = buffers
    }
  }

  /// How buffers are cut up into descriptors.
  public struct TransmitLayout: Sendable, Hashable {
    /// Descriptors a buffer takes: 1, or the header alone and then the frame in `pieces - 1` parts.
    public var pieces: Int
    public var indirect: Bool

    public init(pieces: Int = 1, indirect: Bool = false) {
      self.pieces = pieces
      self.indirect = indirect
    }
  }

  public var receiveq: DriverRing
  public var transmitq: DriverRing
  /// 12, or 10 for a legacy driver without mergeable buffers (5.1.9).
  public let headerLength: Int
  public let mergeable: Bool
  /// May be changed between frames; indirect chains need a ring with tables.
  public var layout: TransmitLayout
  public internal(set) var statistics = Statistics()
  /// What the device did against the specification on either queue, in words; at most 16.
  public internal(set) var offences: [String] = []

  let rules: HeaderRules
  let receiveLayout: TransmitLayout
  let receiveBuffers: GuestBuffer
  let transmitBuffers: GuestBuffer
  let receiveLength: Int
  let transmitLength: Int

  init(
    receiveq: consuming DriverRing, transmitq: consuming DriverRing, receiveBuffers: GuestBuffer,
    transmitBuffers: GuestBuffer, features: VirtioFeatures, layout: TransmitLayout,
    receiveLayout: TransmitLayout = TransmitLayout()
  ) {
    rules = HeaderRules(features)
    self.receiveLayout = receiveLayout
    mergeable = features.contains(.mrgRxbuf)
    headerLength = mergeable || features.contains(.version1) ? 12 : 10
    receiveLength = receiveBuffers.length / receiveq.size
    transmitLength = transmitBuffers.length / transmitq.size
    self.receiveBuffers = receiveBuffers
    self.transmitBuffers = transmitBuffers
    self.receiveq = receiveq
    self.transmitq = transmitq
    self.layout = layout
    self.receiveq.disableInterrupts()
    self.transmitq.disableInterrupts()
    if hasPlainReceiveBuffers {
      self.receiveq.prime(
        pool: receivePool, length: UInt32(receiveLength), writable: true)
      while let token = self.receiveq.nextToken {
        _ = self.receiveq.pop()
        self.receiveq.repost(token)
      }
    } else {
      refill()
    }
    self.receiveq.publish()
  }

  /// Receive buffers are one descriptor each.
  var hasPlainReceiveBuffers: Bool { receiveLayout.pieces <= 1 && !receiveLayout.indirect }

  /// Posts as many receive buffers of several descriptors as the ring has room for.
  func refill() {
    let needed = receiveLayout.indirect ? 1 : receiveLayout.pieces
    while let token = receiveq.nextToken, receiveq.freeCount >= needed {
      let buffer = receiveBuffers.slice(Int(token) * receiveLength, receiveLength)
      let added = receiveq.add(
        readable: [],
        writable: cut(buffer, receiveLength - headerLength, receiveLayout.pieces),
        layout: receiveLayout.indirect ? .indirect(after: 0) : .direct)
      precondition(added == token)
    }
  }

  var receivePool: DriverRing.Pool {
    DriverRing.Pool(base: receiveBuffers.address, stride: receiveLength)
  }

  /// The longest frame that a transmit buffer holds.
  public var maxFrameLength: Int { transmitLength - headerLength }

  // ---- Transmit ----

  /// Sends a frame: `enqueue` and `flush`. Returns false when the transmitq is full after reclaiming.
  public func send(_ frame: [UInt8], header: NetHeader = NetHeader()) -> Bool {
    guard enqueue(frame, header: header) else { return false }
    flush()
    return true
  }

  /// Sends a frame, waiting at most `milliseconds` for room.
  public func send(
    _ frame: [UInt8], header: NetHeader = NetHeader(), milliseconds: Int
  ) throws(SystemError) -> Bool {
    let deadline = Deadline(milliseconds: milliseconds)
    while !enqueue(frame, header: header) {
      if deadline.isOver { return false }
      flush()
      _ = try transmitq.waitForUsed(milliseconds: min(deadline.left, 10))
    }
    flush()
    return true
  }

  /// Puts a frame in the transmitq; `flush` shows it to the device.
  public func enqueue(_ frame: [UInt8], header: NetHeader = NetHeader()) -> Bool {
    precondition(frame.count <= maxFrameLength, "a frame longer than a transmit buffer")
    reclaim()
    let parts = max(1, min(layout.pieces, frame.count + 1))
    let needed = layout.indirect ? 1 : parts
    guard let token = transmitq.nextToken, transmitq.freeCount >= needed else {
      statistics.refused += 1
      return false
    }
    let buffer = transmitBuffers.slice(Int(token) * transmitLength, transmitLength)
    buffer.write(header.bytes(length: headerLength))
    buffer.write(frame, at: headerLength)
    let added: UInt16?
    if parts == 1, !layout.indirect {
      added = transmitq.add(
        buffer.slice(0, headerLength + frame.count).piece, writable: false)
    } else {
      added = transmitq.add(
        readable: cut(buffer, frame.count, parts),
        layout: layout.indirect ? .indirect(after: 0) : .direct)
    }
    precondition(added == token)
    statistics.sentFrames += 1
    statistics.sentBytes += frame.count
    return true
  }

  /// Shows the device what was enqueued and kicks it if it wants that.
  public func flush() { transmitq.publishAndKick() }

  /// Takes returned transmit buffers back. Returns how many.
  @discardableResult
  public func reclaim() -> Int {
    var count = 0
    while transmitq.nextUsed() != nil { count += 1 }
    return count
  }

  /// The header alone, then the frame in `parts - 1` pieces as equal as may be.
  private func cut(_ buffer: GuestBuffer, _ length: Int, _ parts: Int) -> [Piece] {
    if parts == 1 { return [buffer.slice(0, headerLength + length).piece] }
    var pieces = [buffer.slice(0, headerLength).piece]
    var offset = 0
    for index in 1..<parts {
      let end = length * index / (parts - 1)
      pieces.append(buffer.slice(headerLength + offset, end - offset).piece)
      offset = end
    }
    return pieces
  }

  func note(_ offence: String) {
    if offences.count < 16 { offences.append(offence) }
  }
}
