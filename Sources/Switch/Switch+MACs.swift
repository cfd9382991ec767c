public import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging

/// Addresses, entered and forgotten by whoever may.
extension Switch {
  public func addMAC(_ mac: String, port name: String) throws(ServiceError) -> MACEntry {
    let address = try station(mac)
    guard let port = allPorts.first(where: { $0.request.name == name }) else {
      throw ServiceError(.notFound, "there is no port \(quoted(name))")
    }
    do {
      try dataplane.pin(address, port: port.number)
    } catch {
      throw ServiceError(.conflict, "\(error)")
    }
    logger.info("\(address) was entered for port '\(name)'")
    return MACEntry(mac: address.description, port: name, age: 0, pinned: true)
  }

  public func removeMAC(_ mac: String) throws(ServiceError) {
    let address = try station(mac)
    let isKnown = dataplane.forget(address)
    if !isKnown { throw ServiceError(.notFound, "the address \(address) is not known") }
    logger.info("\(address) was removed")
  }

  public func flushMACs(port name: String?) throws(ServiceError) {
    let ports = allPorts.filter { name == nil || $0.request.name == name }
    if let name, ports.isEmpty {
      throw ServiceError(.notFound, "there is no port \(quoted(name))")
    }
    for port in ports { dataplane.flush(port: port.number) }
    logger.info("what was learned on \(name.map { "port '\($0)'" } ?? "all ports") was forgotten")
  }

  private func station(_ text: String) throws(ServiceError) -> MACAddress {
    guard let bytes = addressBytes(text) else {
      throw ServiceError(
        .invalid,
        "an address must be six bytes in hexadecimal, as in 52:54:00:12:34:56, not \(quoted(text))")
    }
    let address = MACAddress(bytes)
    guard address.isStation else {
      throw ServiceError(.invalid, "\(address) is no station's address")
    }
    return address
  }

  // ---- Health ----

  /// Whether every worker does its work: makes its turns, or sleeps as there is none.
  public func health() -> Health {
    let first = Dictionary(
      dataplane.workerSamples().map { ($0.number, $0.turns) }, uniquingKeysWith: { $1 })
    var waiting = Set(first.keys)
    let deadline = ContinuousClock.now + .seconds(2)
    while true {
      let now = dataplane.workerSamples()
      waiting = waiting.filter { number in
        now.contains { $0.number == number && !$0.sleeping && $0.turns == first[number] }
      }
      if waiting.isEmpty || ContinuousClock.now >= deadline { break }
      Pause.milliseconds(10)
    }
    var ports: [String: Int] = [:]
    for port in allPorts { ports[port.snapshot(macs: [:]).state.rawValue, default: 0] += 1 }
    return Health(
      healthy: waiting.isEmpty,
      problems: waiting.sorted().map { index in
        "worker \(index) on CPU \(cpu(ofWorker: index)) has made no turn for two seconds: it gets no time, or waits for memory"
      }, ports: ports)
  }
}
