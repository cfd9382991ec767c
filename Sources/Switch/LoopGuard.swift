/// Finds loops by what they do to the MAC table: behind two ports there is the same network, each frame that goes out of
/// one comes in at the other, and with it its source's address, to and fro at the rate of the storm.
///
/// What moves in one direction is no loop: guests that migrate, and uplinks of which one fails and the other takes over,
/// move each address once. A value, so that tests need neither machine nor storm.
struct LoopGuard {
  /// Addresses that have to move to each of two ports in a second. A station that is carried about, or answers at two places by
  /// mistake, stays far below; a storm makes thousands.
  static let rate = 100.0

  /// What a port has counted since it was made.
  struct Reading {
    var port: Int
    /// Addresses that came to it from another port.
    var moved: UInt64
    /// Frames that came in; 0 where nobody asks.
    var frames: UInt64 = 0
  }

  /// Two ports between which addresses move.
  struct Loop: Equatable {
    /// The one first from which more frames came since the last look.
    var ports: [Int]
    /// Moves a second, in both directions together.
    var rate: Double
  }

  private var last: [Int: Reading] = [:]

  /// - Parameter seconds: since the last look.
  mutating func look(_ readings: [Reading], seconds: Double) -> [Loop] {
    defer {
      last = Dictionary(
        readings.map { ($0.port, $0) }, uniquingKeysWith: { first, _ in first })
    }
    typealias Rate = (port: Int, moves: Double, frames: UInt64)
    let rates = readings.compactMap { reading -> Rate? in
      // A port that is new, or has another's number, has no rate yet.
      guard let before = last[reading.port], reading.moved >= before.moved else { return nil }
      let moves = Double(reading.moved - before.moved) / seconds
      let frames = reading.frames >= before.frames ? reading.frames - before.frames : 0
      return moves >= LoopGuard.rate ? (reading.port, moves, frames) : nil
    }.sorted { ($0.moves, $1.port) > ($1.moves, $0.port) }
    // Those of one loop have about the same rate, as what moves to one moves away from the other.
    return stride(from: 0, to: rates.count - 1, by: 2).map { index in
      let (one, other) = (rates[index], rates[index + 1])
      return Loop(
        ports: one.frames >= other.frames ? [one.port, other.port] : [other.port, one.port],
        rate: one.moves + other.moves)
    }
  }
}
