public import SystemPackage

/// A system call that failed: what was tried, on what, and the kernel's answer.
public struct SystemError: Error, Sendable, Equatable, CustomStringConvertible {
  public let operation: String
  public let errno: Errno

  public init(_ operation: String, errno: Errno) {
    self.operation = operation
    self.errno = errno
  }

  /// Whether somebody else has what was asked for.
  public var isInUse: Bool { errno == .addressInUse || errno == .resourceBusy }

  public var description: String { "\(operation): \(errno)" }

  /// Turns a CLinux result (a value, or -errno) into a value or an error.
  @discardableResult
  public static func check<Value: SignedInteger>(
    _ result: Value, _ operation: @autoclosure () -> String
  ) throws(SystemError) -> Value {
    if result < 0 { throw SystemError(operation(), errno: Errno(rawValue: CInt(-result))) }
    return result
  }
}
