internal import Linux

/// A moment on the monotonic clock after which waiting ends.
public struct Deadline: Sendable {
  private let end: ContinuousClock.Instant

  /// `milliseconds` from now.
  public init(milliseconds: Int) {
    end = .now + .milliseconds(milliseconds)
  }

  public var isOver: Bool { .now >= end }

  /// Whole milliseconds left, rounded up; 0 when it is over.
  public var left: Int {
    let (seconds, attoseconds) = (end - .now).components
    if seconds < 0 || attoseconds < 0 { return 0 }
    return Int(seconds) * 1000 + Int((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
  }

  /// Gives the processor to others for a millisecond.
  public static func pause() {
    _ = try? Poller.wait([], milliseconds: 1)
  }

  /// Evaluates `condition` once a millisecond until it holds or `milliseconds` are over; returns whether
  /// it held.
  public static func wait(milliseconds: Int, _ condition: () -> Bool) -> Bool {
    let deadline = Deadline(milliseconds: milliseconds)
    while !condition() {
      if deadline.isOver { return false }
      pause()
    }
    return true
  }
}
