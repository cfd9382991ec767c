internal import Glibc

/// What the kernel lets this process have.
public enum Limits {
  /// Raises the number of open files to the most this process may have, and returns it. A guest holds a
  /// dozen descriptors and more; the usual soft limit of 1,024 is for programs that use select(2).
  @discardableResult
  public static func raiseOpenFiles() -> Int {
    var limit = rlimit()
    // SAFETY: both calls use the local only.
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
    if limit.rlim_cur < limit.rlim_max {
      limit.rlim_cur = limit.rlim_max
      _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    return Int(clamping: limit.rlim_cur)
  }
}
