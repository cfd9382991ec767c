internal import Glibc

/// A value behind a mutex: control's, never a worker's.
///
/// It is what `Synchronization.Mutex` is, over the system's own mutex, which the thread sanitizer knows; of
/// the other it sees nothing, and calls every access a race (docs/decisions/0004).
@safe public final class Lock<Value: ~Copyable>: @unchecked Sendable {
  private let handle: UnsafeMutablePointer<pthread_mutex_t>
  private var value: Value

  public init(_ value: consuming Value) {
    unsafe handle = .allocate(capacity: 1)
    unsafe handle.initialize(to: pthread_mutex_t())
    unsafe pthread_mutex_init(handle, nil)
    self.value = value
  }

  deinit {
    unsafe pthread_mutex_destroy(handle)
    unsafe handle.deallocate()
  }

  /// Runs `body` with the value while nobody else has it. Not recursive.
  public func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout Value) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    // SAFETY: the handle lives as long as this object.
    unsafe pthread_mutex_lock(handle)
    defer { unsafe pthread_mutex_unlock(handle) }
    return try body(&value)
  }
}
