internal import CLinux

/// Descriptors 0, 1 and 2.
public enum StandardStreams {
  /// Opens /dev/null in place of those that are closed, so that nothing opened later gets their numbers.
  public static func fill() { clx_fill_standard() }
}
