internal import CLinux
internal import Glibc

/// A non-blocking eventfd: a counter another thread or process can wait for.
public final class EventFD: Sendable {
  public let descriptor: OwnedFD

  public init() throws(SystemError) {
    descriptor = OwnedFD(taking: try SystemError.check(clx_eventfd(0), "make an eventfd"))
  }

  /// Adds one; whoever waits wakes up.
  public func signal() { EventFD.signal(descriptor.raw) }

  /// Takes the count and resets it; 0 when nobody has signalled since.
  @discardableResult
  public func drain() -> UInt64 {
    var count: UInt64 = 0
    // SAFETY: reads at most the eight bytes of the local.
    let length = unsafe read(descriptor.raw, &count, MemoryLayout<UInt64>.size)
    return length == MemoryLayout<UInt64>.size ? count : 0
  }

  /// Adds one to the eventfd `raw`. Never blocks when the descriptor is non-blocking; a full counter is
  /// left as it is, which its reader sees all the same.
  public static func signal(_ raw: CInt) { clx_eventfd_signal(raw) }
}
