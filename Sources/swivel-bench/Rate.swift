import ArgumentParser

/// Frames a second: `800k`, `5M`, `1.5M`, `250000`.
struct Rate: ExpressibleByArgument, Sendable, Equatable {
  var framesPerSecond: Double

  init?(argument: String) {
    let factors: [Character: Double] = ["k": 1e3, "K": 1e3, "M": 1e6, "m": 1e6]
    let factor = argument.last.flatMap { factors[$0] }
    guard let value = Double(factor == nil ? argument : String(argument.dropLast())),
      value > 0, value.isFinite
    else { return nil }
    framesPerSecond = value * (factor ?? 1)
    guard framesPerSecond <= 1e9 else { return nil }
  }
}
