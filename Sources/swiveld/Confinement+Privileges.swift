import Configuration
import Control
import ControlAPI
import Glibc
import Linux
import Logging

/// Who the daemon becomes, and which capabilities it keeps.
extension Confinement {
  /// Who to become, with the groups that the configuration gives to sockets: whoever is in a group may give his
  /// files to it. `nil`: nobody else, as the configuration or the want of root has it.
  static func identity(_ settings: Configuration, logger: Logger) throws -> Identity? {
    if settings.security.user == .off {
      logger.notice("security: stays user \(geteuid()): the configuration says so")
      return nil
    }
    guard geteuid() == 0 else {
      if case .named(let name) = settings.security.user, try Identity.user(named: name) != geteuid()
      {
        logger.notice("security: stays user \(geteuid()): only root can become '\(name)'")
      }
      return nil
    }
    guard try Capabilities.current().permitted.isSuperset(of: [.setuid, .setgid]) else {
      logger.notice("security: stays root: it was started without CAP_SETUID and CAP_SETGID")
      return nil
    }
    var identity: Identity
    if case .named(let name) = settings.security.user {
      identity = try Identity(named: name)
      if identity.user == 0 { return nil }
    } else if let standard = try? Identity(named: standardUser) {
      identity = standard
    } else {
      identity = Identity(user: reservedUser, group: reservedUser)
      logger.info(
        "security: there is no user '\(standardUser)': the daemon becomes number \(reservedUser)")
    }
    let named = settings.controlSockets.map(\.group) + settings.ports.map { $0.listening?.group }
    let groups = try Set(named.compactMap(\.self).map { try Identity.group(named: $0) })
    identity.groups = Set(identity.groups).union(groups).sorted()
    return identity
  }

  /// Becomes that user, and says whether it did. Where the kernel has no such user to give (a user namespace), the
  /// standard one is no reason not to start.
  static func assume(
    _ identity: Identity, for user: Configuration.Security.User, logger: Logger
  ) throws -> Bool {
    do {
      try identity.assume()
      return true
    } catch {
      guard user == .standard else { throw error }
      logger.notice("security: stays root: \(error)")
      return false
    }
  }

  static func renounceInheritance() {
    // Without CAP_SETPCAP the bounding set stays, and no_new_privs has to do.
    try? Capabilities.renounceInheritance()
  }

  /// Keeps the capabilities that are needed, and returns them.
  static func drop(
    _ settings: Configuration, file: String?, places: [String], logger: Logger
  ) throws -> Capabilities {
    let permitted = try Capabilities.current().permitted
    let kept: Capabilities
    switch settings.security.capabilities {
    case .off:
      logger.notice("security: keeps all capabilities: the configuration says so")
      kept = permitted
    case .only(let names):
      let wanted = Capabilities(
        names.compactMap { name in Capabilities.named.first { $0.key == name }?.value })
      if !permitted.isSuperset(of: wanted) {
        logger.notice(
          "security: it was started without \(wanted.subtracting(permitted)), which security.capabilities names"
        )
      }
      kept = wanted.intersection(permitted)
    case .automatic:
      // With none in use the kernel itself says what the user alone may do.
      try permitted.keep(effective: [])
      var needs = needs(settings, file: file, places: places)
      needs.removeAll { !permitted.isSuperset(of: $0.capability) }
      for need in needs {
        guard let why = need.why else { continue }
        logger.notice("security: keeps \(need.capability): \(why)")
      }
      kept = Capabilities(needs.map(\.capability))
    }
    try kept.keep(effective: kept)
    return kept
  }

  /// A capability, and why it is needed where that is not a matter of course.
  typealias Need = (capability: Capabilities, why: String?)

  /// What the configuration needs, by what this process may do with no capability in use.
  private static func needs(_ settings: Configuration, file: String?, places: [String]) -> [Need] {
    // For the ports of the file alone: what power others would need that are added later, somebody must ask for.
    let ports = settings.ports.reduce(into: SystemNeeds()) { $0 += $1.needs }
    var needs: [Need] = Capabilities.named.filter { ports.capabilities.contains($0.key) }.map {
      ($0.value, nil)
    }
    let listening = settings.ports.compactMap(\.listening)
    if settings.controlSockets.contains(where: { $0.owner != nil })
      || listening.contains(where: { $0.owner != nil })
    {
      needs.append((.chown, "sockets are to have other owners"))
      // A file of another user's that nobody but he could remove.
      if let place = places.first(where: Directory.isSticky) {
        needs.append((.fowner, "to remove sockets of other owners in \(place)"))
      }
    }
    if let why = overriding(settings, places: places) {
      needs.append((.dacOverride, why))
    } else if let file, !PathAccess.read.isGranted(at: file) {
      needs.append((.dacReadSearch, "\(file) is not for its user to read"))
    }
    return needs
  }

  /// Whether two sections come to the same: what was given up is not to be had again.
  func isSame(_ next: Configuration.Security, _ now: Configuration.Security) -> Bool {
    func user(_ security: Configuration.Security) -> String {
      switch security.user {
      case .off: "off"
      case .named(let name): (try? Identity.user(named: name)).map(String.init) ?? name
      case .standard:
        "\((try? Identity.user(named: Confinement.standardUser)) ?? Confinement.reservedUser)"
      }
    }
    func names(_ security: Configuration.Security) -> Set<String>? {
      switch security.capabilities {
      case .off: nil
      case .automatic: Set(capabilities.names)
      case .only(let names): Set(names)
      }
    }
    func places(_ security: Configuration.Security) -> Set<String> {
      Set(security.directories.map { Directory.resolved($0) ?? $0 })
    }
    return user(next) == user(now) && names(next) == names(now) && next.seccomp == now.seccomp
      && next.landlock == now.landlock && places(next) == places(now)
  }

  private static func overriding(_ settings: Configuration, places: [String]) -> String? {
    let writing: PathAccess = [.write, .search]
    if let place = places.first(where: { !writing.isGranted(at: $0) }) {
      return "\(place) is not for its user to make sockets in"
    }
    // One that is there and for its user to write is taken to be so as well when its front-end has made it anew.
    if let port = settings.ports.first(where: { port in
      port.socket.map { !$0.isMade && !PathAccess.write.isGranted(at: $0.path) } ?? false
    }) {
      return "port '\(port.name)' connects to a socket that is its front-end's"
    }
    let devices = settings.ports.reduce(into: SystemNeeds()) { $0 += $1.needs }.devices
    for device in devices
    where PathAccess().isGranted(at: device) && !PathAccess([.read, .write]).isGranted(at: device) {
      return "\(device) is not for its user to open"
    }
    return nil
  }
}
