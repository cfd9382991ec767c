internal import CLinux
internal import Glibc
internal import SystemPackage

/// A listening Unix socket and its file. The file is removed with the listener, unless somebody has
/// replaced it meanwhile.
public final class UnixListener: Sendable {
  public let path: String
  public let descriptor: OwnedFD
  /// The file's.
  public let inode: UInt64
  /// Whether the file goes with this listener: not while another process has it.
  private let owns: Lock<Bool>
  /// Where the file is for the time being, when it is not at `path`.
  private let aside: Lock<String?>

  /// Listens at `path`. A socket file that nobody listens on is replaced; one that answers, or a file
  /// that is no socket, is left alone and reported.
  ///
  /// - Parameters:
  ///   - owner, group: by name or number; `nil` leaves the process's own.
  ///   - permissions: permission bits of the file; it is never more open than this, not even for a moment.
  ///   - aside: whether the file has a name beside `path` at first, where another one listens until `takePlace`: so
  ///     everything that can fail has been done while nothing is lost yet.
  public init(
    path: String, owner: String? = nil, group: String? = nil, permissions: UInt32 = 0o600,
    backlog: Int = 16, aside: Bool = false
  ) throws(SystemError) {
    self.path = path
    owns = Lock(true)
    let file = aside ? UnixListener.neighbour(of: path) : path
    self.aside = Lock(aside ? file : nil)
    let uid = try UnixListener.id(owner, "user") { unsafe clx_user_id($0) }
    let gid = try UnixListener.id(group, "group") { unsafe clx_group_id($0) }
    // The last directory only: /run is emptied at every start, and /run/swivel would be missing after it.
    Directory.make(Directory.of(path))
    try UnixListener.clear(file)
    let socket = try SystemError.check(
      unsafe clx_unix_bind(file, permissions), "listen at \(path)")
    descriptor = OwnedFD(taking: socket)
    do throws(SystemError) {
      // The umask may have taken bits away that were asked for. Before the file is another's, whose mode only
      // CAP_FOWNER might change.
      try SystemError.check(unsafe clx_chmod(file, permissions), "set the mode of \(path)")
      if owner != nil || group != nil {
        try SystemError.check(unsafe clx_chown(file, uid, gid), "change the owner of \(path)")
      }
      try SystemError.check(clx_listen(socket, CInt(clamping: backlog)), "listen at \(path)")
      inode = UnixListener.inode(of: file)
    } catch {
      unsafe unlink(file)
      throw error
    }
  }

  /// Takes a listener that another process has made and still has. Its file stays whatever becomes of this one, until `own`.
  public init(taking descriptor: OwnedFD, path: String, inode: UInt64) {
    self.path = path
    self.descriptor = descriptor
    self.inode = inode
    owns = Lock(false)
    aside = Lock(nil)
  }

  /// From now on the file is this listener's.
  public func own() { owns.withLock { $0 = true } }

  /// From now on the file is another's.
  public func disown() { owns.withLock { $0 = false } }

  /// Puts a file that was made aside where it belongs, in one step with the end of what was there. Front-ends that
  /// connect from then on come here; those that are connected elsewhere notice nothing.
  public func takePlace() throws(SystemError) {
    try aside.withLock { file throws(SystemError) in
      guard let from = file else { return }
      // SAFETY: reads both strings during the call.
      if unsafe rename(from, path) != 0 {
        throw SystemError("put a socket in its place at \(path)", errno: Errno(rawValue: errno))
      }
      file = nil
    }
  }

  /// A name in the same directory, and no longer than a socket's may be.
  private static func neighbour(of path: String) -> String {
    path.utf8.count < 107 ? path + "~" : path.dropLast() + (path.hasSuffix("~") ? "-" : "~")
  }

  /// Gives the file another mode or owner, while front-ends are connected; `nil` leaves it. All or nothing.
  public func change(owner: String?, group: String?, permissions: UInt32?) throws(SystemError) {
    let uid = try UnixListener.id(owner, "user") { unsafe clx_user_id($0) }
    let gid = try UnixListener.id(group, "group") { unsafe clx_group_id($0) }
    let file = aside.withLock { $0 } ?? path
    var status = stat()
    // SAFETY: fills the local.
    guard unsafe lstat(file, &status) == 0, UInt64(status.st_ino) == inode else {
      throw SystemError(
        "change \(path): the socket's file was removed or replaced", errno: .noSuchFileOrDirectory)
    }
    let before = UInt32(status.st_mode & 0o777)
    if let permissions, permissions != before {
      try SystemError.check(unsafe clx_chmod(file, permissions), "set the mode of \(path)")
    }
    let isOwners = uid < 0 || uid == Int64(status.st_uid)
    if isOwners, gid < 0 || gid == Int64(status.st_gid) { return }
    do throws(SystemError) {
      try SystemError.check(
        unsafe clx_chown(file, isOwners ? -1 : uid, gid), "change the owner of \(path)")
    } catch {
      _ = unsafe clx_chmod(file, before)
      throw error
    }
  }

  /// Finds what would keep `init` from listening at `path`, short of trying: an unknown user or group, a file
  /// that is no socket, a directory that is missing and can't be made.
  public static func check(path: String, owner: String?, group: String?) throws(SystemError) {
    _ = try id(owner, "user") { unsafe clx_user_id($0) }
    _ = try id(group, "group") { unsafe clx_group_id($0) }
    if try SystemError.check(unsafe clx_path_kind(path), "look at \(path)") == 2 {
      throw SystemError("listen at \(path): a file that is no socket is there", errno: .fileExists)
    }
    // The directory may be made, but only the last of the path's.
    let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast(2)
    let parent = folder.joined(separator: "/")
    if !parent.isEmpty, try SystemError.check(unsafe clx_path_kind(parent), parent) == 0 {
      throw SystemError("listen at \(path)", errno: .noSuchFileOrDirectory)
    }
  }

  /// Whether the file is where front-ends look for it, as far as can be seen: it may have been removed, or another been
  /// put in its place. Then nobody can connect any more.
  public var isInPlace: Bool {
    var status = stat()
    // SAFETY: fills the local.
    if unsafe lstat(aside.withLock { $0 } ?? path, &status) == 0 {
      return UInt64(status.st_ino) == inode
    }
    return errno != ENOENT && errno != ENOTDIR
  }

  deinit {
    if !owns.withLock({ $0 }) { return }
    let file = aside.withLock { $0 } ?? path
    if UnixListener.inode(of: file) == inode { unsafe unlink(file) }
  }

  private static func id(
    _ name: String?, _ what: String, _ look: (String) -> Int64
  ) throws(SystemError) -> Int64 {
    guard let name else { return -1 }
    return try SystemError.check(look(name), "find the \(what) '\(name)'")
  }

  /// Removes a socket that nobody listens on; `init` does so too. Fails when somebody does, or when a file is there
  /// that is no socket.
  public static func clear(_ path: String) throws(SystemError) {
    switch try SystemError.check(unsafe clx_path_kind(path), "look at \(path)") {
    case 0: return
    case 1:
      do throws(SystemError) {
        _ = try UnixSocket.connect(path: path)
      } catch {
        if error.errno == .connectionRefused {
          unsafe unlink(path)
          return
        }
        throw SystemError("replace the socket \(path)", errno: error.errno)
      }
      throw SystemError("listen at \(path): another process listens there", errno: .addressInUse)
    default:
      throw SystemError("listen at \(path): a file that is no socket is there", errno: .fileExists)
    }
  }

  private static func inode(of path: String) -> UInt64 {
    var status = stat()
    // SAFETY: fills the local.
    return unsafe lstat(path, &status) == 0 ? UInt64(status.st_ino) : 0
  }
}
