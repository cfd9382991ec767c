import Configuration
import Control
import ControlAPI
import Foundation
import Glibc
import Linux
import Logging
import Switch

/// The side of a daemon that takes over from another.
struct TakeOver {
  private let stream: MessageStream
  private let offer: TakeOverMessage
  private let file: HandedDescriptors
  private let logger: Logger

  /// Finds the daemon that runs, and asks it for its offer.
  init(_ settings: Configuration, logger: Logger) throws {
    let path = settings.takeOverPath
    self.logger = logger
    do {
      stream = MessageStream(try UnixSocket.connect(path: path))
    } catch {
      throw ServiceError(.refused, "there is no daemon to take over from: \(error)")
    }
    // Who made the socket has the power over what is handed over.
    guard let peer = UnixSocket.peer(stream.socket), TakeOver.trusted(settings).contains(peer.uid)
    else {
      throw ServiceError(.refused, "who listens at \(path) is not a daemon of this user's")
    }
    try stream.send(TakeOverMessage(.hello), within: .seconds(5))
    (offer, file) = try stream.receive(.offer, within: .seconds(10))
    logger.info("takes over from process \(peer.pid), swivel \(offer.version)")
    TakeOver.dieInTests(at: "offer")
  }

  private static func trusted(_ settings: Configuration) -> Set<UInt32> {
    var users: Set<UInt32> = [0, geteuid()]
    if geteuid() != 0 { return users }
    if case .named(let name) = settings.security.user, let user = try? Identity.user(named: name) {
      users.insert(user)
    } else {
      users.insert(
        (try? Identity.user(named: Confinement.standardUser)) ?? Confinement.reservedUser)
    }
    return users
  }

  /// For tests of what becomes of the other daemon: ends this process at a step that the environment names.
  static func dieInTests(at step: String) {
    if ProcessInfo.processInfo.environment["SWIVELD_TAKE_OVER_DIES_AT"] == step { _exit(70) }
  }

  /// The state's file, if the other has the same; `nil`: it has not.
  func state(_ settings: Configuration) throws -> StateFile? {
    guard let theirs = offer.stateFile, let path = settings.statePath,
      Directory.place(path) == Directory.place(theirs.path)
    else { return nil }
    return try StateFile(taking: try file.at(theirs.descriptor), path: path) {
      logger.notice("\($0)")
    }
  }

  /// What the other knew a moment ago.
  var saved: SavedState? { offer.saved }

  /// Has the other stop, and say where it is.
  func receiveState() throws -> (HandedState, [HandedListener], HandedDescriptors) {
    try stream.send(TakeOverMessage(.stop), within: .seconds(5))
    TakeOver.dieInTests(at: "stop")
    let (message, descriptors) = try stream.receive(.state, within: .seconds(10))
    guard let state = message.state else {
      throw ServiceError(.refused, "the other daemon says nothing of its ports")
    }
    TakeOver.dieInTests(at: "state")
    return (state, message.sockets ?? [], descriptors)
  }

  /// Becomes the one that serves; throws when the other has gone on.
  func commit() throws {
    TakeOver.dieInTests(at: "made")
    try stream.send(TakeOverMessage(.tookOver), within: .seconds(2))
    _ = try stream.receive(.yours, within: .seconds(5))
  }
}

extension Daemon {
  /// Goes on where the other daemon is, with the ports of this configuration. Throws when it can't; then the other does.
  func take(_ heir: TakeOver, _ settings: Configuration) throws {
    let (state, sockets, descriptors) = try heir.receiveState()
    let began = ContinuousClock.now
    let wanted = Dictionary(
      settings.ports.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    var taken: Set<String> = []
    for port in state.ports {
      let name = port.request.name
      if let next = wanted[name] {
        guard network.isSameFoundation(next, port.request) else {
          throw ServiceError(
            .conflict,
            "port '\(name)': what this configuration has under the name is another port than the one that is there; reload it first, or restart"
          )
        }
        taken.insert(name)
      } else if port.file == nil {
        taken.insert(name)
      }
    }
    try network.take(state, descriptors, only: taken)
    for port in settings.ports where !taken.contains(port.name) { try add(port) }
    // A table of any size is nothing to wait for: what is not known yet is flooded.
    let isSmall = heir.saved.map { $0.addresses.count <= 4096 } ?? false
    if isSmall, let saved = heir.saved { _ = network.recall(saved) }
    var listeners: [String: UnixListener] = [:]
    for socket in sockets { listeners[socket.path] = try socket.listener(descriptors) }
    for server in servers where listeners[server.path] == nil {
      try wait { try await server.start() }
    }
    try heir.commit()
    // Nothing may fail from here on, as there is nobody else.
    network.goOn(taken)
    let took = began.duration(to: .now) / .milliseconds(1)
    logger.notice("took over \(taken.count) ports, in \(Int(took)) ms")
    for server in servers {
      guard let listener = listeners.removeValue(forKey: server.path) else { continue }
      listener.own()
      do {
        try wait { try await server.start(on: listener) }
      } catch {
        logger.error("the control socket \(server.path) can't be served: \(error)")
      }
    }
    if !isSmall, let saved = heir.saved { _ = network.recall(saved) }
    conform(state, wanted)
    if let listener = listeners.removeValue(forKey: settings.takeOverPath) {
      listener.own()
      awaitSuccessors(settings, on: listener)
    } else {
      awaitSuccessors(settings)
    }
    // What is not this configuration's goes.
    for port in state.ports where !taken.contains(port.request.name) {
      (try? port.listenerHandedOver(descriptors))??.own()
    }
    for listener in listeners.values { listener.own() }
  }

  /// Has ports that were taken be what this configuration says, but for what was changed of them at the control interface.
  private func conform(_ state: HandedState, _ wanted: [String: PortRequest]) {
    for port in state.ports {
      guard let next = wanted[port.request.name], next != port.request, next != port.file else {
        continue
      }
      do {
        try network.restore(next)
      } catch {
        logger.warning("port '\(next.name)' stays as it was with the daemon before: \(error)")
      }
    }
  }

  /// Lets another daemon take over from this one.
  func awaitSuccessors(_ settings: Configuration, on taken: UnixListener? = nil) {
    do {
      let listener = try taken ?? UnixListener(path: settings.takeOverPath)
      let server = try TakeOverServer(
        listener, network: network, readiness: readiness, logger: logger,
        sockets: { [servers] in servers.compactMap(\.listener) })
      successors.withLock { $0 = server }
    } catch {
      logger.notice("no other daemon can take over from this one: \(error)")
    }
  }
}
