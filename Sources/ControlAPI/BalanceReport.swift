/// What was done for workers to share the work: the reply to `POST /v1/workers/rebalance`.
public struct BalanceReport: Codable, Sendable, Equatable {
  /// A transmitq that another worker polls now.
  public struct Move: Codable, Sendable, Equatable {
    public var port: String
    public var queue: Int
    public var from: Int
    public var to: Int

    public init(port: String, queue: Int, from: Int, to: Int) {
      self.port = port
      self.queue = queue
      self.from = from
      self.to = to
    }
  }

  /// A port whose queues could not be moved, and why.
  public struct Left: Codable, Sendable, Equatable {
    public var port: String
    public var reason: String

    public init(port: String, reason: String) {
      self.port = port
      self.reason = reason
    }
  }

  public var moves: [Move]
  public var left: [Left]

  public init(moves: [Move] = [], left: [Left] = []) {
    self.moves = moves
    self.left = left
  }

  /// Lines for a person.
  public var description: String {
    if moves.isEmpty && left.isEmpty { return "the workers share the work; nothing was moved" }
    return
      (moves.map { "\($0.port)/\($0.queue): worker \($0.from) -> \($0.to)" }
      + left.map { "\($0.port) stays: \($0.reason)" }).joined(separator: "\n")
  }
}
