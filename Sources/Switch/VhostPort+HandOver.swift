internal import ControlAPI
internal import Dataplane
internal import Linux
internal import VhostUser

/// A port goes to another process, or comes from one, and its front-end notices nothing.
extension VhostPort {
  func ask() { gate.ask() }

  func awaitRest(until deadline: ContinuousClock.Instant) throws(ServiceError) {
    if gate.awaitThread(until: deadline) { return }
    throw ServiceError(
      .conflict, "port '\(request.name)': its front-end is in the middle of a message, or hangs up")
  }

  func hold(receiveqs: Bool) { gate.item?.hold(receiveqs: receiveqs) }

  func letGo(receiveqs: Bool) {
    let session = gate.item ?? taken.withLock { $0 }
    session?.letGo(receiveqs: receiveqs)
  }

  func move(_ workers: [Int: Int]) throws(ServiceError) {
    gate.ask()
    defer { gate.release() }
    try awaitRest(until: .now + .seconds(1))
    var workers = workers
    if let worker = workers.removeValue(forKey: 2 * pairs + 1) {
      do {
        try parent.dataplane.moveAnnouncer(port: number, to: worker)
      } catch {
        throw ServiceError(.failed, "port '\(request.name)': \(error)")
      }
    }
    guard !workers.isEmpty, let session = gate.item else { return }
    // All of its transmitqs are started anew; those that are not to move stay where they are.
    let wanted = Dictionary(polled.map { ($0.queue, $0.worker) }) { $1 }.merging(workers) { $1 }
    let wishes = Dictionary(
      uniqueKeysWithValues: wanted.map { (QueueKey(port: number, queue: $0.key), $0.value) })
    session.hold(receiveqs: false)
    parent.placement.withLock { $0.wish(wishes) }
    session.letGo(receiveqs: false)
    // One that has not been started now may be on another port's number when it is.
    parent.placement.withLock { $0.forget(wishes.keys) }
  }

  func fill(_ handed: inout HandedPort, _ descriptors: inout HandedDescriptors) throws {
    handed.listener = listener.withLock { listener in
      listener.map { HandedListener($0, &descriptors) }
    }
    let values = status.read { $0 }
    handed.faults = values.faults
    handed.lastError = values.lastError
    handed.connections = values.connections
    guard let session = gate.item else { return }
    handed.frontEnd = .init(
      session: try session.state(&descriptors), pid: values.pid, started: values.started,
      offered: VhostBackend.features(of: self).rawValue, askedMTU: values.askedMTU)
  }

  func release(isOver: Bool) {
    if isOver { listener.withLock { $0?.disown() } }
    gate.release(isOver: isOver)
  }

  func resume() throws { try start() }

  func own() { listener.withLock { $0?.own() } }

  /// Takes what another process knows of the port, and the session of its front-end.
  func take(_ handed: HandedPort, _ descriptors: HandedDescriptors) throws {
    status.update { status in
      status.faults = handed.faults
      status.lastError = handed.lastError
      status.connections = handed.connections
    }
    guard let frontEnd = handed.frontEnd else { return }
    keptFeatures.withLock {
      $0 = Features(rawValue: frontEnd.offered).intersection(VhostBackend.offloads)
        .subtracting(VhostBackend.offered(by: self))
    }
    status.update { status in
      status.connected = true
      status.pid = frontEnd.pid
      status.started = frontEnd.started
      status.askedMTU = frontEnd.askedMTU
    }
    let session = session(
      on: try Session.connection(of: frontEnd.session, descriptors),
      listener: listener.withLock { $0?.descriptor })
    try session.take(frontEnd.session, descriptors)
    taken.withLock { $0 = session }
  }
}
