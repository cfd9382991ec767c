/// The CPUs of workers that a reload has added and removed.
public struct WorkerChanges: Codable, Sendable, Equatable {
  public var added: [Int]
  public var removed: [Int]

  public init(added: [Int] = [], removed: [Int] = []) {
    self.added = added
    self.removed = removed
  }

  /// A part of a line for a person.
  public var description: String {
    [("workers added on CPUs", added), ("workers removed from CPUs", removed)]
      .filter { !$0.1.isEmpty }
      .map { "\($0.0) \($0.1.map(String.init).joined(separator: ", "))" }.joined(separator: "; ")
  }
}

/// A worker that is to be: the body of `POST /v1/workers`.
public struct WorkerRequest: Codable, Sendable, Equatable {
  /// The CPU that it is to be pinned to, alone.
  public var cpu: Int

  public init(cpu: Int) { self.cpu = cpu }

  /// CPUs have numbers in this range.
  public static let cpus = 0...1023
}
