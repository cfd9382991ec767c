import ControlAPI
import Foundation
import Linux

/// What Landlock leaves within reach.
extension Confinement {
  /// Reads the configuration, the users, the machine and itself; opens the devices of ports; makes sockets in `places`.
  static func paths(_ places: [String], file: String?) -> Landlock {
    var rules: [Landlock.Rule] = []
    if let file {
      // Its directory: a reload finds another file under the name. And that of the file itself, if it is a link.
      let real = Directory.resolved(file) ?? file
      for directory in Set([Directory.of(file), Directory.of(real)]).sorted() {
        rules.append(.init(directory, .readFile))
      }
    }
    for path in ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"] {
      rules.append(.init(path, .readFile))
    }
    // Dispatch asks how its threads are, and ends the process when it is not told; each has a directory of its own
    // here. Those of other processes say little to who is not their user.
    rules.append(.init("/proc", .readFile))
    // The C library and libnuma ask for processors and nodes, the arenas for pages.
    for path in ["/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm"] {
      rules.append(.init(path, [.readFile, .readDirectory]))
    }
    rules.append(.init("/dev/null", [.readFile, .writeFile]))
    for device in PortKind.needs.devices {
      rules.append(.init(device, [.readFile, .writeFile, .deviceControl]))
    }
    for place in places {
      rules.append(.init(place, [.makeSocket, .removeFile, .makeDirectory]))
    }
    var landlock = Landlock(rules: rules)
    // A service manager may listen at an abstract address, which is outside of any scope.
    let notify = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"] ?? ""
    landlock.scopesAbstractSockets = !notify.hasPrefix("@")
    return landlock
  }

  /// What a port that could not be made may have lacked, and which line of the configuration lets it have it. Not said
  /// before it was tried: a TAP that is there and the user's own takes no capability.
  func lack(of request: PortRequest) -> String? {
    var lacking = request.needs.capabilities.filter { !capabilities.names.contains($0) }
    let isDenied = request.needs.devices.contains { device in
      PathAccess().isGranted(at: device) && !PathAccess([.read, .write]).isGranted(at: device)
    }
    if isDenied { lacking.append("dac-override") }
    if lacking.isEmpty { return nil }
    let names = lacking.joined(separator: ", ")
    return
      "the daemon has no \(names), which it keeps for the ports of its configuration alone; "
      + "name \(names) in security.capabilities (as in [\((capabilities.names + lacking).joined(separator: ", "))]) and restart it"
  }

  /// Finds what the daemon could have done before it gave up what it has: the kernel would say no more than
  /// "permission denied".
  func check(_ request: PortRequest) throws(ServiceError) {
    guard let socket = request.listening else { return try checkConnecting(request) }
    func refusal(_ why: String) -> ServiceError {
      ServiceError(.refused, "port '\(request.name)': \(why)")
    }
    let folder = Directory.of(socket.path)
    if let allowed = status.directories, let real = Directory.resolved(folder),
      !allowed.contains(where: { real == $0 || $0 == "/" || real.hasPrefix($0 + "/") })
    {
      throw refusal(
        "sockets can be made in \(allowed.joined(separator: ", ")) only, not in \(folder); "
          + "name it in security.directories and restart the daemon")
    }
    if let real = Directory.resolved(folder), Confinement.isLost(real, tied.places) {
      throw refusal(
        "the directory \(folder) was made anew, or replaced, since the daemon started, and its limits (Landlock) are "
          + "tied to the old one: restart the daemon; a directory named in security.directories may have others in it that "
          + "come and go")
    }
    let exists = PathAccess().isGranted(at: folder)
    if exists, !PathAccess([.write, .search]).isGranted(at: folder) {
      throw refusal("user \(status.user) may not make sockets in \(folder)")
    }
    if capabilities.contains(.chown) { return }
    let own = Identity.current
    let owner = try? socket.owner.map { try Identity.user(named: $0) }
    if let owner, owner != own.user {
      throw refusal(
        "the daemon gave up CAP_CHOWN, and can't give the socket to '\(socket.owner ?? "")'; "
          + "name chown in security.capabilities and restart it")
    }
    let group = try? socket.group.map { try Identity.group(named: $0) }
    if let group, !own.isMember(of: group) {
      throw refusal(
        "the daemon is not in the group '\(socket.group ?? "")', and can't give the socket to it; "
          + "put its user there, or name chown in security.capabilities, and restart it")
    }
  }

  /// Whether a path lies in no directory that is still the one to which Landlock's rules are tied.
  private static func isLost(_ path: String, _ tied: [String: String]) -> Bool {
    if tied.isEmpty { return false }
    var folder = path
    while true {
      if let identity = tied[folder], identity == Directory.identity(folder) { return false }
      if folder == "/" { return true }
      folder = Directory.of(folder)
    }
  }

  /// Why the configuration file, which is there, can't be read any more, if that is the limits' doing.
  func loss(of file: String) -> String? {
    let real = Directory.resolved(file) ?? file
    guard PathAccess().isGranted(at: file), Confinement.isLost(Directory.of(real), tied.folders)
    else { return nil }
    return
      "it is in a directory that was made anew, or replaced, since the daemon started, and the daemon's limits (Landlock) "
      + "are tied to the old one: restart it"
  }

  // ---- Sockets of front-ends, to which the daemon connects ----

  /// Finds a front-end's socket that is there and that the daemon may not connect to.
  private func checkConnecting(_ request: PortRequest) throws(ServiceError) {
    guard let path = request.socket?.path, let why = hindrance(to: path), why.isSure else { return }
    throw ServiceError(.refused, "port '\(request.name)': \(why.text)")
  }

  /// What keeps the daemon from connecting to a front-end's socket, and what to do; or what may, as long as there is none
  /// (`isSure` is false). `nil`: nothing.
  func hindrance(to path: String) -> (text: String, isSure: Bool)? {
    if capabilities.contains(.dacOverride) { return nil }
    let remedy =
      "put its user into the socket's group, or name dac-override in security.capabilities (as in "
      + "[\((capabilities.names + ["dac-override"]).joined(separator: ", "))]) and restart it"
    switch PathAccess.write.answer(at: path) {
    case .granted: return nil
    case .denied:
      return (
        "the daemon's user \(status.user) may not write to \(path), and so not connect; \(remedy)",
        true
      )
    case .absent:
      // Whoever starts both as himself has nothing to fear.
      if !isOther { return nil }
      return (
        "once there is a socket, the daemon's user \(status.user) must be allowed to write to it, for it has no "
          + "dac-override; if not: \(remedy)", false
      )
    }
  }
}
