internal import Glibc

/// How many files this process may have open.
public enum OpenFiles {
  /// Raises the number of open files to the most this process may have, and returns it. A guest holds a
  /// dozen descriptors and more; the usual soft limit of 1,024 is for programs that use select(2).
  @discardableResult
  public static func raiseLimit() -> Int {
    var limit = rlimit()
    // SAFETY: both calls use the local only.
    let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard unsafe getrlimit(files, &limit) == 0 else { return 0 }
    if limit.rlim_cur < limit.rlim_max {
      limit.rlim_cur = limit.rlim_max
      _ = unsafe setrlimit(files, &limit)
    }
    return Int(clamping: limit.rlim_cur)
  }
}
