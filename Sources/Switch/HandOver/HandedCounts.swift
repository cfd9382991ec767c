internal import Dataplane

/// What a queue has counted, by names that other versions know.
public struct HandedCounts: Codable, Sendable, Equatable {
  var frames: UInt64
  var bytes: UInt64
  var bursts: UInt64
  var notifications: UInt64
  var replicas: UInt64
  var drops: [String: UInt64]

  init(_ sample: CounterSample) {
    (frames, bytes, bursts) = (sample.frames, sample.bytes, sample.bursts)
    (notifications, replicas) = (sample.notifications, sample.replicas)
    drops = Dictionary(
      sample.drops.map { ($0.key.name, $0.value) }, uniquingKeysWith: { first, _ in first })
  }

  /// Reasons that this version does not know are left out.
  var sample: CounterSample {
    var sample = CounterSample()
    (sample.frames, sample.bytes, sample.bursts) = (frames, bytes, bursts)
    (sample.notifications, sample.replicas) = (notifications, replicas)
    for reason in DropReason.allCases where drops[reason.name] != nil {
      sample.drops[reason] = drops[reason.name]
    }
    return sample
  }
}

/// What the frames of a port, or of all, have taught the MAC table.
public struct HandedLearning: Codable, Sendable, Equatable {
  var learned: UInt64
  var moved: UInt64
  var limited: UInt64
  var evicted: UInt64
  var deferred: UInt64

  init(_ counts: LearningCounts) {
    (learned, moved, limited) = (counts.learned, counts.moved, counts.limited)
    (evicted, deferred) = (counts.evicted, counts.deferred)
  }

  var counts: LearningCounts {
    var counts = LearningCounts()
    (counts.learned, counts.moved, counts.limited) = (learned, moved, limited)
    (counts.evicted, counts.deferred) = (evicted, deferred)
    return counts
  }
}
