internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging

/// An uplink: a TAP device of the host, each of its queues polled by one worker.
final class TapPort: SwitchPort {
  private let requested: Lock<PortRequest>
  let number: Int
  let device: Lock<Holding>
  let workers: Lock<[Int]>
  unowned let parent: Switch
  /// What was last seen of the interface.
  let interface: Lock<InterfaceState>

  /// Held while the port changes with its interface. On no account does that go on behind the port's end: its number may be another's
  /// then.
  let life = Lock(Life())

  struct Life {
    var isStopped = false
    /// Queues that nobody waits for any more, as the interface was deleted.
    var silent: Set<Int> = []
    /// Whether what was learned is to be forgotten once more: workers may have had frames in hand.
    var flushes = false
    /// The interface was deleted a moment ago.
    var isNewlyGone = false
    /// When to look again at an interface that can't be watched, as it is elsewhere, or can't be used.
    var nextLook = ContinuousClock.now
  }

  /// The one reference to the device's descriptors here, so that they close when the port stops, whoever
  /// still holds the port for a reading.
  struct Holding {
    var tap: TapDevice?
    var made: Bool
  }

  init(
    _ request: PortRequest, _ tap: TapRequest, in parent: Switch, device handed: TapDevice? = nil
  ) throws {
    requested = Lock(request)
    self.parent = parent
    let device =
      try handed ?? TapDevice(name: tap.device, queues: tap.queues ?? 1, mtu: request.mtu)
    self.device = Lock(Holding(tap: device, made: device.made))
    interface = Lock(InterfaceState(name: device.name))
    // The kernel's memory has no node of its own to be near to.
    let count = device.queues.count
    let placed = parent.placement.withLock { placement in
      (0..<count).map { _ in placement.place(node: nil) }
    }
    workers = Lock(placed)
    do {
      number = try parent.dataplane.addPort(
        pairs: count, addresses: request.macs, isUplink: true)
    } catch {
      parent.release(placed)
      throw error
    }
    if let mtu = request.mtu { parent.dataplane.setMTU(mtu, port: number) }
  }

  var request: PortRequest { requested.withLock { $0 } }

  func update(to next: PortRequest) throws {
    let old = request
    if next.macs != old.macs { try parent.dataplane.setAddressLimit(next.macs, port: number) }
    if next.mtu != old.mtu {
      do {
        // An interface of ours goes back to what it began with; of another's nothing is known but what it has.
        let made = device.withLock { $0.made }
        if let mtu = next.mtu ?? (made ? TapDevice.standardMTU : nil) { try setMTU(mtu) }
      } catch {
        try? parent.dataplane.setAddressLimit(old.macs, port: number)
        throw error
      }
      parent.dataplane.setMTU(next.mtu, port: number)
    }
    requested.withLock { $0 = next }
    hold { $0.isSetDown = next.link == .down }
    inspectLink()
  }

  /// Sets the MTU of the interface, and of no other that has its name by now. One that is gone has it when it is back.
  private func setMTU(_ mtu: Int) throws {
    let state = interface.withLock { $0 }
    switch state.condition {
    case .gone: break
    case .elsewhere:
      throw ServiceError(
        .refused,
        "port '\(request.name)': the interface \(state.name) is in another network namespace, where only its owner can set its MTU"
      )
    case .up, .down, .noCarrier: try TapDevice.setMTU(mtu, of: state.name)
    }
  }

  var polled: [(queue: Int, worker: Int)] {
    workers.withLock { $0.enumerated().map { (2 * $0.offset + 1, $0.element) } }
  }

  var pairs: Int { workers.withLock { $0.count } }
  var queues: Range<Int> { 0..<(2 * pairs) }

  func start() throws {
    try life.withLock { life in
      try startQueues()
      look(&life)
    }
    if request.link == .down { hold { $0.isSetDown = true } }
  }

  /// - Parameter only: the receiveqs alone, or the transmitqs; `nil`: all.
  func startQueues(receiveqs only: Bool? = nil) throws {
    let workers = workers.withLock { $0 }
    let starts = device.withLock { device in
      (device.tap?.queues ?? []).enumerated().flatMap { pair, descriptor in
        let setup = QueueSetup.tap(
          TapSetup(
            descriptor: descriptor, headerSize: TapDevice.headerSize,
            offloads: device.tap?.segmentsDatagrams == true ? .all : .tcp))
        return [0, 1].filter { only == nil || ($0 == 0) == only }.map {
          QueueStart(2 * pair + $0, setup, worker: workers[pair])
        }
      }
    }
    for case let error? in parent.dataplane.startQueues(starts, of: number) { throw error }
  }

  func stop() {
    life.withLock { $0.isStopped = true }
    parent.dataplane.removePort(number)
    // The last references are the queues' and this one.
    device.withLock { $0.tap = nil }
    parent.release(workers.withLock { $0 })
  }

  func move(_ moved: [Int: Int]) throws(ServiceError) {
    // Nothing that becomes of the interface starts or stops its queues meanwhile.
    life.withLock { life in
      if life.isStopped { return }
      hold(receiveqs: false)
      let (old, new) = workers.withLock { workers in
        let old = workers
        for (queue, worker) in moved { workers[queue / 2] = worker }
        return (old, workers)
      }
      parent.placement.withLock { placement in
        for (from, to) in zip(old, new) where from != to { placement.move(from, to) }
      }
      // Another worker waits for them now, be they those of an interface that is gone.
      life.silent = []
      letGo(receiveqs: false)
    }
  }

  // ---- The switch is handed over ----

  /// Nothing that becomes of the interface has the port change meanwhile.
  func ask() { life.withLock { $0.isStopped = true } }

  func awaitRest(until deadline: ContinuousClock.Instant) throws(ServiceError) {
    let state = interface.withLock { $0 }
    if state.isCut {
      throw ServiceError(.conflict, "port '\(request.name)' is cut off as part of a loop")
    }
    if state.condition == .gone {
      throw ServiceError(.conflict, "port '\(request.name)' has lost its interface")
    }
  }

  func hold(receiveqs: Bool) {
    let indices = queues.filter { ($0 % 2 == 0) == receiveqs }
    _ = parent.dataplane.stopQueues(indices, of: number)
  }

  func letGo(receiveqs: Bool) {
    do {
      try startQueues(receiveqs: receiveqs)
    } catch {
      parent.logger.error("port '\(request.name)' can't go on: \(error)")
    }
    if interface.withLock({ $0.isHeld }) { enable(false) }
  }

  func fill(_ handed: inout HandedPort, _ descriptors: inout HandedDescriptors) throws {
    let device = device.withLock { $0 }
    guard let tap = device.tap else { return }
    handed.faults = [QueueFault.deviceGone.name: interface.withLock { $0.losses }]
    handed.device = .init(
      name: tap.name, queues: tap.queues.map { descriptors.add($0) }, made: device.made,
      segmentsDatagrams: tap.segmentsDatagrams)
  }

  func release(isOver: Bool) {
    if !isOver { life.withLock { $0.isStopped = false } }
  }

  func own() {}

  func resume() throws {
    life.withLock { look(&$0) }
    if request.link == .down { hold { $0.isSetDown = true } }
  }

  // ---- Readings ----

  func snapshot(macs: [Int: Int]) -> Port {
    let state = interface.withLock { $0 }
    let request = request
    let isLost = state.condition == .gone
    var port = Port(
      name: request.name, kind: .tap, state: state.portState,
      explanation: state.explanation(mtu: request.mtu),
      faults: state.losses > 0 ? [QueueFault.deviceGone.name: state.losses] : [:], mtu: request.mtu,
      status: TapStatus(
        device: state.name, queues: pairs, made: device.withLock { $0.made },
        mtu: state.mtu))
    for index in queues {
      let counters = Counters(parent.dataplane.counters(port: number, queue: index) ?? .init())
      let isReceiveq = index % 2 == 0
      let worker = isReceiveq ? nil : workers.withLock { $0[index / 2] }
      port.add(
        Queue(
          index: index, direction: isReceiveq ? .receiveq : .transmitq,
          state: isLost ? .broken : state.isHeld ? .disabled : .running,
          worker: worker, workerNode: worker.map(parent.node(ofWorker:)), counters: counters))
    }
    port.macs = macs[number] ?? 0
    let addresses = parent.dataplane.learning(port: number)
    port.macLimit = addresses.limit
    port.learning = LearningCounters(addresses.counts)
    return port
  }
}
