public import Linux

/// One reading of a worker.
public struct WorkerSample: Sendable, Equatable {
  public var number: Int
  public var turns: UInt64
  /// Turns that moved at least one frame.
  public var busyTurns: UInt64
  public var sleeps: UInt64
  public var sleeping: Bool
  /// What its arena is made of.
  public var pages: Hugepages.Pages
  /// Plans it was given: one for each change of what it polls.
  public var publications: Int
  /// The CPU it runs on, or ran on last, whatever it was pinned to; `nil`: it has no thread, or the kernel does not say.
  public var cpu: Int?
}

/// What a worker counts of itself.
struct WorkerCounts {
  var turns: UInt64 = 0
  var busyTurns: UInt64 = 0
  var sleeps: UInt64 = 0
  var convictions: UInt64 = 0
  var stalls: UInt64 = 0
  /// Microseconds.
  var stalled: UInt64 = 0

  static func += (left: inout WorkerCounts, right: WorkerCounts) {
    left.turns += right.turns
    left.busyTurns += right.busyTurns
    left.sleeps += right.sleeps
    left.convictions += right.convictions
    left.stalls += right.stalls
    left.stalled += right.stalled
  }
}

extension WorkerCounts {
  init(_ state: WorkerState) {
    self.init(
      turns: state.epoch / 2, busyTurns: state.load(.busyTurns), sleeps: state.load(.sleeps),
      convictions: state.load(.convictions), stalls: state.load(.stalls),
      stalled: state.load(.stalled))
  }
}

/// What the MAC table has counted.
public struct AddressCounts: Sendable, Equatable {
  public var capacity: Int
  public var learning: LearningCounts
  /// Addresses removed because they were silent for too long.
  public var aged: UInt64
}

/// What the frames of a queue, a port or all ports have taught the MAC table.
public struct LearningCounts: Sendable, Equatable {
  /// Addresses that were not known.
  public var learned: UInt64 = 0
  /// Addresses that were known on another port.
  public var moved: UInt64 = 0
  /// Addresses that went because their port had its limit, and one came.
  public var limited: UInt64 = 0
  /// Addresses, of any port, that went because the table had no room for one of these; and these that were not learned,
  /// as no port had so many that it was to lose one.
  public var evicted: UInt64 = 0
  /// Frames whose source addresses were not looked at, as their burst and those before had brought too many new ones.
  public var deferred: UInt64 = 0

  public init(
    learned: UInt64 = 0, moved: UInt64 = 0, limited: UInt64 = 0, evicted: UInt64 = 0,
    deferred: UInt64 = 0
  ) {
    (self.learned, self.moved, self.limited) = (learned, moved, limited)
    (self.evicted, self.deferred) = (evicted, deferred)
  }

  static func += (sum: inout LearningCounts, other: LearningCounts) {
    sum.learned &+= other.learned
    sum.moved &+= other.moved
    sum.limited &+= other.limited
    sum.evicted &+= other.evicted
    sum.deferred &+= other.deferred
  }
}

extension CounterSample {
  public static func += (sum: inout CounterSample, other: CounterSample) {
    sum.frames &+= other.frames
    sum.bytes &+= other.bytes
    sum.bursts &+= other.bursts
    sum.notifications &+= other.notifications
    sum.replicas &+= other.replicas
    sum.drops.merge(other.drops, uniquingKeysWith: &+)
  }
}
