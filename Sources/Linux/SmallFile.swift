internal import Glibc

/// The one-line files of /proc and /sys.
public enum SmallFile {
  /// The first 4096 bytes of a file as text, or `nil` when it can't be read.
  public static func read(_ path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    // SAFETY: reads at most the array's length into it.
    let count = unsafe Glibc.read(descriptor, &bytes, bytes.count)
    guard count >= 0 else { return nil }
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }
}
