internal import ControlAPI
internal import VirtioDriver

/// What must be so when a crowd has gone.
final class CrowdAudit {
  private let bed: Bed
  private let pair: Pair
  private let tally: Tally
  private let holdings: Holdings

  init(_ bed: Bed, pair: Pair, tally: Tally) {
    self.bed = bed
    self.pair = pair
    self.tally = tally
    holdings = Holdings(of: bed)
  }

  /// When everybody has come once, and gone.
  func begin() throws {
    try awaitEmptiness()
    try holdings.inspect(isDisturbed: false)
  }

  /// When everybody has gone and the pair rests.
  func end() throws {
    try awaitEmptiness()
    try inspectPair()
    _ = try bed.balance()
    try holdings.inspect(isDisturbed: false)
    try inspectLog()
  }

  private func isPairs(_ port: Port) -> Bool { Bed.steady.contains { $0.name == port.name } }

  /// Every port but the pair's waits for a front-end, and none has a fault but those that haste makes.
  private func awaitEmptiness() throws {
    var busy: [String] = []
    var ports: [Port] = []
    try bed.wait(for: "\(busy.count) ports to be free again, such as \(busy.prefix(3))") {
      ports = try bed.ports()
      busy = ports.filter { !isPairs($0) && $0.state != .waiting }.map {
        "\($0.name): \($0.explanation)"
      }
      return busy.isEmpty
    }
    if ports.count != bed.names.count { throw SoakError("there are \(ports.count) ports") }
    let excused = ["second_front_end", "connection_failed"]
    for port in ports where port.faults.keys.contains(where: { !excused.contains($0) }) {
      throw SoakError("\(port.name) has counted \(port.faults): \(port.lastError ?? "")")
    }
  }

  /// The pair has lost nothing; what it has lost must at least be dropped by name, by its own ports.
  private func inspectPair() throws {
    let reading = pair.reading
    let ports = try Bed.steady.map { try bed.port($0.name) }
    let drops = ports.flatMap { [$0.received.drops, $0.sent.drops] }
      .reduce(into: [:]) { $0.merge($1, uniquingKeysWith: +) }
    let dropped = drops.values.reduce(0, +)
    if reading.reordered + reading.corrupt > 0 {
      throw SoakError(
        "\(reading.reordered) frames of the pair came out of order, \(reading.corrupt) were not whole"
      )
    }
    if reading.outstanding > 0 {
      throw SoakError("\(reading.outstanding) frames of the pair were not taken")
    }
    if reading.lost > 0 {
      let named = reading.lost <= Int(dropped) ? "its ports have dropped" : "but dropped are only"
      throw SoakError("the pair has lost \(reading.lost) frames, \(named) \(drops)")
    }
    for (index, port) in ports.enumerated() where Int(port.received.frames) != reading.sent[index] {
      throw SoakError("\(port.name) has taken \(port.received.frames) of \(reading.sent[index])")
    }
  }

  /// Nobody in the crowd is hostile, so nothing is an error, and a warning only what haste makes.
  private func inspectLog() throws {
    for line in bed.log {
      switch line.split(separator: " ", maxSplits: 2).dropFirst().first {
      case "error", "critical": throw SoakError("log: \(line)")
      case "warning": if !Bed.isOrdinary(warning: line) { throw SoakError("log: \(line)") }
      default: break
      }
    }
  }
}
