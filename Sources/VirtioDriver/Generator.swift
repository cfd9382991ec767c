internal import CLinux

/// Lanes driven by one thread, in turn: each is emptied and then filled.
@safe public final class Generator: @unchecked Sendable {
  /// What is sent, by every lane that sends.
  public struct Traffic: Sendable {
    /// Frames a second of each lane, whether or not earlier ones have been taken; `nil`: as fast as it goes.
    public var rate: Double?
    /// Frames of each lane; `nil`: no end.
    public var frames: UInt64?
    /// Samples of the time from when a frame was to be sent to when it was received.
    public var timed: Bool
    /// Every byte of every frame is made and checked.
    public var verified: Bool

    public init(
      rate: Double? = nil, frames: UInt64? = nil, timed: Bool = false, verified: Bool = false
    ) {
      self.rate = rate
      self.frames = frames
      self.timed = timed
      self.verified = verified
    }

    /// Nothing is sent.
    public static let none = Traffic(frames: 0)
  }

  /// Ticks of the time-stamp counter in a second.
  public let ticksPerSecond: Double
  let lanes: UnsafeMutablePointer<Lane>
  public private(set) var count = 0
  private let capacity: Int
  var samples = Samples(capacity: 1 << 22)
  var verifier: Verifier?

  public init(capacity: Int) {
    self.capacity = capacity
    // SAFETY: freed by `deinit`.
    unsafe lanes = .allocate(capacity: capacity)
    ticksPerSecond = Generator.calibrate()
  }

  deinit {
    unsafe lanes.deinitialize(count: count)
    unsafe lanes.deallocate()
  }

  /// Adds a lane; returns its number.
  @discardableResult
  public func add(_ lane: consuming Lane) -> Int {
    precondition(count < capacity)
    unsafe (lanes + count).initialize(to: lane)
    count += 1
    return count - 1
  }

  /// Access to lane `index`, while nothing runs.
  public subscript(index: Int) -> Lane {
    _read {
      precondition(index >= 0 && index < count)
      yield unsafe lanes[index]
    }
    _modify {
      precondition(index >= 0 && index < count)
      yield unsafe &lanes[index]
    }
  }

  /// What all lanes have done so far.
  public var counts: Lane.Counts { counts(of: 0..<count) }

  /// What some lanes have done so far.
  public func counts(of some: Range<Int>) -> Lane.Counts {
    precondition(some.lowerBound >= 0 && some.upperBound <= count)
    var all = Lane.Counts()
    for index in some { all += unsafe lanes[index].counts }
    return all
  }

  /// Every sample of the time frames took since the last run that was `timed` began, in ticks.
  public func forEachSample(_ body: (UInt32) -> Void) {
    samples.forEach(body)
  }

  /// What verification has found since `startVerifying`: frames whole and in order, corrupt ones, and ones
  /// out of order.
  public var verified: (whole: UInt64, corrupt: UInt64, disordered: UInt64) {
    let findings = verifier?.findings ?? .init()
    return (findings.whole, findings.corrupt, findings.disordered)
  }

  /// Frames that are sent from now on are numbered from here; none may be under way.
  public func startVerifying() {
    verifier = Verifier(
      (0..<count).map { index in
        let flows = unsafe lanes[index].flows
        return .init(
          flows: unsafe (0..<lanes[index].flowCount).map { unsafe flows[$0] },
          next: unsafe lanes[index].sequence)
      }, segmented: count > 0 && self[0].options.segmented)
  }

  /// Whether the device of any lane broke the rules of its ring, in words.
  public var violations: [String] {
    (0..<count).flatMap { index in
      let first = unsafe lanes[index].receiveq.violation
      let second = unsafe lanes[index].transmitq.violation
      return [first, second].compactMap { $0 }.map { "lane \(index): \($0)" }
    }
  }

  /// Measures the time-stamp counter against the monotonic clock, for a twentieth of a second.
  private static func calibrate() -> Double {
    let clock = ContinuousClock()
    let (begin, first) = (clock.now, clx_ticks())
    while clock.now - begin < .milliseconds(50) { clx_pause() }
    let (end, last) = (clock.now, clx_ticks())
    let (seconds, attoseconds) = (end - begin).components
    return Double(last &- first) / (Double(seconds) + Double(attoseconds) / 1e18)
  }
}
