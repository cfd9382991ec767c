internal import ControlAPI
internal import Dataplane
internal import Linux

/// A port of any kind, as the switch handles it.
protocol SwitchPort: AnyObject, Sendable {
  var request: PortRequest { get }
  /// Its number in the data plane.
  var number: Int { get }
  /// The transmitqs that are polled now, and by which worker.
  var polled: [(queue: Int, worker: Int)] { get }
  /// Memory node that its frames are on, where that is known.
  var home: Int? { get }
  /// Gives transmitqs, by index, that of announcements among them (`Dataplane.announcer`), to other workers, while its other side notices a moment's pause at the most. Throws, in a sentence,
  /// when that can't be now.
  func move(_ workers: [Int: Int]) throws(ServiceError)
  /// Begins to serve.
  func start() throws
  /// Takes over what another port had until now, if it was made aside.
  func takePlace() throws
  /// Becomes what `request` says, which has the same foundation, without its guest noticing. On failure it is as before.
  func update(to request: PortRequest) throws
  /// Ends everything the port does and removes what it made. Returns when that is done.
  func stop()
  /// - Parameter macs: addresses learned, by port number.
  func snapshot(macs: [Int: Int]) -> Port
  /// Called a few times a second: looks for queues that have broken since.
  func inspect()
  /// Called when an interface of this machine has changed, come or gone.
  func inspectLink()
  /// Makes again what somebody has taken away that the port stands on: the file of its socket, its interface. Returns
  /// whether there was anything to be made.
  func heal() throws -> Bool
  /// What the port holds besides what its request claims: an interface's new name.
  var alsoClaimed: [Claim] { get }
  /// Whether the port may be cut off where it is part of a loop: there may be a whole network behind it.
  var canBeCut: Bool { get }
  /// Cuts the port off, or ends that: no frame passes either way meanwhile.
  func cut(_ isCut: Bool)
  /// Bytes of shared memory that its other side has given back of late, as of the last `inspect`.
  var memoryGivenBack: Int { get }
  /// The process that drives the port, where there is one.
  var frontEnd: SavedState.FrontEnd? { get }
  /// Ends what the port does with such memory, as workers had to wait for it.
  func endStalls(milliseconds: Int)

  // ---- A switch is handed over (`Switch.handOver`) ----

  /// Has what the port does of itself come to rest; its queues go on.
  func ask()
  /// Waits until it has. Throws, in a sentence, when it can't be handed over now.
  func awaitRest(until deadline: ContinuousClock.Instant) throws(ServiceError)
  /// Stops its receiveqs, or its transmitqs, where they are.
  func hold(receiveqs: Bool)
  /// Starts those that were held, by this port or the one before it.
  func letGo(receiveqs: Bool)
  /// Tells what another process needs to go on in its place.
  func fill(_ handed: inout HandedPort, _ descriptors: inout HandedDescriptors) throws
  /// Ends the rest.
  ///
  /// - Parameter isOver: another process has taken over; what the port stands on is that one's.
  func release(isOver: Bool)
  /// From now on what the port stands on is its own, which another process has made.
  func own()
  /// Does of itself again what the port before it did.
  func resume() throws
}

extension SwitchPort {
  var home: Int? { nil }
  var memoryGivenBack: Int { 0 }
  var frontEnd: SavedState.FrontEnd? { nil }
  func endStalls(milliseconds: Int) {}
  func takePlace() throws {}
  func inspectLink() {}
  func heal() throws -> Bool { false }
  var alsoClaimed: [Claim] { [] }
  var canBeCut: Bool { false }
  func cut(_ isCut: Bool) {}
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

extension Port {
  /// Appends a queue and adds its counts to the port's.
  mutating func add(_ queue: Queue) {
    queues.append(queue)
    if queue.direction == .transmitq { received += queue.counters } else { sent += queue.counters }
  }
}

extension Switch {
  func node(ofWorker worker: Int) -> Int { placement.withLock { $0.nodes[worker] } }

  func release(_ workers: [Int]) {
    placement.withLock { placement in
      for worker in workers { placement.release(worker) }
    }
  }

  /// Addresses learned, by port number.
  var addressCounts: [Int: Int] {
    allPorts.reduce(into: [:]) { $0[$1.number] = dataplane.addressCount(port: $1.number) }
  }
}
