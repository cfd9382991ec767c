internal import CLinux

/// The generator's loops.
///
/// SAFETY: lanes are touched by their numbers, all below `count`, by the one thread that runs the generator.
extension Generator {
  /// Drives all lanes for `seconds`, or until each has sent what it was to, if `traffic` says how many.
  ///
  /// - Returns: the seconds it took.
  @discardableResult
  public func run(seconds: Double, _ traffic: Traffic = Traffic()) -> Double {
    let start = clx_ticks()
    let length = UInt64(seconds * ticksPerSecond)
    if traffic.timed {
      samples.reset(expecting: seconds * (traffic.rate ?? 1e7) * Double(count))
    }
    let quota = traffic.frames ?? .max
    // Frames a tick, and parts of a tick a frame.
    let pace = (traffic.rate ?? 0) / ticksPerSecond
    let step = traffic.timed && pace > 0 ? UInt64(Double(1 << Samples.fraction) / pace) : 1
    let timed = traffic.timed
    let verifier = traffic.verified ? verifier : nil
    let (lanes, count) = unsafe (lanes, count)
    for index in 0..<count { unsafe lanes[index].runSent = 0 }
    var elapsed: UInt64 = 0
    repeat {
      // Of all that may be sent by now.
      let due = pace > 0 ? min(quota, UInt64(Double(elapsed) * pace)) : quota
      var isDone = true
      for index in 0..<count {
        let received = unsafe lanes[index].take()
        if received > 0 {
          if timed {
            unsafe lanes[index].time(received, now: start &+ elapsed, &samples)
          } else if let verifier {
            verifier.receive(on: index)
            unsafe lanes[index].verify(received, verifier)
          } else {
            unsafe lanes[index].read(received)
          }
          unsafe lanes[index].post(received)
        }
        let reclaimed = unsafe lanes[index].reclaim()
        unsafe lanes[index].counts.polls &+= 1
        if received | reclaimed == 0 {
          unsafe lanes[index].counts.idlePolls &+= 1
          // Not before there is nothing else to do: the question costs a fence.
          unsafe lanes[index].kickIfWanted()
        }
        if unsafe !lanes[index].isSending { continue }
        let sent = unsafe lanes[index].runSent
        let stamp =
          timed
          ? (start &<< Samples.fraction) &+ sent &* step
          : Verifier.stamp(lane: index, sequence: unsafe lanes[index].sequence)
        let more = due > sent ? Int(min(due &- sent, UInt64(Lane.burst))) : 0
        unsafe lanes[index].runSent &+= UInt64(
          truncatingIfNeeded: unsafe lanes[index].transmit(more, stamp: stamp, step: step, verifier)
        )
        if sent < quota { isDone = false }
      }
      elapsed = clx_ticks() &- start
      if isDone, quota > 0 { break }
    } while elapsed < length
    return Double(elapsed) / ticksPerSecond
  }

  /// Receives, and sends nothing, until nothing has moved for a while and the device has returned every
  /// transmit buffer, or `seconds` are over. Returns whether it has.
  public func drain(seconds: Double = 2, _ traffic: Traffic = Traffic()) -> Bool {
    var quiet = Traffic.none
    quiet.verified = traffic.verified
    var last = counts.receivedFrames
    var still = 0
    for _ in 0..<Int(seconds * 1000) {
      run(seconds: 0.001, quiet)
      let now = counts.receivedFrames
      let drained = (0..<count).allSatisfy { self[$0].isDrained }
      still = now == last && drained ? still + 1 : 0
      if still == 3 { return true }
      last = now
    }
    return false
  }

  /// Sends up to `limit` frames, at most a burst, on one lane; returns how many. Nothing is received.
  @discardableResult
  public func send(_ limit: Int, lane index: Int) -> Int {
    let sent = self[index].transmit(limit, stamp: 0, step: 1)
    self[index].kickIfWanted()
    return sent
  }

  /// One frame at a time: from lane `from` to lane `to`, which sends one back. Every round trip is a sample.
  ///
  /// - Returns: frames that did not come back within a tenth of a second.
  public func ping(from: Int = 0, to: Int = 1, seconds: Double) -> Int {
    samples.reset(expecting: 0)
    let start = clx_ticks()
    let length = UInt64(seconds * ticksPerSecond)
    let patience = UInt64(ticksPerSecond / 10)
    var lost = 0
    while clx_ticks() &- start < length {
      let begin = clx_ticks()
      guard hop(from, to, patience), hop(to, from, patience) else {
        lost += 1
        continue
      }
      samples.add(stamp: begin &<< Samples.fraction, now: clx_ticks())
    }
    return lost
  }

  /// Sends one frame on one lane and waits for one on the other.
  @inline(always)
  private func hop(_ from: Int, _ to: Int, _ patience: UInt64) -> Bool {
    let lanes = unsafe lanes
    let begin = clx_ticks()
    var sent = 0
    repeat {
      if sent == 0 {
        _ = unsafe lanes[from].reclaim()
        sent = unsafe lanes[from].transmit(1, stamp: 0, step: 1)
        unsafe lanes[from].kickIfWanted()
      }
      let received = unsafe lanes[to].take()
      if received > 0 {
        unsafe lanes[to].read(received)
        unsafe lanes[to].post(received)
        return true
      }
      unsafe lanes[to].kickIfWanted()
    } while clx_ticks() &- begin < patience
    return false
  }
}
