public import Linux

/// A guest's network device, whole: memory, a front-end, and queue pairs with their buffers posted.
///
/// Attaching is one call; then `send` and `receive`. Control operations (`stop`, `restart`, `disconnect`,
/// …) by one thread while no other uses a queue; each queue pair by one thread at a time.
@safe public final class GuestPort: @unchecked Sendable {
  public struct Options: Sendable {
    public var queuePairs = 1
    /// Queue pairs that are enabled when the rings start; `nil`: all. See `enablePairs`.
    public var enabledPairs: Int?
    /// Descriptors of each queue.
    public var ringSize = 256
    /// Cut down to what is offered.
    public var features: VirtioFeatures = .usual
    public var protocolFeatures: VhostUserFeatures = .usual
    /// Bytes of a receive buffer, the virtio-net header included.
    public var receiveBufferLength = 2048
    /// Bytes of a transmit buffer, the virtio-net header included.
    public var transmitBufferLength = 2048
    public var transmitLayout = QueuePair.TransmitLayout()
    /// Linux, where buffers can't be merged, posts chains: the header alone, then pages.
    public var receiveLayout = QueuePair.TransmitLayout()
    /// Guest physical addresses of the regions; rings are in the first, receive buffers in the second and
    /// transmit buffers in the third, or as far as they go.
    public var regionAddresses: [UInt64] = [0]
    /// Log2 of the page size of the guest's memory; 0: ordinary pages.
    public var hugePageShift: UInt32 = 0
    /// Bytes of memory beyond what the queues need, for a test's own use, in every region.
    public var spareMemory = 1 << 16
    /// Milliseconds to wait for the back-end to appear and to answer.
    public var timeout = 5000

    public init() {}
  }

  public let options: Options
  public let memory: GuestMemory
  /// What is between the device and the memory, if VIRTIO_F_ACCESS_PLATFORM was agreed upon.
  public let iommu: IOMMU?
  public let pairs: [QueuePair]
  public private(set) var frontEnd: FrontEnd
  /// What was agreed upon.
  public var features: VirtioFeatures { frontEnd.features }
  /// Where the stopped rings go on (`FrontEnd.stopRing`), by vring; empty while they run.
  public private(set) var bases: [UInt32] = []

  /// Queue pairs that are enabled, if the front-end can say so (VHOST_USER_F_PROTOCOL_FEATURES).
  public private(set) var enabledPairs: Int

  /// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK (virtio v1.4, 2.1).
  static let driverOK: UInt8 = 15

  /// Attaches to a back-end that listens at `path`.
  public convenience init(path: String, options: Options = Options()) throws(FrontEndError) {
    try self.init(
      frontEnd: try .connect(path: path, milliseconds: options.timeout), options: options)
  }

  /// Attaches to the next back-end that connects to `listener`.
  public convenience init(
    listener: UnixListener, options: Options = Options()
  ) throws(FrontEndError) {
    try self.init(
      frontEnd: try .accept(on: listener, milliseconds: options.timeout), options: options)
  }

  /// Attaches over a connected socket.
  public convenience init(socket: OwnedFD, options: Options = Options()) throws(FrontEndError) {
    try self.init(frontEnd: FrontEnd(socket: socket), options: options)
  }

  /// Attaches through `frontEnd`, which has not negotiated yet.
  public init(frontEnd: FrontEnd, options: Options = Options()) throws(FrontEndError) {
    self.options = options
    self.frontEnd = frontEnd
    enabledPairs = options.enabledPairs ?? options.queuePairs
    frontEnd.timeout = options.timeout
    try frontEnd.negotiate(options.features, options.protocolFeatures)
    guard options.queuePairs <= frontEnd.maxQueuePairs else {
      throw .notOffered("\(options.queuePairs) queue pairs of \(frontEnd.maxQueuePairs)")
    }
    do throws(SystemError) {
      memory = try GuestPort.memory(for: options)
    } catch {
      throw .system(error)
    }
    var made: [QueuePair] = []
    for _ in 0..<options.queuePairs {
      made.append(try GuestPort.pair(in: memory, options, frontEnd.features))
    }
    pairs = made
    iommu = frontEnd.isTranslated ? IOMMU(memory) : nil
    try start(bases: nil)
  }

  // ---- Frames ----

  /// Sends a frame on the transmitq of pair `queue`; false when it is full.
  public func send(_ frame: [UInt8], header: NetHeader = NetHeader(), queue: Int = 0) -> Bool {
    pairs[queue].send(frame, header: header)
  }

  /// Sends a frame, waiting at most `milliseconds` for room.
  public func send(
    _ frame: [UInt8], queue: Int = 0, milliseconds: Int
  ) throws(SystemError) -> Bool {
    try pairs[queue].send(frame, milliseconds: milliseconds)
  }

  /// The next frame of pair `queue`'s receiveq, or `nil` when none has come.
  public func receive(queue: Int = 0) -> [UInt8]? { pairs[queue].receive() }

  /// The next frame, waiting for it at most `milliseconds`.
  public func receive(queue: Int = 0, milliseconds: Int) throws(SystemError) -> [UInt8]? {
    try pairs[queue].receive(milliseconds: milliseconds)
  }

  /// Frames and bytes of all pairs.
  public var statistics: QueuePair.Statistics {
    pairs.reduce(into: QueuePair.Statistics()) {
      $0.sentFrames += $1.statistics.sentFrames
      $0.sentBytes += $1.statistics.sentBytes
      $0.receivedFrames += $1.statistics.receivedFrames
      $0.receivedBytes += $1.statistics.receivedBytes
      $0.refused += $1.statistics.refused
    }
  }

  /// What the device did against the specification, in words: empty at the end of every good test.
  public var offences: [String] {
    pairs.enumerated().flatMap { index, pair in
      var all = pair.offences
      if let violation = pair.receiveq.violation { all.append("\(violation)") }
      if let violation = pair.transmitq.violation { all.append("\(violation)") }
      return all.map { "pair \(index): \($0)" }
    }
  }

  // ---- Life ----

  /// Stops every ring, as a guest that is paused or shut down: SET_VRING_ENABLE 0, GET_VRING_BASE.
  /// Buffers stay where they are.
  public func stop() throws(FrontEndError) {
    var found: [UInt32] = []
    for index in 0..<2 * pairs.count {
      if features.contains(.protocolFeatures) { try frontEnd.enableRing(index, false) }
      found.append(try frontEnd.stopRing(index))
    }
    bases = found
  }

  /// Starts the rings again where `stop` left them.
  public func restart() throws(FrontEndError) {
    try start(bases: bases)
  }

  /// Enables the first `count` queue pairs and disables the others, as QEMU does when the driver says how many it
  /// uses (virtio v1.4, 5.1.9.5.5): SET_VRING_ENABLE for each ring that changes. Traffic may go on.
  public func enablePairs(_ count: Int) throws(FrontEndError) {
    precondition((1...pairs.count).contains(count))
    for pair in min(count, enabledPairs)..<max(count, enabledPairs) {
      for index in [2 * pair, 2 * pair + 1] { try frontEnd.enableRing(index, pair < count) }
    }
    enabledPairs = count
  }

  /// Drops the connection without a word; the rings stay as they are.
  public func disconnect() {
    frontEnd.close()
  }

  /// Attaches the rings as they are to a back-end on a new connection, as QEMU does when a back-end comes
  /// back: each begins with the oldest buffer that was not returned. The same features must be offered
  /// again (E102).
  ///
  /// - Parameter bases: what the front-end takes for the rings' bases, by vring; `nil`: what the guest knows.
  public func reconnect(
    _ newFrontEnd: FrontEnd, bases: [UInt32]? = nil
  ) throws(FrontEndError) {
    let agreed = features
    newFrontEnd.timeout = options.timeout
    try newFrontEnd.negotiate(options.features, options.protocolFeatures)
    guard newFrontEnd.features == agreed else { throw .notOffered("the features there were") }
    frontEnd = newFrontEnd
    try start(bases: bases)
  }

  private func start(bases from: [UInt32]?) throws(FrontEndError) {
    try frontEnd.setFeatures()
    try iommu?.attach(frontEnd)
    try frontEnd.shareMemory(memory)
    for (index, pair) in pairs.enumerated() {
      let enable = index < enabledPairs
      try frontEnd.setUpRing(2 * index, pair.receiveq, base: from?[2 * index], enable: enable)
      try frontEnd.setUpRing(
        2 * index + 1, pair.transmitq, base: from?[2 * index + 1], enable: enable)
    }
    if frontEnd.protocolFeatures.contains(.status) {
      try frontEnd.setStatus(GuestPort.driverOK)
    }
    try frontEnd.synchronize()
    bases = []
    // A ring starts with a kick, wanted or not (vhost-user.rst, "Ring states").
    for pair in pairs {
      pair.receiveq.kick()
      pair.transmitq.kick()
    }
  }

  // ---- Memory ----

  private static func memory(for options: Options) throws(SystemError) -> GuestMemory {
    // Generous: every region could hold everything. Untouched memory costs nothing.
    let tables =
      16 * max(options.transmitLayout.pieces, options.receiveLayout.pieces, 8)
    let each =
      options.receiveBufferLength + options.transmitBufferLength + 2 * (26 + tables)
    let needed = options.queuePairs * (options.ringSize * each + 4096) + options.spareMemory + 8192
    let page = max(1 << Int(options.hugePageShift), 4096)
    let length = (needed + page - 1) / page * page
    return try GuestMemory(
      options.regionAddresses.map { GuestMemory.Layout(guestAddress: $0, length: length) },
      hugePageShift: options.hugePageShift)
  }

  private static func pair(
    in memory: GuestMemory, _ options: Options, _ features: VirtioFeatures
  ) throws(FrontEndError) -> QueuePair {
    let last = memory.regions.count - 1
    var ringOptions = DriverRing.Options(features)
    var receiveLayout = options.receiveLayout
    receiveLayout.indirect = receiveLayout.indirect && features.contains(.indirectDesc)
    if receiveLayout.indirect { ringOptions.tableEntries = receiveLayout.pieces }
    let receiveq = try ring(in: memory, options.ringSize, ringOptions)
    if features.contains(.indirectDesc) {
      ringOptions.tableEntries = max(options.transmitLayout.pieces, 8)
    }
    let transmitq = try ring(in: memory, options.ringSize, ringOptions)
    guard
      let receiveBuffers = memory.allocate(
        options.ringSize * options.receiveBufferLength, region: min(1, last)),
      let transmitBuffers = memory.allocate(
        options.ringSize * options.transmitBufferLength, region: min(2, last))
    else { throw .memory }
    var layout = options.transmitLayout
    layout.indirect = layout.indirect && features.contains(.indirectDesc)
    return QueuePair(
      receiveq: receiveq, transmitq: transmitq, receiveBuffers: receiveBuffers,
      transmitBuffers: transmitBuffers, features: features, layout: layout,
      receiveLayout: receiveLayout)
  }

  private static func ring(
    in memory: GuestMemory, _ size: Int, _ options: DriverRing.Options
  ) throws(FrontEndError) -> DriverRing {
    guard let parts = RingParts(size: size, packed: options.packed, in: memory, region: 0) else {
      throw .memory
    }
    do throws(SystemError) {
      if let ring = try DriverRing(size: size, parts: parts, in: memory, options: options) {
        return ring
      }
    } catch {
      throw .system(error)
    }
    throw .memory
  }
}
