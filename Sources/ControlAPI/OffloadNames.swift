/// Work on frames that a vhost-user port may offer its guest to share, by the specification's names of the feature bits
/// (virtio v1.4, 5.1.3) without what all of them begin with.
public enum OffloadName: String, CaseIterable, Sendable {
  // What the guest's driver may leave to the switch.
  case csum
  case hostTSO4 = "host-tso4"
  case hostTSO6 = "host-tso6"
  case hostECN = "host-ecn"
  case hostUSO = "host-uso"
  // What it may take over from the switch, and must then take as it comes.
  case guestCsum = "guest-csum"
  case guestTSO4 = "guest-tso4"
  case guestTSO6 = "guest-tso6"
  case guestECN = "guest-ecn"
  case guestUSO4 = "guest-uso4"
  case guestUSO6 = "guest-uso6"

  /// What a driver must have negotiated one of before it can this (5.1.3.1).
  var needs: [OffloadName] {
    switch self {
    case .csum, .guestCsum: []
    case .hostTSO4, .hostTSO6, .hostUSO: [.csum]
    case .hostECN: [.hostTSO4, .hostTSO6]
    case .guestTSO4, .guestTSO6, .guestUSO4, .guestUSO6: [.guestCsum]
    case .guestECN: [.guestTSO4, .guestTSO6]
    }
  }

  /// What a user says for several at once; each stands alone.
  private static let words: [(word: String, names: [OffloadName])] = [
    ("all", allCases), ("none", []),
    // The guest leaves the switch what it likes, and gets every frame complete.
    ("host", [.csum, .hostTSO4, .hostTSO6, .hostECN, .hostUSO]),
  ]

  /// The offloads that words of a user's stand for, in the order of the feature bits' names here, or what is wrong with
  /// the words: `must be …`.
  public static func names(_ words: [String]) -> Result<[OffloadName], Fault> {
    if words.count == 1, let group = OffloadName.words.first(where: { $0.word == words[0] }) {
      return .success(group.names)
    }
    let known = OffloadName.allCases.map(\.rawValue)
    let choice = "must be all, none or host, or a list of \(known.joined(separator: ", "))"
    if words.isEmpty { return .failure(Fault("\(choice), not an empty list")) }
    var names: Set<OffloadName> = []
    for word in words {
      guard let name = OffloadName(rawValue: word) else {
        let isGroup = OffloadName.words.contains { $0.word == word }
        return .failure(Fault("\(choice), not \(quoted(word))\(isGroup ? " among others" : "")"))
      }
      names.insert(name)
    }
    for name in allCases where names.contains(name) && !name.needs.isEmpty {
      if names.isDisjoint(with: name.needs) {
        let needed = name.needs.map(\.rawValue).joined(separator: " or ")
        return .failure(Fault("must name \(needed) where it names \(name.rawValue)", .refused))
      }
    }
    return .success(allCases.filter(names.contains))
  }

  /// The shortest words for these.
  static func text(_ names: [String]) -> String {
    words.first { $0.names.map(\.rawValue) == names }?.word ?? names.joined(separator: ", ")
  }

  /// What is wrong with a user's words.
  public struct Fault: Error, Equatable {
    public var message: String
    /// `.refused`: each word is one that exists, but they don't go together.
    public var kind: ServiceError.Kind

    init(_ message: String, _ kind: ServiceError.Kind = .invalid) {
      self.message = message
      self.kind = kind
    }
  }
}
