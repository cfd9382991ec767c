import VirtioDriver

/// What busy ports do to others: single frames beside all that goes as fast as it can.
extension Runner {
  /// The first frame of a guest that has been silent: one of the idle guests after another sends one to a port at
  /// which nothing else happens.
  func cold(_ sizes: Sizes) throws -> Outcome {
    progress?.show("\(sizes.name) B: now and then a frame of a silent guest")
    let generator = bed.generator
    let guests = bed.idle.guests
    let watcher = bed.watched[0]
    let frames = guests.indices.map { bed.idle.frame(from: $0, to: bed.address(watcher, 0)) }
    let kicks = { guests.reduce(0) { $0 + $1.pairs[0].transmitq.kicks } }
    bed.prepare(sizes)
    if plan.warmup > 0 { generator.run(seconds: plan.warmup) }
    let (start, kicked) = (generator.counts(of: bed.busy), kicks())
    var turn = -1
    generator.startSampling()
    let found = generator.watch(
      watcher, every: plan.interval, seconds: plan.seconds,
      prepare: {
        turn = (turn + 1) % guests.count
        return guests[turn].pairs[0].enqueue(frames[turn])
      }, offer: { guests[turn].pairs[0].flush() })
    let measured = generator.counts(of: bed.busy) - start
    try settle()
    var result = Outcome(mode: .cold, size: sizes.name)
    result.take(measured, found.seconds)
    result.take(generator.counts(of: bed.busy) - start, copies: bed.copies)
    result.single = .init(
      offered: found.offered, missed: found.missed, kicked: kicks() - kicked)
    result.latency = latency()
    return result
  }

  /// Times that the busy ports' rate is measured alone, and as often beside single frames.
  private static let rounds = 4

  /// A pair of ports at which there is one small frame at a time, beside the busy ones: its times, and what it costs
  /// them. With it and without it take turns.
  func mixed(_ sizes: Sizes) throws -> Outcome {
    progress?.show("\(sizes.name) B beside one frame of 64 B at a time")
    let generator = bed.generator
    let (from, to) = (bed.watched[0], bed.watched[1])
    let slice = plan.seconds / Double(2 * Runner.rounds)
    bed.prepare(sizes)
    if plan.warmup > 0 { generator.run(seconds: plan.warmup) }
    let start = generator.counts(of: bed.busy)
    var single = Outcome.Single()
    var (alone, beside) = (Outcome(mode: plan.mode, size: sizes.name), Lane.Counts())
    var (aloneCounts, aloneSeconds, seconds) = (Lane.Counts(), 0.0, 0.0)
    generator.startSampling()
    for _ in 0..<Runner.rounds {
      var before = generator.counts(of: bed.busy)
      aloneSeconds +=
        generator.watch(
          to, every: nil, seconds: slice, prepare: { false }, offer: {}
        ).seconds
      aloneCounts += generator.counts(of: bed.busy) - before
      before = generator.counts(of: bed.busy)
      let found = generator.watch(from: from, to: to, seconds: slice)
      beside += generator.counts(of: bed.busy) - before
      seconds += found.seconds
      single.offered += found.offered
      single.missed += found.missed
    }
    try settle()
    alone.take(aloneCounts, aloneSeconds)
    var result = Outcome(mode: plan.mode, size: sizes.name)
    result.take(beside, seconds)
    result.take(generator.counts(of: bed.busy) - start, copies: bed.copies)
    result.gbpsAlone = alone.gbps
    result.single = single
    result.latency = latency()
    return result
  }

  /// Waits until all has come, and fails if a back-end has broken a rule.
  private func settle() throws {
    try bed.drain()
    for guest in bed.idle.guests { guest.pairs[0].reclaim() }
    try bed.check()
  }
}

extension Outcome {
  /// Rates of what was counted in `seconds`.
  mutating func take(_ measured: Lane.Counts, _ took: Double) {
    seconds = took
    sentFrames = measured.sentFrames
    receivedFrames = measured.receivedFrames
    mpps = Double(measured.receivedFrames) / took / 1e6
    gbps = Double(measured.receivedBytes) * 8 / took / 1e9
  }

  /// What was lost of all that was sent, each frame to `copies` receivers, when nothing is under way any more.
  mutating func take(_ whole: Lane.Counts, copies: Int) {
    let due = whole.sentFrames * UInt64(copies)
    lostFrames = due > whole.receivedFrames ? due - whole.receivedFrames : 0
    lostShare = Double(lostFrames) / Double(max(1, due))
  }
}
