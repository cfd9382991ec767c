import Configuration
import Control
import ControlAPI
import Linux
import Logging
import Switch

/// The running daemon: the switch, the control servers, and the configuration they were made from.
final class Daemon: Sendable {
  private let file: String?
  let logger: Logger
  let readiness = Readiness()
  let network: Switch
  private let confinement: Confinement
  /// What the ports of the file and those of the control interface go through.
  let service: ConfinedSwitch
  let servers: [ControlServer]
  /// Where another daemon takes over from this one.
  let successors = Lock<TakeOverServer?>(nil)
  private let watchdog: Watchdog?
  /// In force; `reload` replaces its ports. Held while one is under way.
  private let settings: Lock<Configuration>
  private let cpus: [Int]

  /// Starts everything, or nothing: what was made until the first failure is removed again.
  ///
  /// - Parameters:
  ///   - file: the configuration file, for `reload`; `nil`: the embedded default.
  ///   - cpus: those this process may use.
  ///   - takesOver: goes on where another is, which runs.
  init(
    _ settings: Configuration, file: String?, cpus: [Int], log: DaemonLog, takesOver: Bool = false
  ) throws {
    self.settings = Lock(settings)
    self.file = file
    self.cpus = cpus
    let logger = log.logger
    self.logger = logger
    try Daemon.check(settings, cpus: cpus)
    OpenFiles.raiseLimit()
    // While it is root, as the other may have been started by it.
    let heir = takesOver ? try TakeOver(settings, logger: logger) : nil
    var state: StateFile?
    confinement = try Confinement(settings, file: file, logger: logger, clears: heir == nil) {
      state = try heir?.state(settings) ?? Daemon.state(settings, logger: logger)
    }
    let predecessor = heir == nil ? Daemon.predecessor(state, logger: logger) : nil
    let workers = Daemon.workers(
      settings, heir?.saved ?? predecessor, cpus: cpus, logger: logger)
    // Threads inherit their CPUs: control stays off the workers', where there are others.
    let others = cpus.filter { !workers.contains($0) }
    if others.isEmpty {
      logger.notice("the workers have all CPUs of this process; control shares them")
    } else {
      try Affinity.confine(to: others)
    }
    network = try Switch(
      Switch.Configuration(
        cpus: workers, busy: settings.workers.poll == .busy,
        macEntries: settings.macTable.entries, macAge: Double(settings.macTable.age),
        macsPerPort: settings.macTable.perPort, memoryPerPort: settings.guestMemory.perPort,
        regionsPerPort: settings.guestMemory.regions, memoryOnDisks: settings.guestMemory.onDisks,
        cutsLoops: settings.macTable.loops == .cut, balances: settings.workers.rebalance == .auto,
        usableCPUs: cpus),
      logger: logger, state: state, predecessor: predecessor)
    let service = ConfinedSwitch(network: network, confinement: confinement, log: log)
    self.service = service
    let main = ControlServer(socket: settings.control, service: service, logger: logger)
    let reader = settings.reader.map {
      ControlServer(socket: $0, service: service, logger: logger, readOnly: true)
    }
    servers = [main] + (reader.map { [$0] } ?? [])
    let network = network
    watchdog = try Watchdog(readiness, logger: logger) { network.pulse() }
    do {
      if let heir {
        try take(heir, settings)
      } else {
        for port in settings.ports { try waitingForPlaces { try add(port) } }
        if let predecessor { resume(predecessor, settings.ports) }
        for server in servers { try waitingForPlaces { try wait { try await server.start() } } }
        awaitSuccessors(settings)
      }
    } catch {
      watchdog?.stop()
      for server in servers { try? wait { await server.stop() } }
      network.stop()
      throw error
    }
    logger.info(
      "swivel \(swivelVersion) serves \(network.requests.count) ports; control socket \(settings.control.path)"
    )
    network.keepState(file: settings.ports, cpus: settings.workers.cpus)
    service.reloading.withLock { reloading in
      reloading = { [weak self] () throws(ServiceError) in
        guard let self else { throw ServiceError(.exhausted, "the daemon ends") }
        return try self.reload()
      }
    }
    readiness.ready("serves \(network.requests.count) ports")
  }

  /// Finds what the machine would refuse, as far as it can be known without trying: CPUs, users, groups,
  /// places of sockets, interfaces that are no TAPs, the daemon's own user.
  static func check(_ settings: Configuration, cpus: [Int]) throws(ServiceError) {
    if let cpu = settings.workers.cpus.first(where: { !cpus.contains($0) }) {
      let usable = cpus.map(String.init).joined(separator: ", ")
      throw ServiceError(
        .refused, "workers.cpus: CPU \(cpu) is not among those this process may use: \(usable)")
    }
    try Confinement.check(settings.security)
    for socket in settings.controlSockets {
      do {
        try socket.check()
      } catch {
        throw ServiceError(.refused, "the control socket: \(error)")
      }
    }
    if settings.ports.count > Switch.maximumPorts {
      throw ServiceError(
        .refused,
        "there are \(settings.ports.count) ports; a switch has \(Switch.maximumPorts) at most")
    }
    try checkPlaces(settings)
    for port in settings.ports { try Switch.check(port) }
  }

  /// Finds sockets that are one file, written in two ways.
  private static func checkPlaces(_ settings: Configuration) throws(ServiceError) {
    var taken: [String: String] = [:]
    let sockets =
      settings.controlSockets.map { ("the control socket", $0.path) }
      + settings.ports.compactMap { port in port.socket.map { ("port '\(port.name)'", $0.path) } }
    for (who, path) in sockets {
      if let first = taken.updateValue(who, forKey: Directory.place(path)) {
        throw ServiceError(
          .conflict, "\(who): \(path) is the socket of \(first) by another way to its directory")
      }
    }
  }

  func add(_ port: PortRequest) throws {
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
    watchdog?.stop()
    successors.withLock { $0 }?.stop()
    for server in servers { try? wait { await server.stop() } }
    network.stop()
    logger.info("stopped")
  }

  // ---- Reload ----

  /// Reads the configuration again and makes the ports what it says. If anything is wrong with it, or a
  /// port can't be made, the running configuration stays in force, and this throws.
  @discardableResult
  func reload() throws(ServiceError) -> ReloadReport {
    guard let file else {
      logger.warning("reload: there is no configuration file")
      throw ServiceError(
        .conflict, "there is no configuration file: the daemon was started without --config")
    }
    // One at a time, whoever asks.
    let result = settings.withLock { settings in
      readiness.reloading()
      let result = Result<ReloadReport, ServiceError> { () throws(ServiceError) in
        let next = try read(file)
        try refuseFixed(next, settings)
        // Ports and workers that came by the control interface are not the file's, and stay.
        var (report, workers) = try network.replaceWorkers(
          next.workers.cpus, owned: Set(settings.workers.cpus)
        ) { () throws(ServiceError) in
          try service.replacePorts(next.ports, owned: Set(settings.ports.map(\.name)))
        }
        report.workers = workers
        settings = next
        network.keepState(file: next.ports, cpus: next.workers.cpus)
        return report
      }
      switch result {
      case .success(let report):
        logger.info("reloaded \(file): \(network.requests.count) ports; \(report.description)")
      case .failure(let error):
        logger.error("reload failed, the running configuration stays in force: \(error)")
      }
      readiness.ready("serves \(network.requests.count) ports")
      return result
    }
    return try result.get()
  }

  private func read(_ file: String) throws(ServiceError) -> Configuration {
    do {
      return try Configuration.load(path: file, cpu: cpus.last ?? 0)
    } catch {
      let why = confinement.loss(of: file).map { "; \($0)" } ?? ""
      throw ServiceError(.refused, "\(error)\(why)")
    }
  }

  /// Refuses what can't change. What is in force counts, not how it is written.
  private func refuseFixed(_ next: Configuration, _ now: Configuration) throws(ServiceError) {
    var fixed: [String] = []
    if next.workers.poll != now.workers.poll { fixed.append("workers.poll") }
    if next.workers.rebalance != now.workers.rebalance { fixed.append("workers.rebalance") }
    let isSame =
      next.controlSockets.map { $0.spelledOut() } == now.controlSockets.map { $0.spelledOut() }
    if !isSame { fixed.append("control") }
    if next.macTable != now.macTable { fixed.append("mac-table") }
    if next.guestMemory != now.guestMemory { fixed.append("guest-memory") }
    if next.statePath.map(Directory.place) != now.statePath.map(Directory.place) {
      fixed.append("state")
    }
    if !confinement.isSame(next.security, now.security) { fixed.append("security") }
    if fixed.isEmpty { return }
    throw ServiceError(
      .refused, "\(fixed.joined(separator: ", ")) can't change while the daemon runs; restart it")
  }

  /// Waits on this thread, which is none of the concurrency pool's, for something asynchronous.
  func wait(for body: @escaping @Sendable () async throws -> Void) throws {
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
