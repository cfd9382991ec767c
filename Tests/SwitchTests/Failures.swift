import Linux

/// What went wrong on threads that are no test's own.
final class Failures: Sendable {
  private let list = Lock<[String]>([])

  func add(_ failure: String) { list.withLock { $0.append(failure) } }

  var all: [String] { list.withLock { $0 } }
}
