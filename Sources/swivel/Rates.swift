internal import ControlAPI

/// What a port carries in a second, one way.
struct Rate: Codable, Sendable, Equatable {
  var framesPerSecond: Double
  /// Ethernet bits, header to payload, in 10^9 a second.
  var gigabitsPerSecond: Double
  var dropsPerSecond: Double

  /// Between two looks at the same counters. Counters that went back belong to a port that was removed
  /// and made again: they count from zero.
  init(from old: Counters, to new: Counters, seconds: Double) {
    func rate(_ old: UInt64, _ new: UInt64) -> Double {
      Double(new >= old ? new - old : new) / seconds
    }
    framesPerSecond = rate(old.frames, new.frames)
    gigabitsPerSecond = rate(old.bytes, new.bytes) * 8 / 1e9
    dropsPerSecond = rate(old.dropped, new.dropped)
  }
}

/// A line of `swivel top`.
struct PortRate: Codable, Sendable, Equatable {
  var port: String
  var state: PortState
  /// From the port into the switch.
  var received: Rate
  /// From the switch out to the port.
  var sent: Rate

  /// The ports of `new`; one that `old` lacks began at zero. `nil` when no time has passed between them.
  static func rates(from old: Stats, to new: Stats) -> [PortRate]? {
    // A daemon that was started again counts from zero.
    let same = new.uptime >= old.uptime
    let seconds = same ? new.uptime - old.uptime : new.uptime
    guard seconds > 0 else { return nil }
    return new.ports.map { port in
      let before = same ? old.ports.first { $0.name == port.name } : nil
      return PortRate(
        port: port.name, state: port.state,
        received: Rate(
          from: before?.received ?? Counters(), to: port.received, seconds: seconds),
        sent: Rate(from: before?.sent ?? Counters(), to: port.sent, seconds: seconds))
    }
  }
}
