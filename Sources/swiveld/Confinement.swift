import Configuration
import Control
import ControlAPI
import Foundation
import Linux
import Logging

/// What the daemon gives up once it knows what it has to do: root, most capabilities, system calls and paths.
///
/// Every part narrows what someone could do who made the daemon run his own code. The user and the capabilities
/// say what the kernel would let it have, Landlock which paths of that, and the filter (`systemCalls`) by which
/// doors. A part that the kernel can't do is left out and named in the log; one that the configuration asks for
/// by name and that can't be done ends the start.
///
/// Capabilities, Landlock and the filter are a thread's own, and go to the threads it starts: all of this happens
/// before there is a second one.
struct Confinement {
  /// Who the daemon becomes when nobody says otherwise.
  static let standardUser = "swivel"
  /// User and group where there is no `swivel`: a number that Debian's policy reserves and systemd leaves alone
  /// (65520 to 65533), so that no person, package or container has it.
  static let reservedUser: UInt32 = 65521

  let status: SecurityStatus
  let capabilities: Capabilities
  /// Whether root has become somebody else.
  let isOther: Bool
  /// Which directories Landlock's rules are tied to (`Directory.identity`), by path: those for sockets, and those of the
  /// configuration file. Empty where none are in force.
  let tied: (places: [String: String], folders: [String: String])

  /// Finds what would keep `init` from doing what was asked for by name.
  static func check(_ security: Configuration.Security) throws(ServiceError) {
    do {
      if case .named(let name) = security.user { _ = try Identity(named: name) }
    } catch {
      throw ServiceError(.refused, "security.user: \(error)")
    }
  }

  /// Gives up what `settings` have no need for, in this thread and all that it starts.
  ///
  /// - Parameters:
  ///   - file: the configuration file, which a reload reads again.
  ///   - clears: whether sockets that a daemon before has left are removed: not while it lives.
  ///   - opening: opens what will be out of reach, once the directories are there.
  init(
    _ settings: Configuration, file: String?, logger: Logger, clears: Bool = true,
    opening: () throws -> Void = {}
  ) throws {
    let security = settings.security
    if let threads = Confinement.threads, threads != 1 {
      logger.error(
        "security: \(threads - 1) threads are older than the daemon's limits, and have none")
    }
    let identity = try Confinement.identity(settings, logger: logger)
    let places = Confinement.places(settings)
    Confinement.prepare(places, sockets: clears ? Confinement.sockets(settings) : [], for: identity)
    try opening()

    var prepared: Landlock.Prepared?
    let abi = Landlock.abi
    if !security.landlock {
      logger.notice("security: no Landlock: the configuration turns it off")
    } else if abi == nil {
      logger.notice("security: no Landlock: the kernel has none in force")
    } else {
      prepared = try Confinement.paths(places, file: file).prepared()
    }

    if security != Confinement.nothing { try NewPrivileges.renounce() }
    if security.capabilities != .off { Confinement.renounceInheritance() }
    var becameOther = false
    if let identity {
      becameOther = try Confinement.assume(identity, for: security.user, logger: logger)
    }
    capabilities = try Confinement.drop(settings, file: file, places: places, logger: logger)
    try prepared?.enforce()
    if security.seccomp {
      try Confinement.systemCalls.enforce()
    } else {
      logger.notice("security: no seccomp: the configuration turns it off")
    }
    status = SecurityStatus(
      user: becameOther ? identity.map { "\($0)" } ?? "" : "\(geteuid())",
      capabilities: capabilities.names, seccomp: security.seccomp,
      landlock: prepared == nil ? nil : abi,
      directories: prepared.map { _ in places.compactMap(Directory.resolved).sorted() })
    isOther = becameOther
    let folders =
      file.map { Set([Directory.of($0), Directory.of(Directory.resolved($0) ?? $0)]) } ?? []
    func identities(_ paths: some Sequence<String>) -> [String: String] {
      prepared == nil ? [:] : paths.reduce(into: [:]) { $0[$1] = Directory.identity($1) }
    }
    tied = (identities(places.compactMap(Directory.resolved)), identities(folders))
    logger.info("security: \(status.description)")
  }

  /// Every part off.
  private static let nothing = Configuration.Security(
    user: .off, capabilities: .off, seccomp: false, landlock: false)

  private static var threads: Int? {
    let line = SmallFile.read("/proc/self/status")?.split(separator: "\n").first {
      $0.hasPrefix("Threads:")
    }
    return line?.split(whereSeparator: \.isWhitespace).last.flatMap { Int($0) }
  }

  // ---- Places ----

  /// The sockets that the daemon makes from its configuration.
  static func sockets(_ settings: Configuration) -> [String] {
    settings.controlSockets.map(\.path) + settings.ports.compactMap(\.listening?.path)
  }

  /// The directories in which it may make them, and others later.
  static func places(_ settings: Configuration) -> [String] {
    var places: [String] = []
    for place in sockets(settings).map(Directory.of) + settings.security.directories
    where !places.contains(place) {
      places.append(place)
    }
    return places
  }

  /// Does what takes the power to do it: makes the directories, and gives those that are the daemon's own to the
  /// user it becomes; removes sockets that a daemon of another user left.
  private static func prepare(_ places: [String], sockets: [String], for identity: Identity?) {
    let runtime = ProcessInfo.processInfo.environment["RUNTIME_DIRECTORY"] ?? ""
    let own = Set(runtime.split(separator: ":").map(String.init)).union([
      Directory.of(defaultControlSocket)
    ])
    for place in places {
      let made = Directory.make(place)
      guard let identity, made || own.contains(place) else { continue }
      Directory.give(place, of: [geteuid(), reservedUser], to: identity)
    }
    if identity != nil {
      // What stands in the way otherwise is reported when the socket is made.
      for socket in sockets { try? UnixListener.clear(socket) }
    }
    // Done now, these read their files and load their libraries while there is a way to them.
    tzset()
    _ = try? Identity(named: "no-such-user.")
    _ = try? Identity.group(named: "no-such-group.")
  }
}

extension PortRequest {
  /// The socket that the daemon makes for this port.
  var listening: PortSocket? { socket.flatMap { $0.isMade ? $0 : nil } }
}
