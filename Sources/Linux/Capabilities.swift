internal import CLinux

/// Pieces of root's power (capabilities(7)).
public struct Capabilities: OptionSet, Sendable, Hashable, CustomStringConvertible {
  public let rawValue: UInt64

  public init(rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// The bits are the kernel's numbers (linux/capability.h).
  public static let chown = Capabilities(rawValue: 1 << 0)
  public static let dacOverride = Capabilities(rawValue: 1 << 1)
  public static let dacReadSearch = Capabilities(rawValue: 1 << 2)
  public static let fowner = Capabilities(rawValue: 1 << 3)
  public static let setgid = Capabilities(rawValue: 1 << 6)
  public static let setuid = Capabilities(rawValue: 1 << 7)
  public static let setpcap = Capabilities(rawValue: 1 << 8)
  public static let netAdmin = Capabilities(rawValue: 1 << 12)
  public static let ipcLock = Capabilities(rawValue: 1 << 14)
  public static let sysNice = Capabilities(rawValue: 1 << 23)

  /// Those a switch can have a use for, by name.
  public static let named: KeyValuePairs<String, Capabilities> = [
    "chown": .chown, "dac-override": .dacOverride, "dac-read-search": .dacReadSearch,
    "fowner": .fowner, "net-admin": .netAdmin, "ipc-lock": .ipcLock, "sys-nice": .sysNice,
  ]

  /// The names, ascending by number; a capability without one here is `cap-NUMBER`.
  public var names: [String] {
    (0..<64).compactMap { bit in
      let one = Capabilities(rawValue: 1 << UInt64(bit))
      guard contains(one) else { return nil }
      return Capabilities.named.first { $0.value == one }?.key ?? "cap-\(bit)"
    }
  }

  public var description: String { isEmpty ? "none" : names.joined(separator: " ") }

  /// What the calling thread may use, and what it uses.
  public static func current() throws(SystemError) -> (
    permitted: Capabilities, effective: Capabilities
  ) {
    var permitted: UInt64 = 0
    var effective: UInt64 = 0
    // SAFETY: the call writes the two locals.
    try SystemError.check(
      unsafe clx_capabilities_get(&permitted, &effective), "read the capabilities")
    return (Capabilities(rawValue: permitted), Capabilities(rawValue: effective))
  }

  /// Gives up all of the calling thread's capabilities but these, of which it uses `effective`. Fails with
  /// `.notPermitted` for one that it does not have.
  public func keep(effective: Capabilities) throws(SystemError) {
    try SystemError.check(
      clx_capabilities_set(rawValue, effective.rawValue), "give up capabilities")
  }

  /// Empties the ambient and the bounding set: nothing that this process might run gets a capability by being
  /// run. Fails with `.notPermitted` without CAP_SETPCAP, the ambient set being empty all the same.
  public static func renounceInheritance() throws(SystemError) {
    try SystemError.check(clx_capabilities_renounce(), "empty the bounding set")
  }
}

/// Privileges that the execution of a program would give (set-user-ID, file capabilities).
public enum NewPrivileges {
  /// No more, for this thread and those it starts. What Landlock and seccomp ask of who has no privileges.
  public static func renounce() throws(SystemError) {
    try SystemError.check(clx_no_new_privileges(), "set no_new_privs")
  }
}
