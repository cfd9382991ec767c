internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging
internal import SystemPackage

extension TapRequest: PortMaker {
  func makePort(_ request: PortRequest, in parent: Switch, aside: Bool) throws -> any SwitchPort {
    try TapPort(request, self, in: parent)
  }

  func takePort(
    _ handed: HandedPort, _ descriptors: HandedDescriptors, in parent: Switch
  ) throws -> any SwitchPort {
    guard let device = handed.device else {
      throw SystemError("take an uplink", errno: .noSuchFileOrDirectory)
    }
    return try TapPort(
      handed.request, self, in: parent,
      device: TapDevice(
        taking: try device.queues.map { try descriptors.at($0) }, name: device.name,
        made: device.made, segmentsDatagrams: device.segmentsDatagrams))
  }

  func check() throws { try TapDevice.check(name: device) }

  /// A device has the queues of one port.
  var canBePrepared: Bool { false }

  func spelledOut(_ configuration: Switch.Configuration) -> any Attachment {
    TapRequest(device: device, queues: queues ?? 1)
  }

  var foundation: any Attachment { self }

  func standardMACs(_ configuration: Switch.Configuration) -> Int? { nil }
}

/// An uplink: a TAP device of the host, each of its queues polled by one worker.
final class TapPort: SwitchPort {
  private let requested: Lock<PortRequest>
  let number: Int
  private let device: Lock<Holding>
  private let workers: Lock<[Int]>
  private unowned let parent: Switch
  /// What was last seen of the interface.
  private let interface: Lock<InterfaceState>

  /// Held while the port changes with its interface. On no account does that go on behind the port's end: its number may be another's
  /// then.
  private let life = Lock(Life())

  private struct Life {
    var isStopped = false
    /// Queues that nobody waits for any more, as the interface was deleted.
    var silent: Set<Int> = []
    /// Whether what was learned is to be forgotten once more: workers may have had frames in hand.
    var flushes = false
    /// When to look again at an interface that can't be watched, as it is elsewhere.
    var nextLook = ContinuousClock.now
  }

  /// The one reference to the device's descriptors here, so that they close when the port stops, whoever
  /// still holds the port for a reading.
  private struct Holding {
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
        if let mtu = next.mtu ?? (made ? TapDevice.standardMTU : nil) {
          try TapDevice.setMTU(mtu, of: interface.withLock { $0.name })
        }
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

  var polled: [(queue: Int, worker: Int)] {
    workers.withLock { $0.enumerated().map { (2 * $0.offset + 1, $0.element) } }
  }

  private var pairs: Int { workers.withLock { $0.count } }
  private var queues: Range<Int> { 0..<(2 * pairs) }

  func start() throws {
    try life.withLock { life in
      try startQueues()
      look(&life)
    }
    if request.link == .down { hold { $0.isSetDown = true } }
  }

  /// - Parameter only: the receiveqs alone, or the transmitqs; `nil`: all.
  private func startQueues(receiveqs only: Bool? = nil) throws {
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
      if life.isStopped || device.withLock({ $0.tap }) == nil { return }
      hold(receiveqs: false)
      let (old, new) = workers.withLock { workers in
        let old = workers
        for (queue, worker) in moved { workers[queue / 2] = worker }
        return (old, workers)
      }
      parent.placement.withLock { placement in
        for (from, to) in zip(old, new) where from != to { placement.move(from, to) }
      }
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

  // ---- What becomes of the interface ----

  func inspect() {
    life.withLock { life in
      if life.isStopped { return }
      let state = interface.withLock { $0 }
      if life.flushes {
        life.flushes = false
        if !state.carries { parent.dataplane.flush(port: number) }
      }
      // Workers find it out as well, when they read: a deleted interface's queues would ring for ever.
      for queue in polled.map(\.queue)
      where parent.dataplane.fault(port: number, queue: queue) != nil {
        guard life.silent.insert(queue).inserted else { continue }
        parent.dataplane.stopWaiting(queue: queue, of: number)
        if state.condition != .gone { look(&life) }
      }
      guard case .elsewhere(let isUp) = state.condition else { return }
      // Nobody tells of it. Whether it is up costs little to ask, and its name a lock of the kernel's.
      let now = ContinuousClock.now
      if now < life.nextLook, device.withLock({ $0.tap?.isUp }) == isUp { return }
      life.nextLook = now + .seconds(1)
      look(&life)
    }
  }

  func inspectLink() {
    life.withLock { life in
      if life.isStopped { return }
      if interface.withLock({ $0.condition }) == .gone {
        do {
          _ = try attachAgain(making: false, &life)
        } catch {
          if parent.allowsLine("\(request.name) \(error)") {
            parent.logger.warning("port '\(request.name)' can't have its interface back: \(error)")
          }
        }
      } else {
        look(&life)
      }
    }
  }

  func heal() throws -> Bool {
    try life.withLock { life in
      if life.isStopped || interface.withLock({ $0.condition }) != .gone { return false }
      return try attachAgain(making: true, &life)
    }
  }

  /// Attaches to an interface of the name that was asked for, after the old one was deleted.
  ///
  /// - Parameter making: whether one is made where there is none.
  private func attachAgain(making: Bool, _ life: inout Life) throws -> Bool {
    guard let tap = request.tap else { return false }
    if !making, try LinkState.named(tap.device) == nil { return false }
    let next = try TapDevice(name: tap.device, queues: pairs, mtu: request.mtu)
    // It went at this very moment.
    if next.made, !making { return false }
    _ = parent.dataplane.stopQueues(Array(queues), of: number)
    life.silent = []
    device.withLock { $0 = Holding(tap: next, made: next.made) }
    try startQueues()
    // Until it has been looked at: then floods begin again.
    interface.withLock { state in
      state.name = next.name
      state.condition = .down
    }
    if interface.withLock({ $0.isHeld }) { enable(false) }
    look(&life)
    return true
  }

  /// Finds out what has become of the interface, and has frames go there or not.
  private func look(_ life: inout Life) {
    guard let device = device.withLock({ $0.tap }), let presence = device.presence else { return }
    let old = interface.withLock { $0 }
    var new = old
    switch presence {
    case .here(let name, let link):
      new.name = name
      new.mtu = link.mtu
      new.condition = link.isUp ? link.hasCarrier ? .up : .noCarrier : .down
      new.whyDown = link.isUp ? nil : device.whyDown.map { "\($0)" }
    case .elsewhere(let name, let isUp):
      new.name = name
      new.mtu = nil
      new.condition = .elsewhere(isUp: isUp)
    case .gone: new.condition = .gone
    }
    take(new, after: old, &life)
  }

  private func take(_ new: InterfaceState, after old: InterfaceState, _ life: inout Life) {
    if new == old { return }
    var new = new
    if new.condition == .gone, old.condition != .gone { new.losses += 1 }
    interface.withLock { [new] in $0 = new }
    if new.carries != old.carries {
      parent.dataplane.setFloods(new.carries, port: number)
      if !new.carries {
        // What is known of it leads nowhere now, and may be reached in another way.
        parent.dataplane.flush(port: number)
        life.flushes = true
      }
    }
    let sentence = "port '\(request.name)': \(new.explanation(mtu: request.mtu))"
    if new.carries {
      parent.logger.info("\(sentence)")
    } else if parent.allowsLine(sentence) {
      parent.logger.warning("\(sentence)")
    }
  }

  var canBeCut: Bool { true }

  func cut(_ isCut: Bool) { hold { $0.isCut = isCut } }

  /// Changes what keeps frames from passing, whatever the interface is.
  private func hold(_ change: (inout InterfaceState) -> Void) {
    life.withLock { life in
      let old = interface.withLock { $0 }
      var new = old
      change(&new)
      if life.isStopped || new == old { return }
      enable(!new.isHeld)
      take(new, after: old, &life)
    }
  }

  private func enable(_ isEnabled: Bool) {
    for queue in queues { parent.dataplane.setEnabled(isEnabled, queue: queue, of: number) }
  }

  var alsoClaimed: [Claim] {
    let state = interface.withLock { $0 }
    // The name of one in another network namespace is free here.
    if case .elsewhere = state.condition { return [] }
    return TapRequest(device: state.name).claims
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
