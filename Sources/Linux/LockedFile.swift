internal import Glibc
internal import SystemPackage

/// A file that one process at a time has to itself, for what it leaves to its successor. The lock goes with the process,
/// however that ends.
public final class LockedFile: Sendable {
  public let path: String
  public let descriptor: OwnedFD

  /// Opens a file, or makes it, readable by its owner alone, and locks it.
  ///
  /// Fails with `.resourceBusy` when another process has it for all of `milliseconds`, and with `.notSupported` when what is
  /// there is no regular file, has another name besides, or belongs to neither this user nor root.
  public init(path: String, milliseconds: Int) throws(SystemError) {
    self.path = path
    func failure(_ what: String, _ number: CInt) -> SystemError {
      SystemError("\(what) \(path)", errno: Errno(rawValue: number))
    }
    let raw = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
    if raw < 0 { throw failure("open", errno) }
    descriptor = OwnedFD(taking: raw)
    var status = stat()
    // SAFETY: fills the local.
    if unsafe fstat(raw, &status) != 0 { throw failure("look at", errno) }
    guard status.st_mode & S_IFMT == S_IFREG, status.st_nlink == 1,
      status.st_uid == geteuid() || status.st_uid == 0
    else { throw failure("use what is there, and is no file of this daemon's:", ENOTSUP) }
    let deadline = ContinuousClock.now + .milliseconds(milliseconds)
    while flock(raw, LOCK_EX | LOCK_NB) != 0 {
      if errno != EWOULDBLOCK && errno != EINTR { throw failure("lock", errno) }
      if ContinuousClock.now >= deadline { throw failure("lock, as another process has,", EBUSY) }
      usleep(10_000)
    }
  }

  /// Takes a file that another process has locked: the lock is the open file's, and so is held by both.
  public init(taking descriptor: OwnedFD, path: String) {
    self.path = path
    self.descriptor = descriptor
  }

  /// Gives the file a length in bytes; what is new of it is zeros.
  public func setLength(_ length: Int) throws(SystemError) {
    if ftruncate(descriptor.raw, length) != 0 {
      throw SystemError("make \(path) \(length) bytes long", errno: Errno(rawValue: errno))
    }
  }

  /// The bytes from `offset` on, `count` unless the file ends before.
  public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      // SAFETY: reads at most what is left of the array.
      let result = unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe pread(descriptor.raw, buffer.baseAddress! + done, count - done, offset + done)
      }
      if result < 0 {
        if errno == EINTR { continue }
        throw SystemError("read \(path)", errno: Errno(rawValue: errno))
      }
      if result == 0 { break }
      done += result
    }
    return Array(bytes.prefix(done))
  }

  public func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      // SAFETY: writes at most what is left of the array.
      let result = unsafe bytes.withUnsafeBytes { buffer in
        unsafe pwrite(descriptor.raw, buffer.baseAddress! + done, bytes.count - done, offset + done)
      }
      if result < 0 {
        if errno == EINTR { continue }
        throw SystemError("write \(path)", errno: Errno(rawValue: errno))
      }
      done += result
    }
  }
}
