import Configuration
import Control
import ControlAPI
import Linux
import Logging
import Switch

/// The running daemon: the switch, the control server, and the configuration they were made from.
final class Daemon {
  private let file: String?
  private let logger: Logger
  private let readiness = Readiness()
  private let network: Switch
  private let confinement: Confinement
  /// What the ports of the file and those of the control interface go through.
  private let service: ConfinedSwitch
  private let server: ControlServer
  /// In force; `reload` replaces its ports.
  private var settings: Configuration
  private let cpus: [Int]

  /// Starts everything, or nothing: what was made until the first failure is removed again.
  ///
  /// - Parameters:
  ///   - file: the configuration file, for `reload`; `nil`: the embedded default.
  ///   - cpus: those this process may use.
  init(_ settings: Configuration, file: String?, cpus: [Int], logger: Logger) throws {
    self.settings = settings
    self.file = file
    self.cpus = cpus
    self.logger = logger
    try Daemon.check(settings, cpus: cpus)
    OpenFiles.raiseLimit()
    confinement = try Confinement(settings, file: file, logger: logger)
    // Threads inherit their CPUs: control stays off the workers', where there are others.
    let others = cpus.filter { !settings.workers.cpus.contains($0) }
    if others.isEmpty {
      logger.notice("the workers have all CPUs of this process; control shares them")
    } else {
      try Affinity.confine(to: others)
    }
    network = try Switch(
      Switch.Configuration(
        cpus: settings.workers.cpus, busy: settings.workers.poll == .busy,
        macEntries: settings.macTable.entries, macAge: Double(settings.macTable.age),
        macsPerPort: settings.macTable.perPort, memoryPerPort: settings.guestMemory.perPort,
        regionsPerPort: settings.guestMemory.regions, memoryOnDisks: settings.guestMemory.onDisks),
      logger: logger)
    service = ConfinedSwitch(network: network, confinement: confinement)
    server = ControlServer(socket: settings.control, service: service, logger: logger)
    do {
      for port in settings.ports { try add(port) }
      try wait { [server] in try await server.start() }
    } catch {
      network.stop()
      throw error
    }
    logger.info(
      "swivel \(swivelVersion) serves \(network.requests.count) ports; control socket \(settings.control.path)"
    )
    readiness.ready("serves \(network.requests.count) ports")
  }

  /// Finds what the machine would refuse, as far as it can be known without trying: CPUs, users, groups,
  /// places of sockets, the daemon's own user.
  static func check(_ settings: Configuration, cpus: [Int]) throws(ServiceError) {
    if let cpu = settings.workers.cpus.first(where: { !cpus.contains($0) }) {
      let usable = cpus.map(String.init).joined(separator: ", ")
      throw ServiceError(
        .invalid, "workers.cpus: CPU \(cpu) is not among those this process may use: \(usable)")
    }
    try Confinement.check(settings.security)
    for port in settings.ports { try Switch.check(port) }
  }

  private func add(_ port: PortRequest) throws {
    do {
      _ = try service.addPort(port)
    } catch {
      // The embedded default has an uplink where it may; a configuration file means what it says.
      guard file == nil, !port.needs.capabilities.isEmpty else { throw error }
      logger.notice("no uplink: \(error)")
    }
  }

  /// Ends the daemon's work and removes what it made.
  func stop() {
    readiness.stopping()
    try? wait { [server] in await server.stop() }
    network.stop()
    logger.info("stopped")
  }

  // ---- Reload ----

  /// Reads the configuration again and makes the ports what it says. If anything is wrong with it, or a
  /// port can't be made, the running configuration stays in force.
  func reload() {
    guard let file else {
      logger.warning("reload: there is no configuration file")
      return
    }
    readiness.reloading()
    do {
      let next = try Configuration.load(path: file, cpu: cpus.last ?? 0)
      try refuseFixed(next)
      try change(to: next.ports)
      settings = next
      logger.info("reloaded \(file): \(network.requests.count) ports")
    } catch {
      logger.error("reload failed, the running configuration stays in force: \(error)")
    }
    readiness.ready("serves \(network.requests.count) ports")
  }

  private func refuseFixed(_ next: Configuration) throws {
    var fixed: [String] = []
    if next.workers != settings.workers { fixed.append("workers") }
    if next.control != settings.control { fixed.append("control") }
    if next.macTable != settings.macTable { fixed.append("mac-table") }
    if next.guestMemory != settings.guestMemory { fixed.append("guest-memory") }
    if next.security != settings.security { fixed.append("security") }
    if fixed.isEmpty { return }
    throw ServiceError(
      .invalid, "\(fixed.joined(separator: ", ")) can't change while the daemon runs; restart it")
  }

  /// Removes and adds what differs, and undoes that if it does not work out. Ports that came by the control
  /// interface are not the file's, and stay.
  private func change(to ports: [PortRequest]) throws {
    let running = network.requests
    let leaving = settings.ports.filter { !ports.contains($0) && running.contains($0) }
    let coming = ports.filter { !running.contains($0) }
    // A port that is removed loses its guest, and putting it back does not bring the guest back: find out
    // first, and begin with what can be undone without a trace.
    for port in coming {
      try Switch.check(port)
      try confinement.check(port)
    }
    let replacing = coming.filter { port in leaving.contains { port.collides(with: $0) } }
    var removed: [PortRequest] = []
    var added: [PortRequest] = []
    do {
      for port in coming where !replacing.contains(port) {
        _ = try service.addPort(port)
        added.append(port)
      }
      for port in leaving {
        try network.removePort(named: port.name)
        removed.append(port)
      }
      for port in replacing {
        _ = try service.addPort(port)
        added.append(port)
      }
    } catch {
      for port in added { try? network.removePort(named: port.name) }
      for port in removed {
        do {
          _ = try service.addPort(port)
        } catch {
          logger.error("port '\(port.name)' could not be restored: \(error)")
        }
      }
      throw error
    }
  }

  /// Waits on this thread, which is none of the concurrency pool's, for something asynchronous.
  private func wait(for body: @escaping @Sendable () async throws -> Void) throws {
    let done = try EventFD()
    let outcome = Outcome()
    Task {
      do {
        try await body()
      } catch {
        outcome.error.withLock { $0 = error }
      }
      done.signal()
    }
    _ = try Poller.wait([(done.descriptor.raw, .read)])
    if let error = outcome.error.withLock({ $0 }) { throw error }
  }

  private final class Outcome: Sendable {
    let error = Lock<(any Error)?>(nil)
  }
}
