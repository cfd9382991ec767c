internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging

extension TapRequest: PortMaker {
  func makePort(_ request: PortRequest, in parent: Switch, aside: Bool) throws -> any SwitchPort {
    try TapPort(request, self, in: parent)
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
  let name: String
  private let queueCount: Int
  private let made: Bool
  /// The one reference to the device's descriptors here, so that they close when the port stops, whoever
  /// still holds the port for a reading.
  private let device: Lock<TapDevice?>
  private let workers: [Int]
  private unowned let parent: Switch

  init(_ request: PortRequest, _ tap: TapRequest, in parent: Switch) throws {
    requested = Lock(request)
    self.parent = parent
    let device = try TapDevice(name: tap.device, queues: tap.queues ?? 1, mtu: request.mtu)
    name = device.name
    queueCount = device.queues.count
    made = device.made
    self.device = Lock(device)
    // The kernel's memory has no node of its own to be near to.
    let count = device.queues.count
    workers = parent.placement.withLock { placement in
      (0..<count).map { _ in placement.place(node: nil) }
    }
    do {
      number = try parent.dataplane.addPort(
        pairs: count, addresses: request.macs, isUplink: true)
    } catch {
      parent.release(workers)
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
        if let mtu = next.mtu ?? (made ? TapDevice.standardMTU : nil) {
          try TapDevice.setMTU(mtu, of: name)
        }
      } catch {
        try? parent.dataplane.setAddressLimit(old.macs, port: number)
        throw error
      }
      parent.dataplane.setMTU(next.mtu, port: number)
    }
    requested.withLock { $0 = next }
  }

  var polled: [(queue: Int, worker: Int)] {
    workers.enumerated().map { (2 * $0.offset + 1, $0.element) }
  }

  func start() throws {
    let starts = device.withLock { device in
      (device?.queues ?? []).enumerated().flatMap { pair, descriptor in
        let setup = QueueSetup.tap(
          TapSetup(
            descriptor: descriptor, headerSize: TapDevice.headerSize,
            offloads: device?.segmentsDatagrams == true ? .all : .tcp))
        return [0, 1].map { QueueStart(2 * pair + $0, setup, worker: workers[pair]) }
      }
    }
    for case let error? in parent.dataplane.startQueues(starts, of: number) { throw error }
  }

  func stop() {
    parent.dataplane.removePort(number)
    // The last references are the queues' and this one.
    device.withLock { $0 = nil }
    parent.release(workers)
  }

  /// Which queues have already been found without their interface.
  private let gone = Lock<Set<Int>>([])

  private var isGone: Bool { gone.withLock { !$0.isEmpty } }

  func inspect() {
    for pair in workers.indices {
      guard parent.dataplane.counters(port: number, queue: 2 * pair + 1)?.fault != nil,
        gone.withLock({ $0.insert(pair).inserted })
      else { continue }
      parent.dataplane.stopWaiting(queue: 2 * pair + 1, of: number)
      if pair == 0 {
        parent.logger.error("port '\(request.name)': the interface \(name) was deleted")
      }
    }
  }

  func snapshot(macs: [Int: Int]) -> Port {
    let lost = isGone
    var port = Port(
      name: request.name, kind: .tap, state: lost ? .broken : .running,
      explanation: lost
        ? "the interface \(name) was deleted; remove this port and add it again"
        : "carries frames to and from the interface \(name)",
      faults: lost ? [QueueFault.deviceGone.name: 1] : [:], mtu: request.mtu,
      status: TapStatus(device: name, queues: queueCount, made: made))
    for index in 0..<(2 * queueCount) {
      let counters = Counters(parent.dataplane.counters(port: number, queue: index) ?? .init())
      let isReceiveq = index % 2 == 0
      let worker = isReceiveq ? nil : workers[index / 2]
      port.add(
        Queue(
          index: index, direction: isReceiveq ? .receiveq : .transmitq,
          state: lost ? .broken : .running,
          worker: worker, workerNode: worker.map(parent.node(ofWorker:)), counters: counters))
    }
    port.macs = macs[number] ?? 0
    let addresses = parent.dataplane.learning(port: number)
    port.macLimit = addresses.limit
    port.learning = LearningCounters(addresses.counts)
    return port
  }
}
