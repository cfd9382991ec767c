import ArgumentParser

/// What is measured.
enum Mode: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
  /// Frames a second, as fast as they go or at the rate that is offered.
  case throughput
  /// The highest rate at which no frame is lost, by binary search (RFC 2544, 26.1).
  case zeroLoss = "zero-loss"
  /// How long frames take at a given load.
  case latency
  /// The time a frame takes there and back, one at a time.
  case ping
  /// The time that the first frame of a silent guest takes, beside busy ones.
  case cold
  /// The longest burst, as fast as it goes, of which no frame is lost (RFC 2544, 26.4).
  case burst
  /// The generator alone, without a switch.
  case generator
  /// What memcpy does with the frames of a pair of ports, without a switch.
  case memcpy

  /// Nobody is attached to.
  var isAlone: Bool { self == .generator || self == .memcpy }
}

/// Who sends to whom.
enum Pattern: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
  /// Ports 1 and 2 to each other, 3 and 4, and so on.
  case pairs
  /// All ports to the first; also called fan-in.
  case manyToOne = "many-to-one"
  /// The first port to all the others, by broadcasts.
  case flood
}

extension Pattern {
  init?(argument: String) {
    self.init(rawValue: argument == "fan-in" ? "many-to-one" : argument)
  }
}

/// The layout of the rings.
enum Ring: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
  case split
  case packed
}

/// CPUs by their numbers: `3`, or `0,2,3`.
struct CPUList: ExpressibleByArgument, Sendable, Equatable {
  var cpus: [Int]

  init?(argument: String) {
    let words = argument.split(separator: ",", omittingEmptySubsequences: false)
    let numbers = words.compactMap { Int($0) }.filter { $0 >= 0 }
    guard numbers.count == words.count, Set(numbers).count == numbers.count else { return nil }
    cpus = numbers
  }
}

/// How a worker of the daemon waits, by the configuration's words.
enum Poll: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
  /// It never sleeps.
  case busy
  /// It sleeps when there is nothing to do, and asks to be kicked.
  case adaptive
}
