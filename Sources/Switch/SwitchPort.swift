internal import ControlAPI
internal import Dataplane

/// A port of either kind, as the switch handles it.
protocol SwitchPort: AnyObject, Sendable {
  var request: PortRequest { get }
  /// Its number in the data plane.
  var number: Int { get }
  /// The transmitqs that are polled now, and by which worker.
  var polled: [(queue: Int, worker: Int)] { get }
  /// Begins to serve.
  func start() throws
  /// Ends everything the port does and removes what it made. Returns when that is done.
  func stop()
  /// - Parameter macs: addresses learned, by port number.
  func snapshot(macs: [Int: Int]) -> Port
  /// Called a few times a second: looks for queues that have broken since.
  func inspect()
}

extension LearningCounters {
  init(_ counts: LearningCounts) {
    self.init(
      learned: counts.learned, moved: counts.moved, limited: counts.limited,
      evicted: counts.evicted, deferred: counts.deferred)
  }
}

extension Counters {
  init(_ sample: CounterSample) {
    self.init(
      frames: sample.frames, bytes: sample.bytes, bursts: sample.bursts,
      notifications: sample.notifications, replicas: sample.replicas,
      drops: Dictionary(uniqueKeysWithValues: sample.drops.map { ($0.key.name, $0.value) }))
  }
}
