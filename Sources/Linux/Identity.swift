internal import CLinux
internal import Glibc
internal import SystemPackage

/// A user and the groups a process is in.
public struct Identity: Sendable, Equatable, CustomStringConvertible {
  /// Empty: none is known.
  public var name: String
  public var user: UInt32
  public var group: UInt32
  /// Supplementary groups, ascending; the primary one may be among them.
  public var groups: [UInt32]

  public init(name: String = "", user: UInt32, group: UInt32, groups: [UInt32] = []) {
    self.name = name
    self.user = user
    self.group = group
    self.groups = groups
  }

  public var description: String {
    name.isEmpty || name == "\(user)" ? "\(user)" : "\(name) (\(user))"
  }

  public func isMember(of group: UInt32) -> Bool { group == self.group || groups.contains(group) }

  /// More than the kernel lets a process be in (NGROUPS_MAX).
  private static let groupLimit = 65536

  /// This process's, by its effective ids.
  public static var current: Identity {
    var groups = [UInt32](repeating: 0, count: groupLimit)
    // SAFETY: writes at most the array's length into it.
    let count = unsafe clx_own_groups(&groups, CInt(groups.count))
    return Identity(
      user: geteuid(), group: getegid(), groups: groups.prefix(max(0, Int(count))).sorted())
  }

  /// The user called `name` (or numbered so) with all of its groups; fails with `.noSuchFileOrDirectory` when
  /// there is none of that name. A number needs no name, and is its own group then.
  public init(named name: String) throws(SystemError) {
    var user: UInt32 = 0
    var group: UInt32 = 0
    // SAFETY: the call writes the two locals.
    try SystemError.check(unsafe clx_user_ids(name, &user, &group), "find the user '\(name)'")
    var groups = [UInt32](repeating: 0, count: Identity.groupLimit)
    // SAFETY: writes at most the array's length into it.
    let count = try SystemError.check(
      unsafe clx_user_groups(name, group, &groups, CInt(groups.count)),
      "find the groups of the user '\(name)'")
    self.init(name: name, user: user, group: group, groups: groups.prefix(Int(count)).sorted())
  }

  /// The number of the group called `name`, or numbered so.
  public static func group(named name: String) throws(SystemError) -> UInt32 {
    UInt32(
      clamping: try SystemError.check(unsafe clx_group_id(name), "find the group '\(name)'"))
  }

  /// The number of the user called `name`, or numbered so.
  public static func user(named name: String) throws(SystemError) -> UInt32 {
    UInt32(clamping: try SystemError.check(unsafe clx_user_id(name), "find the user '\(name)'"))
  }

  /// Makes the whole process this user's, for good. Its permitted capabilities stay, but none is in use any
  /// more. Needs CAP_SETUID and CAP_SETGID; fails with `.invalidArgument` where a user namespace has no such
  /// user.
  public func assume() throws(SystemError) {
    // SAFETY: reads the array during the call.
    try SystemError.check(
      unsafe clx_become(user, group, groups, CInt(clamping: groups.count)),
      "become user \(self)")
  }

  /// Who is at the other end of a Unix socket: user and groups as they were when it connected.
  public static func peer(of socket: OwnedFD) throws(SystemError) -> (pid: Int, identity: Identity)
  {
    guard let peer = UnixSocket.peer(socket) else {
      throw SystemError("ask who is at the other end", errno: .notSupported)
    }
    var groups = [UInt32](repeating: 0, count: 64)
    var count: CInt = -ERANGE
    while count == -ERANGE, groups.count <= Identity.groupLimit {
      // SAFETY: writes at most the array's length into it.
      count = unsafe clx_peer_groups(socket.raw, &groups, CInt(groups.count))
      if count == -ERANGE { groups = [UInt32](repeating: 0, count: groups.count * 32) }
    }
    // A kernel without the question (before 4.13) tells of no groups.
    return (
      peer.pid,
      Identity(
        user: peer.uid, group: peer.gid, groups: groups.prefix(max(0, Int(count))).sorted())
    )
  }
}
