internal import ControlAPI
internal import Linux

/// Where the control server listens, and who may talk to it.
public struct ControlSocket: Sendable, Equatable {
  /// Absolute path, at most 107 bytes.
  public var path: String
  /// User that owns the socket, by name or number; `nil`: the daemon's own.
  public var owner: String?
  /// Group of the socket, by name or number; `nil`: the daemon's own.
  public var group: String?
  /// Permission bits in octal; `nil`: `"0600"`. Whoever may write to the socket may change the switch.
  public var permissions: String?

  public init(
    path: String, owner: String? = nil, group: String? = nil, permissions: String? = nil
  ) {
    self.path = path
    self.owner = owner
    self.group = group
    self.permissions = permissions
  }

  /// Who may ask, by user and group, whatever the mode of the file has become.
  func peers() throws -> ControlPeers {
    let own = Identity.current
    var users: Set<UInt32> = [0, own.user]
    if let owner { users.insert(try Identity.user(named: owner)) }
    // The group's bit says whether its members are meant.
    let bits = permissions.flatMap(permissionBits) ?? ControlSocket.standardPermissions
    if bits & 0o020 == 0 { return ControlPeers(users: users, group: nil) }
    return ControlPeers(
      users: users, group: try group.map { try Identity.group(named: $0) } ?? own.group)
  }

  /// The same with everything written out, each value in one way, for comparing with another.
  public func spelledOut() -> ControlSocket {
    let own = Identity.current
    let bits = permissions.flatMap(permissionBits) ?? ControlSocket.standardPermissions
    return ControlSocket(
      path: Directory.place(path),
      owner: owner.map { name in (try? Identity.user(named: name)).map(String.init) ?? name }
        ?? "\(own.user)",
      group: group.map { name in (try? Identity.group(named: name)).map(String.init) ?? name }
        ?? "\(own.group)",
      permissions: String(bits, radix: 8))
  }

  /// Finds what would keep the server from listening here, short of trying.
  public func check() throws {
    try UnixListener.check(path: path, owner: owner, group: group)
  }

  private static let standardPermissions: UInt32 = 0o600

  func listen() throws -> UnixListener {
    if let wrong = socketPathFault(path) {
      throw ServiceError(.invalid, "the control socket's path \(wrong)")
    }
    var bits = ControlSocket.standardPermissions
    if let permissions {
      guard let parsed = permissionBits(permissions) else {
        throw ServiceError(
          .invalid,
          "the control socket's permissions must be octal, as in '0660', not \(quoted(permissions))"
        )
      }
      bits = parsed
    }
    return try UnixListener(
      path: path, owner: owner, group: group, permissions: bits, backlog: 64)
  }
}

/// Users and a group, of which a client of the control interface must be one or a member.
struct ControlPeers: Sendable, Equatable {
  var users: Set<UInt32>
  /// `nil`: users alone.
  var group: UInt32?

  func allow(_ identity: Identity) -> Bool {
    users.contains(identity.user) || group.map(identity.isMember) == true
  }
}
