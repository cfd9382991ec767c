internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging
internal import SystemPackage
internal import VhostUser

/// A vhost-user port: its socket, the thread that serves front-ends on it one after another, and the
/// back-end that turns what they ask into rings.
final class VhostPort: SwitchPort {
  private let requested: Lock<PortRequest>
  /// Held while rings are enabled or disabled, by whoever: the front-end and the operator have both to say so.
  let enabling = Lock(0)
  let number: Int
  let path: String
  let mode: SocketMode
  let pairs: Int
  /// What is offered of what workers may do for the guest, or leave to it.
  let offloads: [OffloadName]
  let status: PortStatus
  /// Where its packed rings are noted.
  let journals: RingPositions.Place?
  unowned let parent: Switch
  /// What its front-end of the moment is offered besides (`features(keptFor:)`).
  let keptFeatures = Lock<Features>([])
  /// Where its thread stands while the switch is handed over.
  let gate: Gate<Session>
  /// A session of another process's, until its thread goes on with it.
  let taken = Lock<Session?>(nil)
  private let finish: EventFD
  /// Signalled when there is another listener.
  private let renewed: EventFD
  let listener: Lock<UnixListener?>
  private let thread = Lock<Linux.Thread?>(nil)

  /// Listens at once in server mode, so that a socket that can't be made is the caller's error.
  init(
    _ request: PortRequest, _ vhostUser: VhostUserRequest, in parent: Switch, aside: Bool,
    listener handed: UnixListener? = nil
  ) throws {
    requested = Lock(request)
    self.parent = parent
    path = vhostUser.path
    mode = vhostUser.mode ?? .server
    pairs = vhostUser.queues ?? 1
    offloads = try OffloadName.names(vhostUser.offloads ?? ["all"]).get()
    finish = try EventFD()
    renewed = try EventFD()
    gate = try Gate()
    if mode == .server {
      listener = Lock(
        try handed
          ?? UnixListener(
            path: vhostUser.path, owner: vhostUser.owner, group: vhostUser.group,
            permissions: vhostUser.bits, aside: aside))
    } else {
      listener = Lock(nil)
    }
    number = try parent.dataplane.addPort(
      pairs: pairs, addresses: request.macs ?? parent.configuration.macsPerPort)
    status = PortStatus(queues: 2 * pairs)
    journals = parent.positions?.place(of: request.name)
    if let mtu = request.mtu { parent.dataplane.setMTU(mtu, port: number) }
  }

  var request: PortRequest { requested.withLock { $0 } }
  private var vhostUser: VhostUserRequest? { request.attachment as? VhostUserRequest }

  /// Most bytes of memory, and most regions of it, that a front-end may share.
  var memoryLimit: UInt64 {
    vhostUser?.memory.flatMap(memorySize) ?? parent.configuration.memoryPerPort
  }
  var regionLimit: Int { vhostUser?.regions ?? parent.configuration.regionsPerPort }

  func update(to next: PortRequest) throws {
    let configuration = parent.configuration
    let old = request.spelledOut(configuration)
    let new = next.spelledOut(configuration)
    try changeSocket(from: old, to: new)
    if new.macs != old.macs {
      do {
        try parent.dataplane.setAddressLimit(new.macs, port: number)
      } catch {
        try? changeSocket(from: new, to: old)
        throw error
      }
    }
    requested.withLock { $0 = next }
    if new.link != old.link { applyLink() }
    if new.mtu != old.mtu { applyMTU() }
  }

  /// Gives the socket what differs of its owner, group and permissions. Both requests are spelled out.
  private func changeSocket(from old: PortRequest, to new: PortRequest) throws {
    guard mode == .server, let before = old.attachment as? VhostUserRequest,
      let after = new.attachment as? VhostUserRequest,
      (before.owner, before.group, before.bits) != (after.owner, after.group, after.bits)
    else { return }
    try listener.withLock { listener in
      try listener?.change(
        owner: after.owner == before.owner ? nil : after.owner,
        group: after.group == before.group ? nil : after.group,
        permissions: after.permissions == before.permissions ? nil : after.bits)
    }
  }

  var isDown: Bool { request.link == .down }

  /// Enables the rings that run, as far as their front-end has, or disables them.
  private func applyLink() {
    enabling.withLock { _ in
      let rings = status.read { $0.rings.map { $0?.enabled == true } }
      for (index, isEnabled) in rings.enumerated() where isEnabled {
        parent.dataplane.setEnabled(!isDown, queue: index, of: number)
      }
    }
    // Nothing that was learned there leads anywhere now.
    if isDown { parent.dataplane.flush(port: number) }
  }

  /// Puts the smaller of what the operator allows and what the front-end asks for into force. The latter counts while the
  /// driver knows of it: with VIRTIO_NET_F_MTU accepted (virtio v1.4, 5.1.4.1).
  func applyMTU() {
    let allowed = request.mtu
    let effective = status.change { status in
      let asked = status.features.contains(.netMTU) ? status.askedMTU : nil
      status.mtu = asked.map { min($0, allowed ?? $0) }
      return status.mtu
    }
    parent.dataplane.setMTU(effective ?? allowed, port: number)
  }

  func takePlace() throws { try listener.withLock { try $0?.takePlace() } }

  /// Whether front-ends find the socket where it should be.
  var isReachable: Bool { listener.withLock { $0?.isInPlace ?? true } }

  /// Makes the socket anew whose file somebody has removed. A front-end that is connected stays so.
  func heal() throws -> Bool {
    try listener.withLock { listener in
      guard let old = listener, !old.isInPlace, let vhostUser else { return false }
      listener = try UnixListener(
        path: path, owner: vhostUser.owner, group: vhostUser.group, permissions: vhostUser.bits)
      renewed.signal()
      return true
    }
  }

  var home: Int? { status.read { $0.guestNode } }

  var polled: [(queue: Int, worker: Int)] {
    status.read { status in
      status.rings.enumerated().compactMap { index, ring in
        ring.flatMap { index % 2 == 1 ? (index, $0.worker) : nil }
      }
    }
  }

  func start() throws {
    let started = try Linux.Thread(name: "port/\(request.name)") { [self] in serve() }
    thread.withLock { $0 = started }
  }

  func stop() {
    finish.signal()
    let running = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    running?.join()
    listener.withLock { $0 = nil }
    parent.dataplane.removePort(number)
  }

  // ---- The port's thread ----

  private func serve() {
    let session = taken.withLock { taken in
      defer { taken = nil }
      return taken
    }
    if let session, !run(session) { return }
    switch mode {
    case .server: serveListener()
    case .client: serveConnections()
    }
  }

  private func serveListener() {
    var sessions = SessionRate()
    while let listening = listener.withLock({ $0?.descriptor }) {
      if sessions.isExcessive, pause(milliseconds: 10) { return }
      do throws(SystemError) {
        let ready = try Poller.wait([
          (finish.descriptor.raw, .read), (listening.raw, .read), (renewed.descriptor.raw, .read),
          (gate.event.descriptor.raw, .read),
        ])
        if ready[0] { return }
        if ready[3] {
          if !gate.stand(with: nil) { return }
          continue
        }
        if ready[2] {
          renewed.drain()
          continue
        }
        guard let connection = try UnixSocket.accept(listening) else { continue }
        if !runSession(connection, listener: listening) { return }
      } catch {
        // Out of descriptors or memory, most likely: it may pass, and must not become a loop at full speed. It is no
        // port's own, and a thousand have not a line each to say so.
        _ = status.record("\(error)", as: nil, logs: false)
        if parent.allowsLine("\(error)") {
          parent.logger.warning("port '\(request.name)', and perhaps others: \(error)")
        }
        if pause(milliseconds: 200) { return }
      }
    }
  }

  /// Client mode: connects, and connects again for ever; says so once, not once a second.
  private func serveConnections() {
    var lastFailure: Errno?
    while true {
      if gate.isAsked, !gate.stand(with: nil) { return }
      do throws(SystemError) {
        let connection = try UnixSocket.connect(path: path)
        lastFailure = nil
        if !runSession(connection, listener: nil) { return }
      } catch {
        if error.errno != lastFailure {
          lastFailure = error.errno
          status.update { $0.waitingFor = error.errno.description }
          parent.logger.info(
            "port '\(request.name)': \(error); trying again until a front-end listens there")
        }
      }
      if pause(milliseconds: 250) { return }
    }
  }

  /// Waits, unless the port is stopped meanwhile; returns whether it was.
  private func pause(milliseconds: Int) -> Bool {
    Poller.pause(milliseconds: milliseconds, unless: finish)
  }

  /// Serves one front-end to its end. Returns `false` when the port is being stopped, or has been handed over.
  private func runSession(_ connection: OwnedFD, listener: OwnedFD?) -> Bool {
    let peer = UnixSocket.peer(connection)
    let started = peer.flatMap { SavedState.FrontEnd.start(of: $0.pid) }
    keptFeatures.withLock { $0 = features(keptFor: peer?.pid) }
    status.update { status in
      status.connected = true
      status.pid = peer?.pid
      status.started = started
      status.connections += 1
      status.runsBefore = status.runs
      status.waitingFor = nil
    }
    if status.allowsLine("connected") {
      parent.logger.info(
        "port '\(request.name)': front-end connected\(peer.map { " (pid \($0.pid))" } ?? "")")
    }
    parent.noteChange()
    return run(session(on: connection, listener: listener))
  }

  func session(on connection: OwnedFD, listener: OwnedFD?) -> Session {
    let session = Session(
      connection: connection, backend: VhostBackend(self, in: parent), stop: finish,
      listener: listener, onEvent: { [self] event in note(event) })
    session.pauses(on: gate.event) { [gate, unowned session] in gate.stand(with: session) }
    return session
  }

  private func run(_ session: Session) -> Bool {
    let end = session.run()
    status.update { status in
      status.connected = false
      status.pid = nil
    }
    parent.noteChange()
    switch end {
    case .stopped: return false
    case .frontEndClosed:
      if status.allowsLine("disconnected") {
        parent.logger.info("port '\(request.name)': front-end disconnected")
      }
    case .failed(let error): report("\(error)", as: SessionFault(error.kind).rawValue)
    }
    return true
  }

  private func note(_ event: SessionEvent) {
    let name = request.name
    switch event {
    case .negotiated(let features, let protocolFeatures):
      parent.logger.debug(
        "port '\(name)': negotiated \(features.names.joined(separator: " ")) \(protocolFeatures.names.joined(separator: " "))"
      )
    case .memoryChanged(let regions, let bytes):
      parent.logger.debug("port '\(name)': \(regions) regions, \(bytes >> 20) MiB of guest memory")
    case .ringStarted(let index, let enabled):
      parent.logger.debug("port '\(name)': ring \(index) started\(enabled ? "" : ", not enabled")")
    case .ringStopped(let index):
      parent.logger.debug("port '\(name)': ring \(index) stopped")
    case .ringEnabled(let index, let enabled):
      parent.logger.debug("port '\(name)': ring \(index) \(enabled ? "enabled" : "disabled")")
    case .ringFailed(let index, let reason):
      report("ring \(index): \(reason)", as: SessionFault.ringNotStarted.rawValue)
    case .refused(let reason): report(reason, as: SessionFault.refusedRequest.rawValue)
    case .refusedSecondFrontEnd:
      report(
        "a second front-end tried to connect and was turned away",
        as: SessionFault.secondFrontEnd.rawValue)
    }
  }

  /// Keeps an error for `port show`, counts it by name, and logs it, though not the same one over and over.
  func report(_ message: String, as name: String? = nil, isCondition: Bool = false) {
    if status.record(message, as: name, isCondition: isCondition) {
      parent.logger.warning("port '\(request.name)': \(message)")
    }
  }

  // ---- Readings ----

  /// Most addresses of the port, and what was learned on it.
  var addresses: (limit: Int?, counts: LearningCounts) {
    parent.dataplane.learning(port: number)
  }

  func sample(of queue: Int) -> CounterSample {
    var sample = parent.dataplane.counters(port: number, queue: queue) ?? CounterSample()
    // What the front-end has had sent in the guest's name counts as if it had been sent there.
    if queue == 1 { sample += parent.dataplane.announcements(port: number) }
    return sample
  }

  func fault(of queue: Int) -> QueueFault? { parent.dataplane.fault(port: number, queue: queue) }

  func node(ofWorker worker: Int) -> Int { parent.node(ofWorker: worker) }

  // ---- Housekeeping ----

  /// Breaks a ring for a reason that is not in the ring.
  func breakDown(_ fault: QueueFault, ring index: Int) {
    parent.dataplane.breakDown(fault, queue: index, of: number)
    if let run = status.read({ $0.rings[index]?.run }) { inspect(index, run: run) }
  }

  func inspect() {
    status.update { $0.memory.measure() }
    let sound = status.read { status in
      status.rings.enumerated().compactMap { index, ring in
        ring.flatMap { $0.fault == nil ? (index: index, run: $0.run) : nil }
      }
    }
    for (index, run) in sound {
      inspect(index, run: run)
      inspectInterrupts(index)
    }
  }

  /// Tells of a ring whose driver workers do not interrupt any more. Once, until they do again.
  private func inspectInterrupts(_ index: Int) {
    let isSlow = parent.dataplane.isInterruptedSlowly(port: number, queue: index)
    let isNew = status.change { status in
      defer { status.rings[index]?.isSlow = isSlow }
      return isSlow && status.rings[index]?.isSlow == false
    }
    if isNew {
      report(
        "ring \(index): its front-end, or this machine, has made interrupting the driver slow; a thread of its own does it, later",
        as: SessionFault.slowInterrupts.rawValue, isCondition: true)
    }
  }

  /// Tells of a ring that has broken: its front-end, the log, and whoever asks. Once.
  ///
  /// - Parameter run: which run of the ring.
  func inspect(_ index: Int, run: Int) {
    guard let fault = parent.dataplane.fault(port: number, queue: index) else { return }
    let isNew = status.change { status in
      // The ring may have been started again since: then the fault was the old one's.
      guard status.rings[index]?.run == run, status.rings[index]?.fault == nil else { return false }
      status.rings[index]?.fault = fault
      // virtio v1.4, 2.1.2: an unrecoverable error is to be signalled; vhost-user has an eventfd for it.
      if let error = status.rings[index]?.error {
        parent.dataplane.signalLater(error, port: number, queue: index)
      }
      return true
    }
    if isNew { report("ring \(index) stopped: \(fault.explanation)", as: fault.name) }
  }
}
