import Configuration
import ControlAPI
import Linux
import Logging
import Switch

/// What a daemon has from the one before it: it was stopped, or died, and this one goes on.
extension Daemon {
  /// Opens the state's file. Without one the daemon does all the rest.
  static func state(_ settings: Configuration, logger: Logger) throws -> StateFile? {
    guard let path = settings.statePath else {
      logger.info("no state is kept for a restart: the configuration turns it off")
      return nil
    }
    do throws(SystemError) {
      return try StateFile(path: path) { logger.notice("\($0)") }
    } catch {
      // Two daemons on one state would each take the other's for its own.
      if error.isInUse {
        throw ServiceError(.conflict, "\(error); is another swiveld running?")
      }
      logger.warning("no state is kept for a restart: \(error)")
      return nil
    }
  }

  /// What there is to go on from, if it is of this run of the machine.
  static func predecessor(_ file: StateFile?, logger: Logger) -> SavedState? {
    do {
      guard let state = try file?.load() else { return nil }
      if Switch.isOfThisBoot(state) { return state }
      logger.info("the state that is there is from before the machine started: starting without it")
    } catch {
      logger.warning("\(error); starting without it")
    }
    return nil
  }

  /// The CPUs of the workers: those of the configuration, and those that the daemon before had been given at its control interface.
  static func workers(
    _ settings: Configuration, _ before: SavedState?, cpus: [Int], logger: Logger
  ) -> [Int] {
    let own = settings.workers.cpus
    let added = (before?.workers ?? []).filter { !own.contains($0) }
    let lost = added.filter { !cpus.contains($0) }
    if !lost.isEmpty {
      logger.warning("no workers on CPUs \(lost), as before: this process may not use them")
    }
    return own + added.filter(cpus.contains)
  }

  /// Has ports that came by the control interface, and what was changed by it, and addresses. What can't be had again is named,
  /// and keeps nothing else from being.
  func resume(_ state: SavedState, _ file: [PortRequest]) {
    var added: [String] = []
    for port in state.ports {
      let name = port.request.name
      do throws(ServiceError) {
        if let before = port.file {
          // What the file says now goes before what was changed of what it said then.
          guard port.request != before, file.contains(before) else { continue }
          try network.restore(port.request)
        } else if !file.contains(where: { $0.name == name }) {
          _ = try service.addPort(port.request)
          added.append(name)
        }
      } catch {
        logger.warning("port '\(name)', as it was before the restart, can't be had again: \(error)")
      }
    }
    let addresses = network.recall(state)
    let came = added.isEmpty ? "" : ", ports \(added.joined(separator: ", "))"
    logger.info("goes on from the daemon before: \(addresses) addresses\(came)")
  }

  /// Tries for two seconds what another process is in the way of: a predecessor that is about to end gives up its sockets one
  /// by one.
  func waitingForPlaces(_ body: () throws -> Void) throws {
    let deadline = ContinuousClock.now + .seconds(2)
    while true {
      do {
        return try body()
      } catch {
        let isTaken =
          (error as? ServiceError)?.kind == .conflict
          || (error as? SystemError)?.isInUse ?? false
        guard isTaken, ContinuousClock.now < deadline else { throw error }
        Pause.milliseconds(50)
      }
    }
  }
}
