public import Linux

/// A port of a switch with lanes of a traffic generator on it: memory, a front-end, and queue pairs.
public final class GeneratorPort {
  public let path: String
  public let frontEnd: FrontEnd
  /// Whether the guest's memory is of reserved 2 MiB pages; false before `start`.
  public private(set) var hasHugepages = false
  /// What was agreed upon.
  public var features: VirtioFeatures { frontEnd.features }

  /// Connects to the back-end that listens at `path` and agrees on features.
  ///
  /// - Parameters:
  ///   - wanted: cut down to what is offered.
  ///   - needed: without these the port is no use, and `notOffered` says which are missing.
  ///   - timeout: milliseconds to wait for the back-end to appear. For an answer it gets 30 s: a switch that has just
  ///     begun to listen may have gigabytes to clear first.
  public init(
    path: String, wanted: VirtioFeatures, needed: VirtioFeatures, timeout: Int = 5000
  ) throws(FrontEndError) {
    self.path = path
    frontEnd = try .connect(path: path, milliseconds: timeout)
    frontEnd.timeout = 30_000
    try frontEnd.negotiate(wanted.union(needed))
    let missing = needed.subtracting(frontEnd.features)
    guard missing.isEmpty else { throw .notOffered(missing.names) }
  }

  /// Makes lanes, one for each queue pair, starts their rings and gives them to `add`. `options.features`
  /// becomes what was agreed upon.
  public func start(
    _ options: Lane.Options, queuePairs: Int = 1, _ add: (consuming Lane) -> Void
  ) throws(FrontEndError) {
    var options = options
    options.features = features
    guard queuePairs <= frontEnd.maxQueuePairs else {
      throw .notOffered("\(queuePairs) queue pairs but \(frontEnd.maxQueuePairs)")
    }
    let memory: GuestMemory
    do throws(SystemError) {
      (memory, hasHugepages) = try GuestMemory.reserved(queuePairs * options.memoryNeeded)
    } catch {
      throw .system(error)
    }
    try frontEnd.setFeatures()
    try frontEnd.shareMemory(memory)
    for pair in 0..<queuePairs {
      let lane = try lane(options, memory)
      try frontEnd.setUpRing(2 * pair, lane.receiveq)
      try frontEnd.setUpRing(2 * pair + 1, lane.transmitq)
      // A ring starts with a kick, wanted or not (vhost-user.rst, "Ring states").
      lane.kick()
      add(lane)
    }
    if frontEnd.protocolFeatures.contains(.status) {
      try frontEnd.setStatus(GuestPort.driverOK)
    }
    try frontEnd.synchronize()
  }

  private func lane(
    _ options: Lane.Options, _ memory: GuestMemory
  ) throws(FrontEndError) -> Lane {
    do throws(SystemError) {
      if let lane = try Lane(options, in: memory) { return lane }
    } catch {
      throw .system(error)
    }
    throw .memory
  }
}

extension Lane {
  /// A lane that no back-end knows of, in memory of its own.
  public static func alone(_ options: Options) throws(SystemError) -> Lane {
    let (memory, _) = try GuestMemory.reserved(options.memoryNeeded)
    guard let lane = try Lane(options, in: memory) else {
      preconditionFailure("less memory than a lane needs")
    }
    return lane
  }

  /// Buffers there are for frames to be sent.
  public var transmitBuffers: Int { buffers }
}

extension GuestMemory {
  /// One region of at least `length` bytes, of reserved 2 MiB pages where there are enough. Returns whether
  /// it is.
  static func reserved(_ length: Int) throws(SystemError) -> (GuestMemory, Bool) {
    let page = 1 << 21
    // Address 0 is never given out.
    let layout = Layout(guestAddress: 0, length: (length + 4096 + page - 1) / page * page)
    // Touched now: a page that is missing would show as a SIGBUS later.
    if let memory = try? GuestMemory([layout], hugePageShift: 21), memory.populate() {
      return (memory, true)
    }
    return (try GuestMemory([layout]), false)
  }
}
