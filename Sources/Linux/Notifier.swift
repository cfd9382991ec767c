internal import CLinux
internal import Glibc
internal import SystemPackage

/// Signals eventfds that strangers hold too.
///
/// Whoever shares an eventfd shares its counter and its flags: he can fill the one and clear O_NONBLOCK among the
/// others, at any time, and a write(2) then waits for ever. The kernel's own way to signal an eventfd waits for
/// nothing, and asynchronous I/O offers it (docs/decisions/0012).
///
/// SAFETY: `raw` is made with the object and goes with it; whoever keeps it keeps the object.
@safe public final class Notifier: @unchecked Sendable {
  /// For `clx_notify`; of one thread at a time.
  public let raw: OpaquePointer
  /// Why the kernel has no asynchronous I/O for this process, so that write(2) has to do; `nil`: it has.
  public let lack: SystemError?

  /// What past notifiers had: to give a context back the kernel takes 30 milliseconds.
  private static let spare = Lock<[Spare]>([])

  /// SAFETY: nobody else has it.
  @safe private struct Spare: @unchecked Sendable {
    var raw: OpaquePointer
  }

  /// Fails when there is no memory.
  ///
  /// - Parameter asynchronous: `false`: write(2), as where the kernel has nothing else.
  public init(asynchronous: Bool = true) throws(SystemError) {
    if asynchronous, let spare = Notifier.spare.withLock({ $0.popLast() }) {
      unsafe raw = unsafe spare.raw
      lack = nil
      return
    }
    var made: OpaquePointer?
    let error = unsafe clx_notifier_open(asynchronous ? 1 : 0, &made)
    let lack =
      error < 0 ? SystemError("io_setup", errno: Errno(rawValue: -error)) : nil
    guard let made = unsafe made else { throw lack ?? SystemError("io_setup", errno: .noMemory) }
    unsafe raw = unsafe made
    self.lack = lack
  }

  deinit {
    if lack == nil {
      let kept = unsafe Spare(raw: raw)
      Notifier.spare.withLock { $0.append(kept) }
    } else {
      unsafe clx_notifier_close(raw)
    }
  }

  /// For whoever is no worker: those that nobody uses, and how many there are.
  private struct Pool {
    var idle: [Notifier] = []
    var count = 0
  }

  private static let pool = Lock(Pool())
  /// Threads that signal at the same time; more wait. Each takes a part of what the kernel has for all (`fs.aio-max-nr`).
  public static let most = 8

  /// Adds one to an eventfd that a stranger holds too, and never waits for him. A full counter is left as it is.
  ///
  /// The stranger can make this take milliseconds, as the kernel tells everybody who watches the eventfd. So it is for threads
  /// of which he has one to himself, and under no lock.
  public static func signal(_ stranger: OwnedFD) {
    guard let notifier = take() else { return }
    notifier.signal([stranger])
    pool.withLock { $0.idle.append(notifier) }
  }

  private static func take() -> Notifier? {
    while true {
      let (notifier, mayMake) = pool.withLock { pool in
        if let idle = pool.idle.popLast() { return (Optional(idle), false) }
        if pool.count == most { return (nil, false) }
        pool.count += 1
        return (nil, true)
      }
      if let notifier { return notifier }
      if mayMake {
        if let made = try? Notifier() { return made }
        pool.withLock { $0.count -= 1 }
        return nil
      }
      usleep(100)
    }
  }

  /// Adds one to each.
  public func signal(_ strangers: [OwnedFD]) {
    let descriptors = strangers.map(\.raw)
    // SAFETY: the call reads the array, which outlives it. The descriptors are open as long as their owners are there.
    unsafe clx_notify(raw, descriptors, CInt(descriptors.count))
    withExtendedLifetime(strangers) {}
  }
}
