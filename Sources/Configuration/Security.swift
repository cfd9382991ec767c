extension Configuration {
  /// What the daemon gives up once it has started. All of it by default; each part can be turned off.
  public struct Security: Sendable, Equatable {
    /// Who the daemon becomes, if root started it.
    public enum User: Sendable, Equatable {
      /// `swivel`, where there is such a user, else a number that belongs to nobody.
      case standard
      /// This one, by name or number.
      case named(String)
      /// Nobody else.
      case off
    }

    public enum Capabilities: Sendable, Equatable {
      /// Those that the rest of the configuration needs.
      case automatic
      /// These, by name.
      case only([String])
      /// Those it was started with.
      case off

      /// The names that there are.
      public static let names = [
        "chown", "dac-override", "dac-read-search", "fowner", "net-admin", "ipc-lock", "sys-nice",
      ]
    }

    public var user = User.standard
    public var capabilities = Capabilities.automatic
    /// Whether a filter of system calls is in force.
    public var seccomp = true
    /// Whether the paths and networks within reach are limited by Landlock.
    public var landlock = true
    /// Directories for the sockets of ports that are added later, absolute; those of the configured sockets are
    /// taken anyway.
    public var directories: [String] = []

    public init(
      user: User = .standard, capabilities: Capabilities = .automatic, seccomp: Bool = true,
      landlock: Bool = true, directories: [String] = []
    ) {
      self.user = user
      self.capabilities = capabilities
      self.seccomp = seccomp
      self.landlock = landlock
      self.directories = directories
    }
  }
}
