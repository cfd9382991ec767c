internal import Linux

/// Counts that come from a data plane in another process, so that none falls when its work is taken over.
extension Dataplane {
  /// Adds to the counts of a queue that does not run.
  public func add(
    _ sample: CounterSample, _ learning: LearningCounts, queue index: Int, of number: Int
  ) {
    state.withLock { state in
      guard let port = port(number, state), port.queues.indices.contains(index),
        port.queues[index] == nil
      else { return }
      let counters = port.state.queue(index).counters
      let words: [(Counters.Word, UInt64)] = [
        (.frames, sample.frames), (.bytes, sample.bytes), (.bursts, sample.bursts),
        (.notifications, sample.notifications), (.replicas, sample.replicas),
        (.learned, learning.learned), (.moved, learning.moved), (.limited, learning.limited),
        (.evicted, learning.evicted), (.deferred, learning.deferred),
      ]
      for (word, count) in words { counters.add(word, Int(truncatingIfNeeded: count)) }
      for (reason, count) in sample.drops { counters.drop(reason, Int(truncatingIfNeeded: count)) }
    }
  }

  /// What queues have counted of ports that are gone, and how many addresses have aged.
  public var departed:
    (transmitq: CounterSample, receiveq: CounterSample, learning: LearningCounts, aged: UInt64)
  {
    state.withLock {
      ($0.departed.transmitq, $0.departed.receiveq, $0.departed.learning, $0.aged)
    }
  }

  /// Waits until no frame waits for a translation, or `deadline`.
  public func awaitWaiting(until deadline: ContinuousClock.Instant) {
    while workers.contains(where: { $0.state.waits }), ContinuousClock.now < deadline {
      Pause.milliseconds(1)
    }
  }

  /// Adds to these.
  public func addDeparted(
    transmitq: CounterSample, receiveq: CounterSample, learning: LearningCounts, aged: UInt64
  ) {
    state.withLock { state in
      state.departed.transmitq += transmitq
      state.departed.receiveq += receiveq
      state.departed.learning += learning
      state.aged += aged
    }
  }
}
