internal import CLinux
internal import Glibc

/// The time-stamp counter as a clock.
///
/// SAFETY: the kernel writes the one structure that it is given.
enum TickClock {
  /// A tick is `1 << shift` counts: the power of two that is nearest to two microseconds from above.
  static let shift: UInt64 = {
    var shift: UInt64 = 0
    while Double(UInt64(1) << shift) < 2 * perMicrosecond { shift += 1 }
    return shift
  }()

  /// Counts of a microsecond.
  static let perMicrosecond: Double = {
    func now() -> (nanoseconds: Int, counts: UInt64) {
      var time = timespec()
      unsafe clock_gettime(CLOCK_MONOTONIC_RAW, &time)
      return (time.tv_sec * 1_000_000_000 + time.tv_nsec, clx_ticks())
    }
    let start = now()
    var end = start
    while end.nanoseconds - start.nanoseconds < 1_000_000 { end = now() }
    return Double(end.counts - start.counts) / Double(end.nanoseconds - start.nanoseconds) * 1000
  }()

  static func counts(microseconds: Int) -> UInt64 {
    UInt64(Double(microseconds) * perMicrosecond)
  }
}
