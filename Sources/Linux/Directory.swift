internal import Glibc

/// Directories, and what this process may do in them.
public enum Directory {
  /// The directory that `path` is in.
  public static func of(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Makes the last directory of `path`, no more; says whether it did. A failure shows when the directory is used,
  /// with a better reason.
  @discardableResult
  public static func make(_ path: String) -> Bool {
    guard unsafe mkdir(path, 0o755) == 0 else { return false }
    // Whatever the umask: who may reach what is in it is for the sockets to say.
    _ = unsafe chmod(path, 0o755)
    return true
  }

  /// Which directory it is, whatever its name: another one under the same name has another. `nil`: none is there.
  public static func identity(_ path: String) -> String? {
    var status = stat()
    // SAFETY: fills the local.
    return unsafe stat(path, &status) == 0 ? "\(status.st_dev):\(status.st_ino)" : nil
  }

  /// The path of what is, or may come to be, in a directory: links of the directory are followed, and what is there
  /// under the last name is not looked at. The path as it is when there is no such directory.
  public static func place(_ path: String) -> String {
    guard let folder = real(of(path)), let last = path.split(separator: "/").last else {
      return path
    }
    return folder == "/" ? "/\(last)" : "\(folder)/\(last)"
  }

  /// Gives a directory that belongs to one of `owners` to another user and the user's group. A link to one is left
  /// alone, as is what is no directory.
  public static func give(_ path: String, of owners: Set<UInt32>, to identity: Identity) {
    let raw = unsafe open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if raw < 0 { return }
    let directory = OwnedFD(taking: raw)
    var status = stat()
    // SAFETY: fills the local.
    guard unsafe fstat(directory.raw, &status) == 0, owners.contains(status.st_uid) else { return }
    _ = fchown(directory.raw, identity.user, identity.group)
  }

  /// The path without links, "." and ".."; its last part need not be there. `nil`: nor is what is before it.
  public static func resolved(_ path: String) -> String? {
    if let whole = real(path) { return whole }
    guard let parent = real(of(path)), let last = path.split(separator: "/").last else {
      return nil
    }
    return parent == "/" ? "/\(last)" : "\(parent)/\(last)"
  }

  private static func real(_ path: String) -> String? {
    // SAFETY: the string that the call allocates is copied, then freed.
    guard let bytes = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(bytes) }
    return unsafe String(cString: bytes)
  }

  /// Whether only its owner, the file's owner and CAP_FOWNER may remove a file there.
  public static func isSticky(_ path: String) -> Bool {
    var status = stat()
    // SAFETY: fills the local.
    return unsafe stat(path, &status) == 0 && status.st_mode & 0o1000 != 0
  }
}

/// What this process may do with a path, by its effective user, groups and capabilities.
public struct PathAccess: OptionSet, Sendable {
  public let rawValue: CInt

  public init(rawValue: CInt) {
    self.rawValue = rawValue
  }

  public static let read = PathAccess(rawValue: R_OK)
  public static let write = PathAccess(rawValue: W_OK)
  /// Of a directory: to reach what is in it.
  public static let search = PathAccess(rawValue: X_OK)

  public enum Answer: Sendable {
    case granted, denied
    /// Nothing is there.
    case absent
  }

  /// As `isGranted`, with the reason why not.
  public func answer(at path: String) -> Answer {
    if isGranted(at: path) { return .granted }
    return errno == ENOENT || errno == ENOTDIR ? .absent : .denied
  }

  /// Whether all of it is granted at `path`.
  public func isGranted(at path: String) -> Bool {
    unsafe faccessat(AT_FDCWD, path, rawValue, AT_EACCESS) == 0
  }
}
