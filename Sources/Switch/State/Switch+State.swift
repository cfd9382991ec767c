public import ControlAPI
internal import Dataplane
internal import Foundation
internal import Glibc
internal import Linux
internal import Logging
internal import VhostUser

/// What is left to a successor, and taken over from a predecessor.
extension Switch {
  /// When the state was written, and what would make it another.
  struct Saving {
    /// Saving has begun, and has not ended.
    var isOn = false
    /// Ports or front-ends have changed since.
    var isDue = false
    var learning: UInt64 = 0
    var time = ContinuousClock.now
    var pause = Duration.zero
    /// The ports that the configuration file has.
    var file: [PortRequest] = []
    /// The CPUs that it has for workers.
    var cpus: Set<Int> = []
    var lastFault: String?
  }

  /// Has the state be kept from now on, with these as the configuration file's ports, and as its workers' CPUs; `nil`: as
  /// before.
  public func keepState(file: [PortRequest], cpus: [Int]? = nil) {
    saving.withLock { saving in
      saving.isOn = true
      saving.isDue = true
      saving.file = file
      if let cpus { saving.cpus = Set(cpus) }
    }
    saveState(isLast: true)
  }

  /// A port or a front-end has come, gone or changed.
  func noteChange() { saving.withLock { $0.isDue = true } }

  /// Leaves the present state, if it has changed in a way that matters. Ages alone do so once in an eighth of a lifetime:
  /// addresses that were heard since would else be too old when they are taken over.
  ///
  /// - Parameter isLast: does so now, however much of the time it has taken of late.
  func saveState(isLast: Bool = false) {
    guard let state = stateFile else { return }
    let learning = dataplane.addressCounts.learning
    let heard =
      learning.learned &+ learning.moved &+ learning.evicted &+ dataplane.addressCounts.aged
    let now = ContinuousClock.now
    let file = saving.withLock { saving -> [PortRequest]? in
      let since = saving.time.duration(to: now)
      let isOld = heard > 0 && since >= .seconds(configuration.macAge / 8)
      let isChanged = saving.isDue || saving.learning != heard
      guard saving.isOn, isOld || isChanged && (isLast || since >= saving.pause) else { return nil }
      saving.isDue = false
      saving.learning = heard
      saving.time = now
      return saving.file
    }
    guard let file else { return }
    var fault: String?
    do {
      try state.save(present(file: file))
    } catch {
      fault = "\(error)"
    }
    // A thousand ports and a great table take their time, and are not to take more than a fiftieth of all.
    let took = now.duration(to: .now)
    let isNew = saving.withLock { saving in
      saving.pause = max(.milliseconds(100), took * 50)
      defer { saving.lastFault = fault }
      return saving.lastFault != fault
    }
    if isNew, let fault {
      logger.warning("what a restart would go on from can't be kept: \(fault)")
    }
  }

  /// Leaves the last state; what becomes of ports from now on is the end of this process, and nobody's to go on from.
  func endSaving() {
    noteChange()
    saveState(isLast: true)
    saving.withLock { $0.isOn = false }
  }

  /// Leaves no state until `keepState`. Returns whether any was left.
  func stopSaving() -> Bool {
    saving.withLock { saving in
      defer { saving.isOn = false }
      return saving.isOn
    }
  }

  /// What there is to go on from: to hand over before anything stands still, as it may be much.
  public func presentState() -> SavedState { present(file: saving.withLock { $0.file }) }

  private func present(file: [PortRequest]) -> SavedState {
    let ports = allPorts
    let places = Dictionary(
      ports.enumerated().map { ($1.number, $0) }, uniquingKeysWith: { first, _ in first })
    let step = configuration.macAge / Double(Dataplane.lifetime)
    let addresses = dataplane.addresses().compactMap { entry in
      places[entry.port].map {
        SavedState.Address(
          mac: entry.mac.description, port: $0,
          age: entry.isPinned ? nil : Double(entry.age) * step)
      }
    }.sorted { ($0.age ?? -1, $0.mac) < ($1.age ?? -1, $1.mac) }
    let own = saving.withLock { $0.cpus }
    let workers = workerCPUs.withLock { $0.sorted { $0.key < $1.key }.map(\.value) }
    return SavedState(
      version: swivelVersion, boot: Switch.boot, time: Switch.uptime,
      ports: ports.map { port in
        SavedState.SavedPort(
          request: port.request, file: file.first { $0.name == port.request.name },
          frontEnd: port.frontEnd)
      }, addresses: Array(addresses.prefix(SavedState.mostAddresses)),
      workers: workers.filter { !own.contains($0) })
  }

  static let boot =
    SmallFile.read("/proc/sys/kernel/random/boot_id")?
    .trimmingCharacters(in: .whitespacesAndNewlines) ?? ""

  /// Seconds since the machine started, those in which it slept among them.
  static var uptime: Double {
    var time = timespec()
    // SAFETY: fills the local.
    _ = unsafe clock_gettime(CLOCK_BOOTTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  // ---- Taking over ----

  /// Whether what a predecessor left is of this run of the machine.
  public static func isOfThisBoot(_ state: SavedState) -> Bool { state.boot == boot }

  /// Has a port be again what was asked of it at the control interface.
  public func restore(_ request: PortRequest) throws(ServiceError) {
    let result = changes.withLock { _ in
      Result<Void, ServiceError> { () throws(ServiceError) in
        guard let port = allPorts.first(where: { $0.request.name == request.name }) else { return }
        let old = port.request.spelledOut(configuration)
        guard request.spelledOut(configuration).foundation == old.foundation else { return }
        do {
          try port.update(to: request)
        } catch {
          throw ServiceError(about: request, error)
        }
      }
    }
    try result.get()
  }

  /// Enters the addresses that a predecessor knew, as far as their ports are there. Returns how many.
  public func recall(_ state: SavedState) -> Int {
    let ports = Dictionary(
      allPorts.map { ($0.request.name, $0.number) }, uniquingKeysWith: { first, _ in first })
    let step = configuration.macAge / Double(Dataplane.lifetime)
    let since = max(0, Switch.uptime - state.time)
    var count = 0
    for address in state.addresses {
      guard state.ports.indices.contains(address.port),
        let port = ports[state.ports[address.port].request.name],
        let bytes = addressBytes(address.mac)
      else { continue }
      guard let age = address.age else {
        if (try? dataplane.pin(MACAddress(bytes), port: port)) != nil { count += 1 }
        continue
      }
      let stamps = (age + since) / step
      guard stamps < Double(Dataplane.lifetime) else { continue }
      dataplane.learn(MACAddress(bytes), port: port, age: Int(stamps))
      count += 1
    }
    return count
  }
}

extension SavedState.FrontEnd {
  /// Whether a process is this one.
  func isProcess(_ pid: Int?) -> Bool {
    self.pid == pid && started == SavedState.FrontEnd.start(of: self.pid)
  }

  /// When a process started; `nil`: there is none, or it can't be seen.
  static func start(of pid: Int) -> UInt64? {
    // Its name, in parentheses, may hold anything.
    guard let text = SmallFile.read("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else {
      return nil
    }
    let fields = text[end...].split(separator: " ")
    return fields.count > 20 ? UInt64(fields[20]) : nil
  }
}
