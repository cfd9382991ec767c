internal import CLinux
internal import Glibc
internal import SystemPackage

/// A thread of the operating system. No pool, no queue: it runs its body and ends.
@safe public final class Thread: Sendable {
  private let handle: pthread_t
  private static let running = Lock<Set<Int>>([])

  /// The numbers in the kernel of those that run now. Others of the process, its first one too, are not among them.
  public static var all: Set<Int> { running.withLock { $0 } }

  /// Starts `body` on a new thread named `name` (the kernel keeps 15 bytes of it).
  public init(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
    // SAFETY: the box is retained here and released by the thread, or here if there is none.
    let box = unsafe Unmanaged.passRetained(Box(name: name, body: body))
    var handle = pthread_t()
    let result = unsafe pthread_create(
      &handle, nil,
      { argument in
        let box = unsafe Unmanaged<Box>.fromOpaque(argument.unsafelyUnwrapped).takeRetainedValue()
        unsafe clx_thread_name(box.name)
        let number = Int(clx_thread_id())
        _ = Thread.running.withLock { $0.insert(number) }
        box.body()
        _ = Thread.running.withLock { $0.remove(number) }
        return nil
      }, box.toOpaque())
    if result != 0 {
      unsafe box.release()
      throw SystemError("start the thread '\(name)'", errno: .init(rawValue: result))
    }
    self.handle = handle
  }

  /// Waits until the body has returned. Call it once; a thread that nobody joins keeps its stack.
  public func join() {
    pthread_join(handle, nil)
  }

  private final class Box: Sendable {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }
}

/// The calling thread waits.
public enum Pause {
  public static func milliseconds(_ count: Int) { usleep(UInt32(clamping: count * 1000)) }
  public static func microseconds(_ count: Int) { usleep(UInt32(clamping: count)) }
}
