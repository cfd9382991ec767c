internal import CLinux

/// Single frames beside the traffic of all lanes, each timed one way.
///
/// SAFETY: as in `Generator+Run.swift`.
extension Generator {
  /// What became of the single frames.
  public struct Watched: Sendable, Equatable {
    /// Seconds that the lanes were driven.
    public var seconds = 0.0
    public var offered = 0
    /// Those that did not arrive within a second.
    public var missed = 0
  }

  /// Forgets all samples; from now on each is kept, as long as there is room.
  public func startSampling() { samples.reset(expecting: 0) }

  /// Drives all lanes as fast as they go, and beside them has one frame at a time made available, which is to arrive
  /// on lane `watcher`, where nothing else does. The time from one to the other is a sample: it is as exact as a turn
  /// over all lanes is short, and a kick that the device has asked for is part of it.
  ///
  /// - Parameters:
  ///   - interval: seconds from one frame to the next, if it has come by then; `nil`: there are none.
  ///   - seconds: afterwards the last frame is waited for.
  ///   - prepare: what need not be timed; false: there is nothing to offer yet.
  ///   - offer: makes the frame available, and kicks the device if it wants that.
  public func watch(
    _ watcher: Int, every interval: Double?, seconds: Double,
    prepare: () -> Bool, offer: () -> Void
  ) -> Watched {
    precondition(watcher >= 0 && watcher < count)
    let lane = unsafe lanes + watcher
    let (length, patience) = (UInt64(seconds * ticksPerSecond), UInt64(ticksPerSecond))
    let gap = UInt64((interval ?? 0) * ticksPerSecond)
    var result = Watched()
    var seen: UInt64 = 0
    var isUnderWay = false
    let start = clx_ticks()
    var begin = start
    var now = start
    while now &- start < length || isUnderWay {
      run(seconds: 0)
      now = clx_ticks()
      if isUnderWay {
        if unsafe lane.pointee.counts.receivedFrames != seen {
          samples.add(stamp: begin &<< Samples.fraction, now: now)
          isUnderWay = false
        } else if now &- begin > patience {
          result.missed += 1
          isUnderWay = false
        }
      }
      let isDue = interval != nil && now &- start < length && now &- begin >= gap
      if !isUnderWay, isDue, prepare() {
        seen = unsafe lane.pointee.counts.receivedFrames
        result.offered += 1
        isUnderWay = true
        begin = clx_ticks()
        offer()
      }
    }
    result.seconds = Double(now &- start) / ticksPerSecond
    return result
  }

  /// `watch` of the frames that lane `from` sends to lane `to`, one when the last has come.
  public func watch(from: Int, to: Int, seconds: Double) -> Watched {
    precondition(from >= 0 && from < count)
    let lane = unsafe lanes + from
    return watch(
      to, every: 0, seconds: seconds, prepare: { unsafe lane.pointee.idleCount > 0 },
      offer: {
        _ = unsafe lane.pointee.transmit(1, stamp: 0, step: 1)
        unsafe lane.pointee.kickIfWanted()
      })
  }
}
