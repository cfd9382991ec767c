internal import CLinux
internal import Glibc

/// A non-blocking eventfd of this process's own: a counter another thread or process can wait for. One that a
/// stranger gave, or was given, is signalled by a `Notifier`.
public final class EventFD: Sendable {
  public let descriptor: OwnedFD

  public init() throws(SystemError) {
    descriptor = OwnedFD(taking: try SystemError.check(clx_eventfd(0), "make an eventfd"))
  }

  /// Adds one; whoever waits wakes up.
  public func signal() { clx_eventfd_signal(descriptor.raw) }

  /// Takes the count and resets it; 0 when nobody has signalled since.
  @discardableResult
  public func drain() -> UInt64 {
    var count: UInt64 = 0
    // SAFETY: reads at most the eight bytes of the local.
    let length = unsafe read(descriptor.raw, &count, MemoryLayout<UInt64>.size)
    return length == MemoryLayout<UInt64>.size ? count : 0
  }
}
