internal import ControlAPI

/// How swivel names what an attack did: one of these must be there when it is over.
public enum Sign: Sendable, Equatable {
  /// A drop of this name on a queue of the attacked port.
  case drop(String)
  /// A ring that is stopped, and says so in these words; the port has counted a fault more.
  case fault(String)
  /// A message that was not accepted: the port's last error has these words in it, and it has counted a fault more.
  case refusal(String)
  /// Something that the port has counted under this name.
  case counted(String)
  /// Nothing was broken, so there is nothing to name: the attack itself looks whether all went well.
  case nothing

  /// Whether `after`, what the port said at the end, has what `before` had not.
  ///
  /// - Parameter count: drops there must be more.
  func isShown(before: Port, after: Port, count needed: Int) -> Bool {
    let isCounted = after.faults.values.reduce(0, +) > before.faults.values.reduce(0, +)
    switch self {
    case .counted(let name):
      return after.faults[name, default: 0] > before.faults[name, default: 0]
    case .drop(let name):
      func count(_ port: Port) -> UInt64 {
        (port.received.drops[name] ?? 0) + (port.sent.drops[name] ?? 0)
      }
      return count(after) >= count(before) + UInt64(needed)
    case .fault(let words):
      let isSaid = after.queues.contains { $0.error?.contains(words) ?? false }
      return isCounted && (isSaid || after.lastError?.contains(words) ?? false)
    case .refusal(let words): return isCounted && after.lastError?.contains(words) ?? false
    case .nothing: return true
    }
  }
}

extension Sign: CustomStringConvertible {
  public var description: String {
    switch self {
    case .drop(let name), .counted(let name): name
    case .fault(let words), .refusal(let words): "“\(words)”"
    case .nothing: "–"
    }
  }
}

/// One entry of the catalogue: what a hostile guest or front-end does.
public struct Case: Sendable {
  /// Its name in the public record, and which part of it this is: `HG-07 nested, packed`.
  public let name: String
  /// What is done, in a line.
  public let summary: String
  /// How swivel names it; any one of them.
  public let signs: [Sign]
  /// Does it. Throws `AttackError` when the switch did what it must not, or has not what the attack needs.
  let attack: @Sendable (Site) throws -> Void

  public init(
    _ name: String, _ summary: String, _ signs: Sign...,
    attack: @escaping @Sendable (Site) throws -> Void
  ) {
    self.init(name, summary, signs: signs, attack: attack)
  }

  public init(
    _ name: String, _ summary: String, signs: [Sign],
    attack: @escaping @Sendable (Site) throws -> Void
  ) {
    self.name = name
    self.summary = summary
    self.signs = signs
    self.attack = attack
  }

  /// `HG-07` of `HG-07 nested, packed`.
  public var number: String { String(name.prefix { $0 != " " && $0 != "," }) }
}

extension Case: CustomStringConvertible {
  public var description: String { name }
}

/// Why an attack did not end as it should.
public enum AttackError: Error, Sendable, Equatable {
  /// The switch does not offer what the attack is on.
  case notOffered(String)
  /// The switch did what it must not: one clause for a person.
  case hurt(String)
}
