import Histogram
import VirtioDriver

/// The modes.
struct Runner {
  let bed: Bed
  let plan: Plan
  let progress: Progress?
  /// Of a swivel that tells what it drops.
  var ledger: Ledger?

  private var trial: Trial { Trial(bed: bed, plan: plan) }

  func run(_ sizes: Sizes) throws -> Outcome {
    let before = try ledger?.drops()
    var result = try measure(sizes)
    if let ledger, let before { result.drops = Ledger.difference(try ledger.drops(), before) }
    return result
  }

  private func measure(_ sizes: Sizes) throws -> Outcome {
    defer { progress?.clear() }
    switch plan.mode {
    case .throughput:
      if plan.mixed { return try mixed(sizes) }
      return plan.memcpy ? try besideMemcpy(sizes) : try throughput(sizes)
    case .zeroLoss: return try zeroLoss(sizes)
    case .latency:
      progress?.show(
        "\(sizes.name) B: latency at \(Figure.mpps((plan.rate ?? 0) / 1e6)) Mpps a port")
      var result = try trial.run(
        sizes, rate: plan.rate, seconds: plan.seconds, warmup: plan.warmup, timed: true)
      result.latency = latency()
      return result
    case .ping: return try ping(sizes)
    case .cold: return try cold(sizes)
    case .burst: return try burst(sizes)
    case .generator, .memcpy: throw BenchError("\(plan.mode.rawValue) needs no switch")
    }
  }

  private func throughput(_ sizes: Sizes) throws -> Outcome {
    try trial.run(
      sizes, rate: plan.rate, seconds: plan.seconds, warmup: plan.warmup,
      verified: plan.verify, progress: progress)
  }

  /// The throughput, and before and after it what memcpy reaches in the same buffers.
  private func besideMemcpy(_ sizes: Sizes) throws -> Outcome {
    let pairs = bed.busy.map { (from: $0, to: bed.peer($0)) }
    func copy() -> Double {
      let (frames, seconds) = bed.generator.copyFrames(
        of: sizes.longest, between: pairs, seconds: plan.seconds / 2)
      return Double(frames) * Double(sizes.longest) * 8 / seconds / 1e9
    }
    let before = copy()
    var result = try throughput(sizes)
    result.memcpyGbps = (before + copy()) / 2
    return result
  }

  /// Trials of a rate, or of a burst, before it counts as one at which frames are lost: a host takes a CPU
  /// away from a virtual machine now and then, for longer than a ring lasts.
  private static let attempts = 3

  /// Makes up to three trials and returns the first that passes, or the last.
  private func attempt(
    _ trial: () throws -> (passed: Bool, found: Outcome)
  ) throws -> (passed: Bool, found: Outcome) {
    var result = try trial()
    for _ in 1..<Runner.attempts where !result.passed { result = try trial() }
    return result
  }

  /// RFC 2544, 26.1, with a resolution of one per cent. A rate that could not be offered counts as lost.
  private func zeroLoss(_ sizes: Sizes) throws -> Outcome {
    progress?.show("\(sizes.name) B: as fast as it goes")
    let most = try trial.run(
      sizes, rate: nil, seconds: plan.seconds, warmup: plan.warmup)
    // Of each port; a little above what arrived, as the search begins at the top.
    let top = Double(most.receivedFrames) / most.seconds / Double(bed.copies * bed.senders.count)
    let found = try Search.highest(from: top / 1000, to: top * 1.02, resolution: 0.01) { rate in
      progress?.show("\(sizes.name) B: \(Figure.mpps(rate * Double(bed.senders.count) / 1e6)) Mpps")
      return try attempt {
        let result = try trial.run(
          sizes, rate: rate, seconds: plan.seconds, warmup: min(plan.warmup, 0.1))
        return (result.lostShare <= plan.loss && result.limit == .rate, result)
      }
    }
    guard let found else {
      throw BenchError("frames are lost even at a thousandth of the highest rate")
    }
    var result = found.found
    result.limit = most.limit
    return result
  }

  private func ping(_ sizes: Sizes) throws -> Outcome {
    progress?.show("\(sizes.name) B: one frame at a time")
    bed.prepare(sizes)
    let generator = bed.generator
    let before = generator.counts
    let peer = plan.queues
    let lost = generator.ping(to: peer, seconds: plan.seconds)
    let counts = generator.counts - before
    try bed.drain()
    try bed.check()
    var result = Outcome(mode: .ping, size: sizes.name)
    result.seconds = plan.seconds
    result.sentFrames = counts.sentFrames
    result.receivedFrames = counts.receivedFrames
    result.mpps = Double(counts.receivedFrames) / plan.seconds / 1e6
    result.lostFrames = UInt64(lost)
    result.latency = latency()
    return result
  }

  /// RFC 2544, 26.4: bursts as fast as they go, of up to two seconds, with a rest between them.
  private func burst(_ sizes: Sizes) throws -> Outcome {
    progress?.show("\(sizes.name) B: as fast as it goes")
    let most = try trial.run(
      sizes, rate: nil, seconds: min(plan.seconds, 1), warmup: plan.warmup)
    let perPort = Double(most.sentFrames) / most.seconds / Double(bed.senders.count)
    let found = try Search.highest(from: 1, to: max(1, 2 * perPort), resolution: 0.01) { length in
      let frames = UInt64(length)
      progress?.show("\(sizes.name) B: a burst of \(Figure.count(frames)) frames")
      return try attempt { try burst(sizes, frames) }
    }
    guard var result = found?.found else { throw BenchError("even bursts of one frame are lost") }
    result.limit = most.limit
    return result
  }

  /// One burst of `frames` from each port.
  private func burst(
    _ sizes: Sizes, _ frames: UInt64
  ) throws -> (passed: Bool, found: Outcome) {
    let generator = bed.generator
    let before = generator.counts
    let took = generator.run(seconds: 10, .init(frames: frames))
    try bed.drain()
    try bed.check()
    let counts = generator.counts - before
    let due = counts.sentFrames * UInt64(bed.copies)
    var result = Outcome(mode: .burst, size: sizes.name)
    result.seconds = took
    result.sentFrames = counts.sentFrames
    result.receivedFrames = counts.receivedFrames
    result.mpps = Double(counts.receivedFrames) / took / 1e6
    result.gbps = Double(counts.receivedBytes) * 8 / took / 1e9
    result.lostFrames = due > counts.receivedFrames ? due - counts.receivedFrames : 0
    result.lostShare = Double(result.lostFrames) / Double(max(1, due))
    result.burstFrames = frames
    return (result.lostShare <= plan.loss, result)
  }

  /// What the samples of the last run amount to.
  func latency() -> Outcome.Latency? {
    let nanoseconds = 1e9 / bed.generator.ticksPerSecond
    // Three digits from a nanosecond to ten seconds.
    var histogram = Histogram<UInt64>(
      lowestDiscernibleValue: 1, highestTrackableValue: 10_000_000_000,
      numberOfSignificantValueDigits: .three)
    bed.generator.forEachSample { ticks in
      _ = histogram.record(max(1, UInt64(Double(ticks) * nanoseconds)))
    }
    return Outcome.Latency(histogram)
  }
}

extension Outcome.Latency {
  static let shown = [50, 75, 90, 95, 99, 99.9, 99.99, 99.999]

  /// `nil` when there is nothing in it. Values are nanoseconds.
  init?(_ histogram: Histogram<UInt64>) {
    if histogram.totalCount == 0 { return nil }
    samples = Int(histogram.totalCount)
    minimum = Double(histogram.min) / 1e3
    mean = histogram.mean / 1e3
    maximum = Double(histogram.max) / 1e3
    percentiles = Outcome.Latency.shown.map {
      Point(percentile: $0, microseconds: Double(histogram.valueAtPercentile($0)) / 1e3)
    }
  }

  func at(_ percentile: Double) -> Double? {
    percentiles.first { $0.percentile == percentile }?.microseconds
  }
}
