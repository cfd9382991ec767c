import Glibc
import VirtioDriver

/// Sending for a while and counting: what every mode is made of.
struct Trial {
  let bed: Bed
  let plan: Plan

  /// Sends frames of `sizes` at `rate` from each port (`nil`: as fast as they go), first to warm up.
  func run(
    _ sizes: Sizes, rate: Double?, seconds: Double, warmup: Double, timed: Bool = false,
    verified: Bool = false, progress: Progress? = nil
  ) throws -> Outcome {
    let generator = bed.generator
    // Timed from the start: what is still under way after warming up is taken for a sample.
    let traffic = Generator.Traffic(rate: rate, timed: timed, verified: verified)
    bed.prepare(sizes)
    if verified { generator.startVerifying() }
    let start = generator.counts
    if warmup > 0 { generator.run(seconds: warmup, traffic) }
    let before = generator.counts
    let busy = Trial.threadSeconds
    var took = 0.0
    // A line of progress costs time, in which frames would be lost: only where nobody minds.
    let pieces = progress == nil ? 1 : max(1, Int((seconds / 0.5).rounded()))
    for piece in 0..<pieces {
      took += generator.run(seconds: seconds / Double(pieces), traffic)
      if let progress, piece + 1 < pieces {
        let so = generator.counts - before
        progress.show(
          "\(sizes.name) B  \(piece + 1)/\(pieces)  \(Figure.mpps(Double(so.receivedFrames) / took / 1e6)) Mpps"
        )
      }
    }
    let after = generator.counts
    let share = (Trial.threadSeconds - busy) / took
    try bed.drain(verified: verified)
    try bed.check()
    var found = result(
      sizes, rate, took, measured: after - before, whole: generator.counts - start,
      verified: verified)
    found.cpuShare = min(1, share)
    return found
  }

  /// Seconds that this thread has had a CPU so far.
  private static var threadSeconds: Double {
    var time = timespec()
    // SAFETY: writes the local.
    _ = unsafe clock_gettime(clockid_t(CLOCK_THREAD_CPUTIME_ID), &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  private func result(
    _ sizes: Sizes, _ rate: Double?, _ took: Double, measured: Lane.Counts, whole: Lane.Counts,
    verified: Bool
  ) -> Outcome {
    var result = Outcome(mode: plan.mode, size: sizes.name)
    let generator = bed.generator
    result.seconds = took
    result.offeredRate = rate.map { $0 * Double(bed.senders.count) }
    result.sentFrames = measured.sentFrames
    result.receivedFrames = measured.receivedFrames
    result.mpps = Double(measured.receivedFrames) / took / 1e6
    result.gbps = Double(measured.receivedBytes) * 8 / took / 1e9
    let due = whole.sentFrames * UInt64(bed.copies)
    result.lostFrames = due > whole.receivedFrames ? due - whole.receivedFrames : 0
    result.lostShare = Double(result.lostFrames) / Double(max(1, due))
    let polls = Double(max(1, measured.polls))
    result.idleShare = Double(measured.idlePolls) / polls
    let buffers = (0..<generator.count).reduce(0) { $0 + generator[$1].transmitBuffers }
    let held = Double(measured.held) / polls * Double(generator.count) / Double(buffers)
    result.heldShare = held
    result.limit = Verdict.limit(
      idle: result.idleShare ?? 0, held: held * Double(generator.count) / Double(bed.senders.count),
      offered: result.offeredRate, sent: Double(measured.sentFrames) / took)
    if verified {
      let found = generator.verified
      result.verification = .init(
        whole: found.whole, corrupt: found.corrupt, disordered: found.disordered)
    }
    return result
  }
}

/// Whether it was the switch, this program, or the rate asked for that set the limit.
enum Verdict {
  /// - Parameters:
  ///   - idle: of the times a lane was looked at, the share that found nothing to do.
  ///   - held: of the senders' transmit buffers, the share that the switch held on average after those it
  ///     had returned were taken back.
  ///   - offered: frames a second that were to be sent, if there was a rate.
  ///   - sent: frames a second that were.
  static func limit(idle: Double, held: Double, offered: Double?, sent: Double) -> Outcome.Limit {
    if let offered, sent >= 0.99 * offered { return .rate }
    // A switch that keeps up has returned nearly everything by the time this program looks again, and there
    // is always something to do.
    return idle < 0.05 && held < 0.75 ? .generator : .switch
  }
}
