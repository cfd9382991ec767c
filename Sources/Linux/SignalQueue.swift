internal import CLinux
internal import Glibc

/// Signals taken one after another by a thread that waits for them, instead of by handlers that interrupt
/// whatever runs.
public final class SignalQueue: Sendable {
  private let descriptor: OwnedFD

  /// Blocks `signals` in the calling thread and in those it starts from then on: call it before there are
  /// any others. A peer that has gone away shows as an error of the write from then on, not as SIGPIPE.
  public init(_ signals: [CInt]) throws(SystemError) {
    signal(SIGPIPE, SIG_IGN)
    // SAFETY: reads the array during the call.
    descriptor = OwnedFD(
      taking: try SystemError.check(
        unsafe clx_signalfd(signals, CInt(signals.count)), "wait for signals"))
  }

  /// The next signal within so many milliseconds; `nil` when none came.
  public func next(within milliseconds: Int) throws(SystemError) -> CInt? {
    let ready = try Poller.wait([(descriptor.raw, .read)], milliseconds: milliseconds)
    return ready[0] ? try next() : nil
  }

  /// Waits for the next signal and returns its number.
  public func next() throws(SystemError) -> CInt {
    while true {
      let number = clx_signalfd_read(descriptor.raw)
      if number != -EINTR { return try SystemError.check(number, "read a signal") }
    }
  }
}
