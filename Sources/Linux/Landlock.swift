internal import CLinux
internal import Glibc
internal import SystemPackage

/// Rules of which paths a thread, and those it starts, may use, and how (landlock(7)). What no rule allows is
/// denied with EACCES; so are TCP, and signals and abstract sockets to the outside, where the kernel can.
public struct Landlock: Sendable, Equatable {
  /// What one may do with a file or directory; the bits are the kernel's (linux/landlock.h).
  public struct Access: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
      self.rawValue = rawValue
    }

    public static let writeFile = Access(rawValue: 1 << 1)
    public static let readFile = Access(rawValue: 1 << 2)
    public static let readDirectory = Access(rawValue: 1 << 3)
    public static let removeFile = Access(rawValue: 1 << 5)
    public static let makeDirectory = Access(rawValue: 1 << 7)
    public static let makeSocket = Access(rawValue: 1 << 9)
    public static let deviceControl = Access(rawValue: 1 << 15)

    /// What a rule for something that is no directory may say.
    static let ofFiles: Access = [
      .writeFile, .readFile, .deviceControl, Access(rawValue: 1 << 0), Access(rawValue: 1 << 14),
    ]

    /// All that the kernel can deny: executing, reading, writing, making and removing of everything from ABI 1,
    /// moving between directories (2), truncating (3), control of devices (5).
    static func all(abi: Int) -> Access {
      var bits: UInt64 = (1 << 13) - 1
      if abi >= 2 { bits |= 1 << 13 }
      if abi >= 3 { bits |= 1 << 14 }
      if abi >= 5 { bits |= 1 << 15 }
      return Access(rawValue: bits)
    }
  }

  public struct Rule: Sendable, Equatable {
    /// A file, or a directory with all that is below it. A rule is about what is there when it comes into
    /// force: a file that takes the name later is not meant.
    public var path: String
    public var access: Access

    public init(_ path: String, _ access: Access) {
      self.path = path
      self.access = access
    }
  }

  public var rules: [Rule]
  /// Whether abstract Unix sockets of others are out of reach (ABI 6).
  public var scopesAbstractSockets = true

  public init(rules: [Rule]) {
    self.rules = rules
  }

  /// What the kernel knows of Landlock; `nil`: it has none, or none in force.
  public static var abi: Int? {
    let abi = Int(clx_landlock_abi())
    return abi > 0 ? abi : nil
  }

  /// Rules that wait to come into force: their paths are looked up while one may still look.
  public struct Prepared: Sendable {
    let rules: OwnedFD

    /// Puts them into force, for good, for the calling thread and those it starts. Needs no_new_privs.
    public func enforce() throws(SystemError) {
      try SystemError.check(clx_landlock_restrict(rules.raw), "restrict this thread by Landlock")
    }
  }

  /// Looks the rules' paths up; one that is not there is left out. Fails with `.noFunction` where the kernel has no
  /// Landlock.
  public func prepared() throws(SystemError) -> Prepared {
    guard let abi = Landlock.abi else {
      throw SystemError("use Landlock", errno: .noFunction)
    }
    let all = Access.all(abi: abi)
    // LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP; LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL.
    let scoped: UInt64 = abi >= 6 ? (scopesAbstractSockets ? 3 : 2) : 0
    let rules = OwnedFD(
      taking: try SystemError.check(
        clx_landlock_create(all.rawValue, abi >= 4 ? 3 : 0, scoped), "make Landlock rules"))
    for rule in self.rules {
      // SAFETY: reads the string during the call.
      let opened = unsafe clx_open_path(rule.path)
      if opened == -ENOENT || opened == -ENOTDIR { continue }
      let path = OwnedFD(
        taking: try SystemError.check(opened, "look up \(rule.path) for Landlock"))
      let isDirectory = clx_is_directory(path.raw) == 1
      let access = rule.access.intersection(isDirectory ? all : all.intersection(.ofFiles))
      try SystemError.check(
        clx_landlock_allow(rules.raw, path.raw, access.rawValue), "allow \(rule.path) by Landlock")
    }
    return Prepared(rules: rules)
  }
}
