import ControlAPI
import Foundation
import Linux

/// A switch that carries no frames: fixed figures, and ports that can be added and removed.
final class FakeService: SwitchService {
  private let list: Lock<[ControlAPI.Port]>
  /// Seconds that every call takes.
  private let delay: Double
  private let calls = Lock((current: 0, most: 0))

  init(ports: [ControlAPI.Port] = FakeService.everything, delay: Double = 0) {
    list = Lock(ports)
    self.delay = delay
  }

  /// The largest number of calls that were under way at once.
  var mostCallsAtOnce: Int { calls.withLock { $0.most } }

  private func pass() {
    calls.withLock {
      $0.current += 1
      $0.most = max($0.most, $0.current)
    }
    if delay > 0 { Foundation.Thread.sleep(forTimeInterval: delay) }
    calls.withLock { $0.current -= 1 }
  }

  func ports() -> [ControlAPI.Port] {
    pass()
    return list.withLock { $0 }
  }

  func port(named name: String) -> ControlAPI.Port? {
    pass()
    return list.withLock { $0.first { $0.name == name } }
  }

  func addPort(_ request: PortRequest) throws(ServiceError) -> ControlAPI.Port {
    pass()
    if let kind = ServiceError.Kind(rawValue: request.name) { throw ServiceError(kind, "so it is") }
    if request.name == "broken" {
      throw ServiceError(.failed, "open /dev/net/tun: Operation not permitted")
    }
    let port = ControlAPI.Port(
      name: request.name, kind: request.tap == nil ? .vhostUser : .tap, state: .waiting,
      explanation: "waits")
    let added = list.withLock { list in
      if list.contains(where: { $0.name == request.name }) { return false }
      list.append(port)
      return true
    }
    if !added { throw ServiceError(.conflict, "there is a port '\(request.name)' already") }
    return port
  }

  func changePort(named name: String, _ change: PortChange) throws(ServiceError) -> ControlAPI.Port
  {
    pass()
    let changed = list.withLock { list -> ControlAPI.Port? in
      guard let place = list.firstIndex(where: { $0.name == name }) else { return nil }
      if let mtu = change.mtu { list[place].mtu = mtu.value }
      if let macs = change.macs { list[place].macLimit = macs.value }
      return list[place]
    }
    guard let changed else { throw ServiceError(.notFound, "there is no port '\(name)'") }
    return changed
  }

  func removePort(named name: String) throws(ServiceError) {
    pass()
    let removed = list.withLock { list in
      let count = list.count
      list.removeAll { $0.name == name }
      return list.count < count
    }
    if !removed { throw ServiceError(.notFound, "there is no port '\(name)'") }
  }

  func macs() -> [MACEntry] {
    [
      MACEntry(mac: "52:54:00:12:34:56", port: "vm1", age: 3),
      MACEntry(mac: "52:54:00:12:34:57", port: "uplink", age: 0, pinned: true),
    ]
  }

  func addMAC(_ mac: String, port: String) throws(ServiceError) -> MACEntry {
    if addressBytes(mac) == nil { throw ServiceError(.invalid, "no address") }
    if self.port(named: port) == nil { throw ServiceError(.notFound, "there is no port '\(port)'") }
    return MACEntry(mac: mac, port: port, age: 0, pinned: true)
  }

  func removeMAC(_ mac: String) throws(ServiceError) {
    if !macs().contains(where: { $0.mac == mac }) {
      throw ServiceError(.notFound, "the address \(mac) is not known")
    }
  }

  func flushMACs(port: String?) throws(ServiceError) {
    if let port, self.port(named: port) == nil {
      throw ServiceError(.notFound, "there is no port '\(port)'")
    }
  }

  /// What `health` says.
  let condition = Lock(Health(healthy: true, problems: [], ports: ["running": 2, "waiting": 1]))
  func health() -> Health { condition.withLock { $0 } }

  func addWorker(_ request: WorkerRequest) throws(ServiceError) -> Worker {
    pass()
    if request.cpu == 2 { throw ServiceError(.conflict, "worker 0 runs on CPU 2 already") }
    if request.cpu == 99 { throw ServiceError(.refused, "CPU 99 is not there") }
    return Worker(id: 1, cpu: request.cpu, node: 0, state: "sleeping")
  }

  func removeWorker(_ number: Int) throws(ServiceError) {
    pass()
    if number > 1 { throw ServiceError(.notFound, "there is no worker \(number)") }
    if number == 1 { throw ServiceError(.conflict, "worker 1 is the last one") }
  }

  func rebalance() throws(ServiceError) -> BalanceReport {
    pass()
    return BalanceReport(moves: [.init(port: "vm1", queue: 1, from: 0, to: 1)])
  }

  func reload() throws(ServiceError) -> ReloadReport {
    ReloadReport(
      added: ["a"], removed: ["r"], replaced: ["n"], changed: ["c"], unchanged: 3)
  }

  private let level = Lock(LogLevel.info)
  func logStatus() -> LogStatus { LogStatus(level: level.withLock { $0 }, droppedLines: 5) }
  func setLogLevel(_ new: LogLevel) { level.withLock { $0 = new } }

  func workers() -> [Worker] {
    [
      Worker(
        id: 0, cpu: 2, node: 0, state: "sleeping", turns: 900, busyTurns: 40, sleeps: 7,
        memory: "2 MiB hugepages", queues: ["vm1/1"])
    ]
  }

  func stats() -> Stats {
    Stats(
      version: "9.9.9", uptime: 12.5,
      received: Counters(frames: 10, bytes: 1000, replicas: 2, drops: ["noBuffer": 1]),
      sent: Counters(frames: 11, bytes: 1100),
      macTable: MACTableStats(
        capacity: 64, entries: 1, learned: 4, moved: 1, limited: 6, evicted: 0, deferred: 7, aged: 2
      ),
      ports: [
        PortStats(name: "vm1", state: .running, received: Counters(frames: 10), sent: Counters())
      ],
      security: SecurityStatus(
        user: "swivel (999)", capabilities: ["net-admin"], seccomp: true, landlock: 7,
        directories: ["/run/swivel"]), log: LogStatus(level: .info, droppedLines: 5))
  }

  /// Ports with every member that a port can have, and one with none that it need not.
  static let everything = [
    ControlAPI.Port(
      name: "vm1", kind: .vhostUser, state: .running, explanation: "carries frames",
      lastError: "the front-end went away",
      faults: ["refused_request": 1, "avail_index_jump": 2], mtu: 1500, guestNode: 0, macs: 1,
      macLimit: 1024,
      learning: LearningCounters(learned: 5, moved: 1, limited: 3, evicted: 2, deferred: 9),
      status: VhostUserStatus(
        path: "/run/swivel/vm1.sock", mode: .server, queuePairs: 1, frontEndPID: 77,
        connections: 2, features: ["VIRTIO_F_VERSION_1"], protocolFeatures: ["MQ"],
        deviceStatus: ["DRIVER_OK"],
        memoryRegions: [
          MemoryRegion(guestAddress: 1 << 32, size: 1 << 30, pageSize: 2 << 20, node: 0)
        ], memoryLimit: 1 << 40, regionLimit: 64, offloads: ["csum", "guest-csum"],
        iotlb: IOTLBStatus(
          entries: 5, updates: 9, invalidations: 2, misses: 12, waitingRings: [1])),
      received: Counters(
        frames: 10, bytes: 1000, bursts: 4, notifications: 0, replicas: 2,
        drops: ["noBuffer": 1, "badHeader": 2]),
      sent: Counters(frames: 11, bytes: 1100, bursts: 5, notifications: 6),
      queues: [
        Queue(
          index: 0, direction: .receiveq, state: .running, size: 256,
          counters: Counters(frames: 11, bytes: 1100, bursts: 5, notifications: 6)),
        Queue(
          index: 1, direction: .transmitq, state: .broken, size: 256, worker: 0, workerNode: 0,
          error: "descriptor 9 of 8",
          counters: Counters(
            frames: 10, bytes: 1000, bursts: 4, replicas: 2,
            drops: ["noBuffer": 1, "badHeader": 2])),
      ]),
    ControlAPI.Port(
      name: "uplink", kind: .tap, state: .running, explanation: "carries frames",
      status: TapStatus(device: "swivel0", queues: 1, made: true)),
    ControlAPI.Port(name: "vm2", kind: .vhostUser, state: .waiting, explanation: "waits"),
  ]
}
