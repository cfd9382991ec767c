internal import CLinux
internal import Glibc
internal import SystemPackage

/// A listening Unix socket and its file. The file is removed with the listener, unless somebody has
/// replaced it meanwhile.
public final class UnixListener: Sendable {
  public let path: String
  public let descriptor: OwnedFD
  private let inode: UInt64

  /// Listens at `path`. A socket file that nobody listens on is replaced; one that answers, or a file
  /// that is no socket, is left alone and reported.
  ///
  /// - Parameters:
  ///   - owner, group: by name or number; `nil` leaves the process's own.
  ///   - permissions: permission bits of the file; it is never more open than this, not even for a moment.
  public init(
    path: String, owner: String? = nil, group: String? = nil, permissions: UInt32 = 0o600,
    backlog: Int = 16
  ) throws(SystemError) {
    self.path = path
    let uid = try UnixListener.id(owner, "user") { unsafe clx_user_id($0) }
    let gid = try UnixListener.id(group, "group") { unsafe clx_group_id($0) }
    // The last directory only: /run is emptied at every start, and /run/swivel would be missing after it.
    Directory.make(Directory.of(path))
    try UnixListener.clear(path)
    let socket = try SystemError.check(
      unsafe clx_unix_bind(path, permissions), "listen at \(path)")
    descriptor = OwnedFD(taking: socket)
    do throws(SystemError) {
      // The umask may have taken bits away that were asked for. Before the file is another's, whose mode only
      // CAP_FOWNER might change.
      try SystemError.check(unsafe clx_chmod(path, permissions), "set the mode of \(path)")
      if owner != nil || group != nil {
        try SystemError.check(unsafe clx_chown(path, uid, gid), "change the owner of \(path)")
      }
      try SystemError.check(clx_listen(socket, CInt(clamping: backlog)), "listen at \(path)")
      inode = UnixListener.inode(of: path)
    } catch {
      unsafe unlink(path)
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

  deinit {
    if UnixListener.inode(of: path) == inode { unsafe unlink(path) }
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
