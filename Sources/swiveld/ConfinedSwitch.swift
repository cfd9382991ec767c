import ControlAPI
import Linux
import Switch

/// The switch as the control interface and the configuration see it: it knows what the daemon has given up, and asks the
/// daemon for what is not the switch's own.
struct ConfinedSwitch: SwitchService {
  let network: Switch
  let confinement: Confinement
  let log: DaemonLog
  /// How the daemon reads its configuration again; set once it can.
  let reloading = Lock<(@Sendable () throws(ServiceError) -> ReloadReport)?>(nil)

  func addPort(_ request: PortRequest) throws(ServiceError) -> Port {
    try request.validate()
    try confinement.check(request)
    do throws(ServiceError) {
      return explained(try network.addPort(request))
    } catch {
      throw blaming(error, for: request)
    }
  }

  /// The error with what the daemon lacks for the port, where it lacks something.
  private func blaming(_ error: ServiceError, for request: PortRequest) -> ServiceError {
    guard [.failed, .refused].contains(error.kind), let why = confinement.lack(of: request) else {
      return error
    }
    return ServiceError(.refused, "\(error.message); \(why)")
  }

  func changePort(named name: String, _ change: PortChange) throws(ServiceError) -> Port {
    if let request = network.requests.first(where: { $0.name == name }) {
      try confinement.check(try request.changed(by: change))
    }
    return explained(try network.changePort(named: name, change))
  }

  /// Makes the ports what the file says (`Switch.replacePorts`).
  func replacePorts(
    _ wanted: [PortRequest], owned: Set<String>
  ) throws(ServiceError) -> ReloadReport {
    try network.replacePorts(wanted, owned: owned) { request throws(ServiceError) in
      try confinement.check(request)
    }
  }

  func reload() throws(ServiceError) -> ReloadReport {
    guard let reload = reloading.withLock({ $0 }) else {
      throw ServiceError(.exhausted, "the daemon is still starting, or ends")
    }
    return try reload()
  }

  func stats() -> Stats {
    var stats = network.stats()
    stats.security = confinement.status
    stats.log = logStatus()
    return stats
  }

  func health() -> Health {
    var health = network.health()
    let dropped = log.dropped
    if dropped > 0 {
      health.problems.append("\(dropped) lines of the log were not written, as nobody read it")
    }
    return health
  }

  /// A port that waits for a front-end's socket says so where the daemon may not, or might not, connect to it.
  private func explained(_ port: Port) -> Port {
    guard port.state == .waiting, let path = port.connectsTo,
      let why = confinement.hindrance(to: path)
    else { return port }
    var port = port
    port.explanation += "; \(why.text)"
    return port
  }

  func logStatus() -> LogStatus { LogStatus(level: log.level, droppedLines: log.dropped) }
  func setLogLevel(_ level: LogLevel) { log.level = level }

  func ports() -> [Port] { network.ports().map(explained) }
  func port(named name: String) -> Port? { network.port(named: name).map(explained) }
  func removePort(named name: String) throws(ServiceError) { try network.removePort(named: name) }
  func macs() -> [MACEntry] { network.macs() }
  func addMAC(_ mac: String, port: String) throws(ServiceError) -> MACEntry {
    try network.addMAC(mac, port: port)
  }
  func removeMAC(_ mac: String) throws(ServiceError) { try network.removeMAC(mac) }
  func flushMACs(port: String?) throws(ServiceError) { try network.flushMACs(port: port) }
  func workers() -> [Worker] { network.workers() }
  func addWorker(_ request: WorkerRequest) throws(ServiceError) -> Worker {
    try network.addWorker(request)
  }
  func removeWorker(_ number: Int) throws(ServiceError) { try network.removeWorker(number) }
  func rebalance() throws(ServiceError) -> BalanceReport { network.rebalance() }
}
