/// What a case came to.
public struct Verdict: Sendable {
  public let name: String
  /// What went wrong, a clause each; empty: the switch passed.
  public internal(set) var problems: [String] = []
  /// What the switch does not offer, so that there was nothing to attack.
  public internal(set) var notOffered: String?
  /// How swivel named it: the first of the case's signs that was shown.
  public internal(set) var sign: Sign?
  /// What happened to the bystanders' frames meanwhile.
  public internal(set) var bystanders = Bystanders.Reading()
  /// Seconds, the longest that somebody else waited for a session of their own and for the control socket to answer,
  /// of cases in which somebody tried; else 0.
  public internal(set) var longestVisit = 0.0
  /// Seconds it took.
  public internal(set) var duration = 0.0

  public var passed: Bool { problems.isEmpty }

  /// In a cell of a table.
  public var text: String {
    if !passed { return problems.joined(separator: "; ") }
    return notOffered.map { "not offered: \($0)" } ?? "ok"
  }
}
