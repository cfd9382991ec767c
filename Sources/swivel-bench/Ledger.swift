import ControlAPI
import ControlClient

/// What a swivel says that it has dropped: asked over its control socket while nothing is measured.
struct Ledger {
  private let client: ControlClient

  /// - Parameter path: of the control socket.
  init(path: String) { client = ControlClient(path: path) }

  /// Frames that were not delivered since the daemon started, by reason.
  func drops() throws -> [String: UInt64] {
    do throws(ClientError) {
      let stats = try ControlClient.decode(Stats.self, from: try client.get("/v1/stats"))
      return stats.received.drops.merging(stats.sent.drops, uniquingKeysWith: &+)
    } catch {
      throw BenchError(error.description)
    }
  }

  /// What has been added to `before`; reasons that have counted nothing are left out.
  static func difference(
    _ after: [String: UInt64], _ before: [String: UInt64]
  ) -> [String: UInt64] {
    after.reduce(into: [:]) { result, entry in
      let more = entry.value &- (before[entry.key] ?? 0)
      if more > 0 { result[entry.key] = more }
    }
  }
}
