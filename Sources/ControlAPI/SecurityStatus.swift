/// What the daemon has given up: part of `GET /v1/stats`.
public struct SecurityStatus: Codable, Sendable, Equatable {
  /// The user it runs as, by name (and number) or number.
  public var user: String
  /// The capabilities it has left, as in `net-admin`.
  public var capabilities: [String]
  /// Whether a filter of system calls is in force.
  public var seccomp: Bool
  /// The ABI of the Landlock that is in force; `nil`: none is.
  public var landlock: Int?
  /// The directories in which sockets can be made; `nil`: Landlock sets no limit.
  public var directories: [String]?

  public init(
    user: String, capabilities: [String], seccomp: Bool, landlock: Int? = nil,
    directories: [String]? = nil
  ) {
    self.user = user
    self.capabilities = capabilities
    self.seccomp = seccomp
    self.landlock = landlock
    self.directories = directories
  }

  /// One line for a person.
  public var description: String {
    let capabilities = capabilities.isEmpty ? "none" : capabilities.joined(separator: " ")
    let landlock = landlock.map { "Landlock ABI \($0)" } ?? "Landlock off"
    return
      "user \(user), capabilities \(capabilities), seccomp \(seccomp ? "on" : "off"), \(landlock)"
  }
}
