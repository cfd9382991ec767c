/// Which way a queue carries frames, in the words of virtio: seen from the guest.
public enum QueueDirection: String, Codable, Sendable, CaseIterable {
  /// Guest (or host, for a TAP) to switch.
  case transmitq
  /// Switch to guest (or host).
  case receiveq
}

/// What a ring is doing.
public enum QueueState: String, Codable, Sendable, CaseIterable {
  /// The front-end has not started the ring, or has stopped it.
  case stopped
  /// Started, but the front-end has not enabled it: its frames are discarded.
  case disabled
  /// Carrying frames.
  case running
  /// Stopped because the guest broke the ring's rules.
  case broken
}

/// One queue of a port.
public struct Queue: Codable, Sendable, Equatable {
  /// The vring index (vhost-user: receiveq 0 is vring 0, transmitq 0 vring 1, …).
  public var index: Int
  public var direction: QueueDirection
  public var state: QueueState
  /// Entries of the ring; 0 before it is set.
  public var size: Int
  /// Worker that polls a transmitq; `nil` for a receiveq, which any worker may fill.
  public var worker: Int?
  /// NUMA node of that worker.
  public var workerNode: Int?
  /// Why the ring is broken.
  public var error: String?
  public var counters: Counters

  public init(
    index: Int, direction: QueueDirection, state: QueueState, size: Int = 0, worker: Int? = nil,
    workerNode: Int? = nil, error: String? = nil, counters: Counters = Counters()
  ) {
    self.index = index
    self.direction = direction
    self.state = state
    self.size = size
    self.worker = worker
    self.workerNode = workerNode
    self.error = error
    self.counters = counters
  }
}
