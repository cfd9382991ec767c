public import Linux
public import Synchronization

/// What one station has got from another, readable by others while it runs.
public final class StreamProgress: Sendable {
  /// The sequence number that is to come next.
  public let next = Atomic<UInt64>(0)
  /// Frames that came, sequence numbers that were passed over, and frames that came after a later one.
  public let received = Atomic<Int>(0)
  public let missing = Atomic<Int>(0)
  public let reordered = Atomic<Int>(0)
  /// Nanoseconds: the longest between two frames since it was last set to 0.
  public let longestPause = Atomic<Int>(0)
  /// Nanoseconds on the monotonic clock when the last frame came; 0: none has.
  private let last = Atomic<Int>(0)

  public init() {}

  /// Nanoseconds since the last frame came.
  public var pause: Int {
    let last = last.load(ordering: .relaxed)
    return last == 0 ? 0 : max(0, StreamProgress.now - last)
  }

  private static let start = ContinuousClock.now

  private static var now: Int {
    let (seconds, attoseconds) = (ContinuousClock.now - start).components
    return Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000) + 1
  }

  /// Called by the station that receives, and by no other.
  func note(_ sequence: UInt64) {
    func add(_ count: Int, to counter: borrowing Atomic<Int>) {
      counter.store(counter.load(ordering: .relaxed) + count, ordering: .relaxed)
    }
    let expected = next.load(ordering: .relaxed)
    add(1, to: received)
    if sequence < expected {
      add(1, to: reordered)
    } else {
      if sequence > expected { add(Int(sequence - expected), to: missing) }
      next.store(sequence + 1, ordering: .relaxed)
    }
    let now = StreamProgress.now
    let before = last.load(ordering: .relaxed)
    if before != 0, now - before > longestPause.load(ordering: .relaxed) {
      longestPause.store(now - before, ordering: .relaxed)
    }
    last.store(now, ordering: .relaxed)
  }
}

/// A thread that drives one queue pair of a guest: sends checked frames to peers, receives and checks
/// what comes. It keeps no more frames under way to a peer than fit a receiveq, so that without
/// disturbance nothing is lost.
public final class Station: Sendable {
  /// One stream of frames from here.
  public struct Flow: Sendable {
    public var to: EthernetAddress
    public var from: EthernetAddress
    /// Of the receiver: how far this stream has come; `nil`: nobody tells.
    public var progress: StreamProgress?
    public var stream: UInt32

    public init(
      to: EthernetAddress, from: EthernetAddress, progress: StreamProgress? = nil, stream: UInt32
    ) {
      self.to = to
      self.from = from
      self.progress = progress
      self.stream = stream
    }
  }

  public struct Result: Sendable {
    /// By stream.
    public var sent: [UInt32: UInt64] = [:]
    public var checkers: [UInt32: SequenceChecker] = [:]
    /// Frames that were no test frames, or not whole.
    public var corrupt = 0

    public init() {}

    public var received: Int { checkers.values.reduce(0) { $0 + $1.received } }
    public var missing: Int { checkers.values.reduce(0) { $0 + $1.missing } }
    public var reordered: Int { checkers.values.reduce(0) { $0 + $1.reordered } }
  }

  /// Frames so far that were no test frames, or not whole.
  public let corrupt = Atomic<Int>(0)
  /// While true, nothing is sent; what comes is taken all the same.
  public let isSilent = Atomic<Bool>(false)
  private let finish = Atomic<Bool>(false)
  private let thread = Lock<Linux.Thread?>(nil)
  private let result = Lock(Result())

  /// - Parameters:
  ///   - limit: frames of each flow; `nil`: until `stop`.
  ///   - window: most frames of a flow under way.
  ///   - burst: most frames of a flow sent before the receiveq is looked at.
  ///   - rests: whether to sleep for a millisecond after each look at the receiveq, so that the station takes
  ///     hardly any of a CPU.
  ///   - lengths: bytes of the frames.
  ///   - sources: whose frames are looked at; `nil`: everybody's.
  ///   - progress: by stream: where to tell how far it has come here.
  public init(
    _ guest: GuestPort, queue: Int = 0, flows: [Flow], limit: UInt64? = nil, window: UInt64 = 64,
    burst most: Int = 32, rests: Bool = false, lengths: ClosedRange<Int> = 60...600,
    sources: [EthernetAddress]? = nil, progress: [UInt32: StreamProgress] = [:]
  ) throws(SystemError) {
    let started = try Linux.Thread(name: "station") { [self] in
      let pair = guest.pairs[queue]
      var result = Result()
      var random = UInt64(flows.first?.stream ?? 1) | 1
      var next = [UInt64](repeating: 0, count: flows.count)
      var stalls = [Int](repeating: 0, count: flows.count)
      while !finish.load(ordering: .relaxed) {
        var busy = false
        for (index, flow) in flows.enumerated() {
          var burst = 0
          while burst < most, !isSilent.load(ordering: .relaxed),
            limit.map({ next[index] < $0 }) ?? true
          {
            if let progress = flow.progress {
              let arrived = progress.next.load(ordering: .relaxed)
              // The last frames of a window may be among those that were dropped: then one more goes.
              if next[index] >= arrived + window {
                stalls[index] += 1
                if stalls[index] < 50 { break }
              }
              stalls[index] = 0
            }
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            let frame = TestFrame.make(
              to: flow.to, from: flow.from, stream: flow.stream, sequence: next[index],
              length: lengths.lowerBound + Int(random % UInt64(lengths.count)))
            if !pair.enqueue(frame) { break }
            next[index] += 1
            burst += 1
          }
          if burst > 0 {
            pair.flush()
            busy = true
          }
        }
        if Station.receive(pair, &result, progress, sources: sources) { busy = true }
        corrupt.store(result.corrupt, ordering: .relaxed)
        if rests {
          Deadline.pause()
        } else if !busy {
          _ = try? pair.receiveq.waitForUsed(milliseconds: 1)
        }
      }
      for (index, flow) in flows.enumerated() { result.sent[flow.stream] = next[index] }
      self.result.withLock { $0 = result }
    }
    thread.withLock { $0 = started }
  }

  /// Takes what has come. Returns whether something had.
  ///
  /// - Parameter sources: as at the beginning.
  @discardableResult
  public static func receive(
    _ pair: QueuePair, _ result: inout Result, _ progress: [UInt32: StreamProgress] = [:],
    sources: [EthernetAddress]? = nil
  ) -> Bool {
    let sources = sources?.map(\.bytes)
    var some = false
    while let frame = pair.receive() {
      some = true
      if let sources, !sources.contains(where: { frame.dropFirst(6).starts(with: $0) }) { continue }
      guard let content = TestFrame.verify(frame) else {
        result.corrupt += 1
        continue
      }
      result.checkers[content.stream, default: SequenceChecker()].accept(frame)
      progress[content.stream]?.note(content.sequence)
    }
    return some
  }

  /// Ends the thread; the queue pair is the caller's again.
  public func stop() -> Result {
    finish.store(true, ordering: .relaxed)
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
    return result.withLock { $0 }
  }
}
