internal import ControlAPI
internal import Glibc
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

  func listen() throws -> UnixListener {
    if let wrong = socketPathFault(path) {
      throw ServiceError(.invalid, "the control socket's path \(wrong)")
    }
    var bits: UInt32 = 0o600
    if let permissions {
      guard let parsed = permissionBits(permissions) else {
        throw ServiceError(
          .invalid,
          "the control socket's permissions must be octal, as in '0660', not \(quoted(permissions))"
        )
      }
      bits = parsed
    }
    // The last directory only: /run is emptied at every start, and /run/swivel would be missing after it.
    // A failure shows in the next step, with a better reason.
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      // SAFETY: the string lives through the call.
      _ = unsafe mkdir(String(path[..<slash]), 0o755)
    }
    return try UnixListener(
      path: path, owner: owner, group: group, permissions: bits, backlog: 64)
  }
}
