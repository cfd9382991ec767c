internal import Linux

/// A port as a destination: its open receiveqs. It never changes; control replaces it whole.
///
/// It is the same for all workers, who have numbers. Which receiveqs are a worker's own, over which it spreads flows
/// that are not known, follows from its number: those that it need not share with other workers when there are as many
/// open ones, else one of those it must.
///
/// SAFETY: behind the struct lie `count` sinks and, at `placesOffset`, a number for each pair.
@safe struct Output {
  /// Bytes of the longest untagged frame.
  let limit: UInt32
  /// Open receiveqs: one at least.
  let count: UInt16
  let pairs: UInt16
  /// Where the flows of a port with several open receiveqs are recorded; `nil`: every frame goes to the first sink.
  let flows: FlowTable?

  /// A queue that frames go to.
  struct Sink {
    var queue: Queue
    var state: QueueState
    /// Number of the queue pair.
    var pair: UInt16
    var port: UInt16
  }

  /// The place of a pair whose receiveq is not open.
  static let closed: UInt16 = 0xFFFF

  /// - Parameters:
  ///   - sinks: in the order of their pairs; one at least.
  ///   - pairs: queue pairs of the port.
  static func make(
    _ sinks: [Sink], pairs: Int, limit: Int, flows: FlowTable?, _ arena: Arena
  ) throws(SystemError) -> Block {
    let placesOffset = MemoryLayout<Output>.stride + sinks.count * MemoryLayout<Sink>.stride
    let block = try Block(arena, bytes: placesOffset + 2 * pairs)
    let memory = unsafe block.base
    let output = unsafe memory.bindMemory(to: Output.self, capacity: 1)
    unsafe output.initialize(
      to: Output(
        limit: UInt32(limit), count: UInt16(sinks.count), pairs: UInt16(pairs), flows: flows))
    let first = unsafe (memory + MemoryLayout<Output>.stride).bindMemory(
      to: Sink.self, capacity: sinks.count)
    let places = unsafe (memory + placesOffset).bindMemory(to: UInt16.self, capacity: pairs)
    unsafe places.initialize(repeating: closed, count: pairs)
    for (place, sink) in sinks.enumerated() {
      unsafe (first + place).initialize(to: sink)
      unsafe places[Int(sink.pair)] = UInt16(place)
    }
    return block
  }
}

/// SAFETY: as of `Output`; it is freed only when no worker can hold it.
extension UnsafePointer<Output> {
  @inline(always)
  var sinks: UnsafePointer<Output.Sink> {
    unsafe UnsafeRawPointer(self + 1).assumingMemoryBound(to: Output.Sink.self)
  }

  /// The place of a pair's receiveq among the sinks, or `Output.closed`.
  @inline(always)
  func place(of pair: Int) -> UInt16 {
    unsafe UnsafeRawPointer(sinks + Int(pointee.count)).load(
      fromByteOffset: 2 &* pair, as: UInt16.self)
  }

  /// How a worker spreads flows that are not known over the receiveqs that are its own.
  @inline(always)
  func share(of worker: Int, of workers: Int) -> Output.Share {
    let count = Int(unsafe pointee.count)
    return count < workers
      ? Output.Share(first: worker % count, step: 0, count: 1)
      : Output.Share(
        first: worker, step: workers, count: (count &- worker &+ workers &- 1) / workers)
  }
}

extension Output {
  /// Every `step`th sink from `first` on, `count` of them.
  struct Share {
    var first: Int
    var step: Int
    var count: Int

    @inline(always)
    func place(of flow: FlowHash) -> Int {
      let index = flow.word.multipliedFullWidth(by: UInt32(truncatingIfNeeded: count)).high
      return first &+ Int(index) &* step
    }
  }
}
