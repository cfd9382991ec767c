public import ControlAPI
internal import Dataplane
public import Linux
internal import Logging

/// One switch goes on where another was, in another process, while front-ends and networks notice nothing but a pause.
///
/// # Theory of operation
///
/// The switch that hands over lets each port come to rest (its thread stands at its `Gate`, between two messages), then
/// stops all transmitqs where they are, which ends when every frame that was taken has been delivered, then all
/// receiveqs. Frames wait in their rings meanwhile, and in the kernel. What is then so is told; whoever takes it makes its
/// ports of it, with the same descriptors, and says that it goes on: receiveqs first, so that nothing is delivered to who is
/// not there. Until that moment nothing has been changed that the old one needs to go on, which it does when it is not said.
extension Switch {
  /// Hands the switch over.
  ///
  /// - Parameters:
  ///   - patience: for ports to come to rest; frames move meanwhile.
  ///   - exchange: called while nothing moves, with all there is. Returns whether another goes on; if not, or if it throws, this
  ///     one does.
  public func handOver(
    within patience: Duration = .seconds(1),
    _ exchange: (HandedState, HandedDescriptors) throws -> Bool
  ) throws {
    try changes.withLock { _ in
      let ports = allPorts
      let file = saving.withLock { $0.file }
      var isOver = false
      // A frame that waits for a translation would be lost; it will come soon, or never.
      let deadline = ContinuousClock.now + patience
      dataplane.awaitWaiting(until: ContinuousClock.now + patience / 10)
      for port in ports { port.ask() }
      defer { for port in ports { port.release(isOver: isOver) } }
      for port in ports { try port.awaitRest(until: deadline) }
      let wasSaving = stopSaving()
      defer { if wasSaving, !isOver { keepState(file: file) } }
      for receiveqs in [false, true] {
        for port in ports { port.hold(receiveqs: receiveqs) }
      }
      defer {
        if !isOver {
          for receiveqs in [true, false] {
            for port in ports { port.letGo(receiveqs: receiveqs) }
          }
        }
      }
      var descriptors = HandedDescriptors()
      let state = try present(ports, file, &descriptors)
      isOver = try exchange(state, descriptors)
    }
  }

  private func present(
    _ ports: [any SwitchPort], _ file: [PortRequest], _ descriptors: inout HandedDescriptors
  ) throws -> HandedState {
    let rows = try ports.map { port in
      let request = port.request
      var handed = HandedPort(request: request, file: file.first { $0.name == request.name })
      var index = 0
      while let sample = dataplane.counters(port: port.number, queue: index) {
        handed.counts.append(HandedCounts(sample))
        index += 1
      }
      handed.learning = HandedLearning(dataplane.learning(port: port.number).counts)
      do {
        try port.fill(&handed, &descriptors)
      } catch {
        throw ServiceError(.conflict, "port '\(request.name)': \(error)")
      }
      return handed
    }
    let departed = dataplane.departed
    return HandedState(
      ports: rows, received: HandedCounts(departed.transmitq),
      sent: HandedCounts(departed.receiveq),
      learning: HandedLearning(departed.learning), aged: departed.aged)
  }

  /// Makes the ports of `state` that are in `names`, their queues held; throws when one can't be made, and then has none.
  public func take(
    _ state: HandedState, _ descriptors: HandedDescriptors, only names: Set<String>
  ) throws(ServiceError) {
    let result = changes.withLock { _ in
      Result<Void, ServiceError> { () throws(ServiceError) in
        for handed in state.ports where names.contains(handed.request.name) {
          let port: any SwitchPort
          do {
            port = try handed.request.maker.takePort(handed, descriptors, in: self)
          } catch {
            throw ServiceError(about: handed.request, error)
          }
          portList.withLock { $0.append(port) }
          for (index, counts) in handed.counts.enumerated() {
            let learning = index == 1 ? handed.learning?.counts : nil
            dataplane.add(
              counts.sample, learning ?? LearningCounts(), queue: index, of: port.number)
          }
        }
      }
    }
    try result.get()
    dataplane.addDeparted(
      transmitq: state.received.sample, receiveq: state.sent.sample,
      learning: state.learning.counts, aged: state.aged)
    // Those of ports that are not taken are of ports that are gone.
    for handed in state.ports where !names.contains(handed.request.name) {
      for (index, counts) in handed.counts.enumerated() {
        let none = CounterSample()
        dataplane.addDeparted(
          transmitq: index % 2 == 1 ? counts.sample : none,
          receiveq: index % 2 == 0 ? counts.sample : none,
          learning: index == 1 ? handed.learning?.counts ?? LearningCounts() : LearningCounts(),
          aged: 0)
      }
    }
  }

  /// Goes on with the ports of `names`, which were taken and are nobody else's from now on.
  public func goOn(_ names: Set<String>) {
    let ports = allPorts.filter { names.contains($0.request.name) }
    for receiveqs in [true, false] {
      for port in ports { port.letGo(receiveqs: receiveqs) }
    }
    for port in ports {
      port.own()
      do {
        try port.resume()
      } catch {
        logger.error("port '\(port.request.name)' can't go on: \(error)")
      }
    }
  }

  /// Whether a request is one that a port of another can become.
  public func isSameFoundation(_ request: PortRequest, _ other: PortRequest) -> Bool {
    request.spelledOut(configuration).foundation == other.spelledOut(configuration).foundation
  }

  /// The file that goes with the switch, with its path.
  public var stateDescriptor: (path: String, descriptor: OwnedFD)? {
    stateFile.map { ($0.file.path, $0.file.descriptor) }
  }
}
