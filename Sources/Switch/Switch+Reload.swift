public import ControlAPI
internal import Linux
internal import Logging

/// From the ports that there are to those that a configuration wants.
extension Switch {
  /// Makes the ports `wanted`, all or none of them. What is the same in effect is left alone, whatever is written; what can
  /// change while a guest runs does so; the rest is made anew, and the old is not given up before the new is there.
  ///
  /// - Parameters:
  ///   - wanted: valid requests, no two of which exclude each other.
  ///   - owned: names of ports that go when they are not wanted. Others, which came otherwise, stay.
  ///   - check: finds what else would keep a port from being made.
  public func replacePorts(
    _ wanted: [PortRequest], owned: Set<String>,
    check: (PortRequest) throws(ServiceError) -> Void
  ) throws(ServiceError) -> ReloadReport {
    var leaving: [any SwitchPort] = []
    let result = changes.withLock { _ in
      Result<ReloadReport, ServiceError> { () throws(ServiceError) in
        var reload = PortReload(self, wanted, owned: owned)
        try reload.refuse(check)
        try reload.prepare()
        leaving = try reload.commit()
        for port in allPorts { heal(port) }
        return reload.report
      }
    }
    // Not under the lock, as in `removePort`.
    for port in leaving { end(port) }
    noteChange()
    let report = try result.get()
    for name in report.added { logger.info("port '\(name)' added") }
    for name in report.changed { logger.info("port '\(name)' changed") }
    for name in report.replaced { logger.info("port '\(name)' made anew") }
    for name in report.removed { logger.info("port '\(name)' removed") }
    return report
  }

  /// Makes again what has been taken away under ports. One that can't be healed stays as it is, and says so.
  fileprivate func heal(_ port: any SwitchPort) {
    do {
      if try port.heal() { logger.info("port '\(port.request.name)': made anew what was gone") }
    } catch {
      logger.warning("port '\(port.request.name)' can't have back what is gone: \(error)")
    }
  }
}

/// One change of the ports, while nobody else changes any: what is to be done, and what has been, so that it can be undone.
private struct PortReload {
  /// A port that is to be there, and the one whose name it has.
  struct Coming {
    var request: PortRequest
    var old: (any SwitchPort)?
    var made: (any SwitchPort)?
  }

  private let parent: Switch
  private let all: [any SwitchPort]
  private var updating: [(port: any SwitchPort, request: PortRequest, old: PortRequest)] = []
  private var coming: [Coming] = []
  /// Ports that are to go, for good or for another of the name.
  private var leaving: [any SwitchPort] = []
  private var updated = 0
  private(set) var report = ReloadReport()

  init(_ parent: Switch, _ wanted: [PortRequest], owned: Set<String>) {
    self.parent = parent
    all = parent.allPorts
    let configuration = parent.configuration
    for request in wanted {
      guard let port = all.first(where: { $0.request.name == request.name }) else {
        coming.append(Coming(request: request))
        report.added.append(request.name)
        continue
      }
      let old = port.request.spelledOut(configuration)
      let new = request.spelledOut(configuration)
      if new == old {
        report.unchanged += 1
      } else if new.foundation == old.foundation {
        updating.append((port, request, port.request))
        report.changed.append(request.name)
      } else {
        coming.append(Coming(request: request, old: port))
        leaving.append(port)
        report.replaced.append(request.name)
      }
    }
    for port in all where owned.contains(port.request.name) {
      let name = port.request.name
      if wanted.contains(where: { $0.name == name }) { continue }
      leaving.append(port)
      report.removed.append(name)
    }
  }

  /// Finds what can be found before anything is touched.
  func refuse(_ check: (PortRequest) throws(ServiceError) -> Void) throws(ServiceError) {
    let staying = all.filter { port in !leaving.contains { $0 === port } }
    for request in coming.map(\.request) {
      try parent.refuseDuplicate(of: request, in: staying)
    }
    for request in coming.map(\.request) + updating.map(\.request) {
      try Switch.check(request)
      try check(request)
    }
  }

  /// Makes and changes everything, or undoes what it has done. Only where a port can't be made while another has what it
  /// is to have (a TAP device has the queues of one) that one ends first, and last of all.
  mutating func prepare() throws(ServiceError) {
    var late: [Int] = []
    do throws(ServiceError) {
      for index in coming.indices {
        let request = coming[index].request
        let isTaken = leaving.contains { request.excludesBeyondName($0.request) }
        if isTaken, try !request.maker.canBePrepared {
          late.append(index)
        } else {
          coming[index].made = try parent.make(request, aside: isTaken)
        }
      }
      for entry in updating {
        // What is gone can't be changed.
        parent.heal(entry.port)
        do {
          try entry.port.update(to: entry.request)
        } catch {
          throw ServiceError(about: entry.request, error)
        }
        updated += 1
      }
      for index in late { try exchange(index) }
    } catch {
      undo()
      throw error
    }
  }

  /// Ends the ports that have what a new one is to have, then makes it; on failure makes the old ones again.
  private mutating func exchange(_ index: Int) throws(ServiceError) {
    let request = coming[index].request
    let holders = leaving.filter { request.excludesBeyondName($0.request) }
    for port in holders { port.stop() }
    do throws(ServiceError) {
      coming[index].made = try parent.make(request, aside: false)
    } catch {
      for port in holders { restore(port) }
      throw error
    }
    leaving.removeAll { port in holders.contains { $0 === port } }
    ended += holders
  }

  /// Ports of `leaving` that have ended already.
  private var ended: [any SwitchPort] = []

  private mutating func undo() {
    for entry in updating.prefix(updated) {
      do {
        try entry.port.update(to: entry.old)
      } catch {
        parent.logger.error("port '\(entry.old.name)' could not be changed back: \(error)")
      }
    }
    for index in coming.indices {
      coming[index].made?.stop()
      coming[index].made = nil
    }
    for port in ended { restore(port) }
  }

  /// Makes a port again that has ended.
  private func restore(_ port: any SwitchPort) {
    do throws(ServiceError) {
      let again = try parent.make(port.request, aside: false)
      parent.portList.withLock { ports in
        if let place = ports.firstIndex(where: { $0 === port }) { ports[place] = again }
      }
    } catch {
      parent.portList.withLock { ports in ports.removeAll { $0 === port } }
      parent.logger.error("port '\(port.request.name)' could not be restored: \(error)")
    }
  }

  /// Puts the new ports in the place of the old, and returns those that are to be stopped. A directory that somebody
  /// takes away at this very moment can make it fail.
  mutating func commit() throws(ServiceError) -> [any SwitchPort] {
    var failure: ServiceError?
    for index in coming.indices {
      do {
        try coming[index].made?.takePlace()
      } catch {
        failure = ServiceError(about: coming[index].request, error)
        break
      }
    }
    if let failure {
      undo()
      throw failure
    }
    let (coming, gone) = (coming, leaving + ended)
    parent.portList.withLock { ports in
      for entry in coming {
        guard let made = entry.made else { continue }
        if let place = ports.firstIndex(where: { $0 === entry.old }) {
          ports[place] = made
        } else {
          ports.append(made)
        }
      }
      ports.removeAll { port in gone.contains { $0 === port } }
    }
    return leaving
  }
}

extension PortRequest {
  /// Whether both want the same thing of the machine, their names aside.
  fileprivate func excludesBeyondName(_ other: PortRequest) -> Bool {
    claim(takenBy: other) != nil || isPlace(of: other)
  }
}
