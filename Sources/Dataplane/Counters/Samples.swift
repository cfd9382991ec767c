public import Linux

/// One reading of a worker.
public struct WorkerSample: Sendable, Equatable {
  public var turns: UInt64
  /// Turns that moved at least one frame.
  public var busyTurns: UInt64
  public var sleeps: UInt64
  public var sleeping: Bool
  /// What its arena is made of.
  public var pages: Hugepages.Pages
}

/// What the MAC table has counted.
public struct AddressCounts: Sendable, Equatable {
  public var capacity: Int
  public var learned: UInt64
  public var moved: UInt64
  public var evicted: UInt64
  public var aged: UInt64
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
