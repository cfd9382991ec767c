internal import Dataplane
internal import Linux

/// What moves for as long as the switch does its work: housekeeping goes round five times a second, and a worker makes
/// its turns or sleeps. Two readings, some seconds apart, tell what stands still.
public struct Pulse: Sendable, Equatable {
  struct Worker: Sendable, Equatable {
    let number: Int
    let cpu: Int
    let turns: UInt64
    let sleeps: UInt64
    let isSleeping: Bool
  }

  let rounds: UInt64
  let workers: [Worker]

  /// What has stood still since `earlier`, a sentence each; nothing: the switch lives.
  public func standing(since earlier: Pulse) -> [String] {
    var standing: [String] = []
    if rounds == earlier.rounds { standing.append("housekeeping has made no round") }
    for now in workers {
      // One that came in between has had no time yet.
      guard let before = earlier.workers.first(where: { $0.number == now.number }) else { continue }
      // One that sleeps, or has slept in between, was only without work: a guest wakes it.
      guard !now.isSleeping, !before.isSleeping else { continue }
      if now.turns == before.turns, now.sleeps == before.sleeps {
        standing.append("worker \(now.number) on CPU \(now.cpu) has made no turn")
      }
    }
    return standing
  }
}

extension Switch {
  /// Costs a look at some counters and waits for nobody.
  public func pulse() -> Pulse {
    Pulse(
      rounds: housekeepingRounds.withLock { $0 },
      workers: dataplane.workerSamples().map { sample in
        Pulse.Worker(
          number: sample.number, cpu: cpu(ofWorker: sample.number), turns: sample.turns,
          sleeps: sample.sleeps, isSleeping: sample.sleeping)
      })
  }
}
