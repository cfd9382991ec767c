internal import CLinux
internal import Glibc

/// Waiting for several descriptors at once.
public enum Poller {
  public struct Interest: OptionSet, Sendable {
    public let rawValue: CShort
    public init(rawValue: CShort) { self.rawValue = rawValue }
    public static let read = Interest(rawValue: CShort(POLLIN))
    public static let write = Interest(rawValue: CShort(POLLOUT))
  }

  /// Waits until one of at most five descriptors is ready (an error or a hang-up counts as ready), or
  /// `milliseconds` (`nil`: for ever) are over. Returns what each is ready for, in order.
  public static func wait(
    _ entries: [(descriptor: CInt, interest: Interest)], milliseconds: Int? = nil
  ) throws(SystemError) -> [Bool] {
    precondition(entries.count <= 5)
    let descriptors = entries.map(\.descriptor)
    let events = entries.map(\.interest.rawValue)
    var ready = [CShort](repeating: 0, count: entries.count)
    // SAFETY: three arrays of `entries.count` elements, used during the call only.
    let result = unsafe clx_poll(
      descriptors, events, &ready, CInt(entries.count), CInt(clamping: milliseconds ?? -1))
    if result == -EINTR { return [Bool](repeating: false, count: entries.count) }
    try SystemError.check(result, "poll")
    return ready.map { $0 != 0 }
  }

  /// Waits until `event` is signalled, for `milliseconds` at most, and returns whether it is; it stays signalled. For
  /// whoever begins again after a failure, that of poll(2) among them: where that fails, this sleeps.
  public static func pause(milliseconds: Int, unless event: EventFD) -> Bool {
    if let ready = try? wait([(event.descriptor.raw, .read)], milliseconds: milliseconds) {
      return ready[0]
    }
    usleep(UInt32(clamping: milliseconds * 1000))
    // Another thread that waits for it sees it again at once.
    guard event.drain() > 0 else { return false }
    event.signal()
    return true
  }
}
