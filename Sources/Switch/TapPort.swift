internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging
internal import Synchronization

/// An uplink: a TAP device of the host, each of its queues polled by one worker.
final class TapPort: SwitchPort {
  let request: PortRequest
  let number: Int
  let device: TapDevice
  private let workers: [Int]
  private unowned let parent: Switch

  init(_ request: PortRequest, _ tap: TapRequest, in parent: Switch) throws {
    self.request = request
    self.parent = parent
    device = try TapDevice(name: tap.device, queues: tap.queues ?? 1, mtu: request.mtu)
    // The kernel's memory has no node of its own to be near to.
    let count = device.queues.count
    workers = parent.placement.withLock { placement in
      (0..<count).map { _ in placement.place(node: nil) }
    }
    do {
      number = try parent.dataplane.addPort(
        tap: device.queues, headerSize: TapDevice.headerSize, workers: workers)
    } catch {
      parent.release(workers)
      throw error
    }
    if let mtu = request.mtu { parent.dataplane.setMTU(mtu, port: number) }
  }

  var polled: [(queue: Int, worker: Int)] {
    workers.enumerated().map { (2 * $0.offset + 1, $0.element) }
  }

  func start() {}

  func stop() {
    parent.dataplane.removePort(number)
    parent.release(workers)
  }

  /// Which queues have already been found without their interface.
  private let gone = Mutex<Set<Int>>([])

  private var isGone: Bool { gone.withLock { !$0.isEmpty } }

  func inspect() {
    for pair in workers.indices {
      guard parent.dataplane.counters(port: number, queue: 2 * pair + 1)?.fault != nil,
        gone.withLock({ $0.insert(pair).inserted })
      else { continue }
      parent.dataplane.unwatchTap(pair, of: number)
      if pair == 0 {
        parent.logger.error("port '\(request.name)': the interface \(device.name) was deleted")
      }
    }
  }

  func snapshot() -> Port {
    let lost = isGone
    var port = Port(
      name: request.name, kind: .tap, state: lost ? .broken : .running,
      explanation: lost
        ? "the interface \(device.name) was deleted; remove this port and add it again"
        : "carries frames to and from the interface \(device.name)", mtu: request.mtu,
      tap: TapStatus(device: device.name, queues: device.queues.count, made: device.made))
    for index in 0..<(2 * device.queues.count) {
      let counters = Counters(parent.dataplane.counters(port: number, queue: index) ?? .init())
      let isReceiveq = index % 2 == 0
      let worker = isReceiveq ? nil : workers[index / 2]
      port.add(
        Queue(
          index: index, direction: isReceiveq ? .receiveq : .transmitq,
          state: lost ? .broken : .running,
          worker: worker, workerNode: worker.map(parent.node(ofWorker:)), counters: counters))
    }
    port.macs = parent.addressCount(of: number)
    return port
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
  func node(ofWorker worker: Int) -> Int {
    configuration.topology.node(ofCPU: configuration.cpus[worker])
  }

  func release(_ workers: [Int]) {
    placement.withLock { placement in
      for worker in workers { placement.release(worker) }
    }
  }

  func addressCount(of port: Int) -> Int {
    dataplane.addresses().count { $0.port == port }
  }
}
