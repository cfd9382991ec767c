/// How the daemon is: `GET /v1/health`.
public struct Health: Codable, Sendable, Equatable {
  /// Every worker does its work. A port that its guest has broken does not count: that is the guest's, and no reason to
  /// start the daemon anew.
  public var healthy: Bool
  /// What is wrong with the daemon, a sentence each.
  public var problems: [String]
  /// Ports by state; states that no port is in are left out.
  public var ports: [String: Int]

  public init(healthy: Bool, problems: [String] = [], ports: [String: Int] = [:]) {
    self.healthy = healthy
    self.problems = problems
    self.ports = ports
  }
}

/// What a reload has done to the ports, by name: the reply to `POST /v1/reload`.
public struct ReloadReport: Codable, Sendable, Equatable {
  public var added: [String]
  public var removed: [String]
  /// Made anew: their guests had to connect again.
  public var replaced: [String]
  /// Changed while they ran.
  public var changed: [String]
  /// How many are as they were.
  public var unchanged: Int
  /// Workers that came and went; `nil`: none did.
  public var workers: WorkerChanges?

  public init(
    added: [String] = [], removed: [String] = [], replaced: [String] = [], changed: [String] = [],
    unchanged: Int = 0, workers: WorkerChanges? = nil
  ) {
    self.added = added
    self.removed = removed
    self.replaced = replaced
    self.changed = changed
    self.unchanged = unchanged
    self.workers = workers
  }

  /// One line for a person.
  public var description: String {
    let parts = [
      ("added", added), ("removed", removed), ("made anew", replaced),
      ("changed in place", changed),
    ].filter { !$0.1.isEmpty }.map { "\($0.0): \($0.1.joined(separator: ", "))" }
    let all = parts + ["\(unchanged) unchanged"] + [workers?.description].compactMap { $0 }
    return all.joined(separator: "; ")
  }
}

/// From which weight on a line is logged; the names are swift-log's.
public enum LogLevel: String, Codable, Sendable, CaseIterable {
  case trace, debug, info, notice, warning, error, critical
}

/// The daemon's log: `GET /v1/log`.
public struct LogStatus: Codable, Sendable, Equatable {
  public var level: LogLevel
  /// Lines that were not written since the daemon started, as whoever reads the log did not.
  public var droppedLines: UInt64

  public init(level: LogLevel, droppedLines: UInt64 = 0) {
    self.level = level
    self.droppedLines = droppedLines
  }
}
