internal import ControlAPI

/// What is known of the interface that a port leads to, and what is to be said of it.
struct InterfaceState: Equatable, Sendable {
  enum Condition: Equatable, Sendable {
    case up
    case down
    /// It is up, and there is nothing at its other end.
    case noCarrier
    /// It is in another network namespace, where all that can be seen of it is its name and whether it is up.
    case elsewhere(isUp: Bool)
    case gone
  }

  var condition = Condition.up
  /// As it is called now.
  var name: String
  /// As it was called when the port was made.
  let found: String
  /// Bytes; `nil`: it can't be seen.
  var mtu: Int?
  /// Why swivel could not bring it up when it was down.
  var whyDown: String?
  /// Of one that was deleted: why what has its name now can't be used in its place.
  var whyUnusable: String?
  /// Times that it was deleted.
  var losses: UInt64 = 0
  /// The port was cut off as part of a loop.
  var isCut = false
  /// An operator lets no frame pass.
  var isSetDown = false

  init(name: String) {
    self.name = name
    found = name
  }

  /// Whether no frame passes, whatever the interface is.
  var isHeld: Bool { isCut || isSetDown }

  /// Whether frames that are sent there arrive.
  var carries: Bool {
    if isHeld { return false }
    return switch condition {
    case .up, .elsewhere(isUp: true): true
    case .down, .noCarrier, .elsewhere(isUp: false), .gone: false
    }
  }

  var portState: PortState { condition == .gone ? .broken : carries ? .running : .down }

  /// One sentence.
  ///
  /// - Parameter wanted: the port's MTU, where one is asked for.
  func explanation(mtu wanted: Int?) -> String {
    var sentence = "\(start)\(renamed)"
    if isSetDown, condition != .gone {
      sentence = "was set down (swivel port up), and no frame passes; otherwise: " + sentence
    } else if isCut, condition != .gone {
      sentence =
        "cut off for a while, as part of a loop; otherwise: " + sentence
    }
    if let wanted, let mtu, wanted != mtu {
      sentence += "; its MTU was changed to \(mtu), the port's is \(wanted)"
    }
    return sentence
  }

  private var start: String {
    switch condition {
    case .up: "carries frames to and from the interface \(name)"
    case .down:
      "the interface \(name) is down (ip link set \(name) up)"
        + (whyDown.map { "; swivel could not bring it up: \($0)" } ?? "")
    case .noCarrier: "the interface \(name) has no carrier"
    case .elsewhere(isUp: true):
      "carries frames to and from the interface \(name), which is in another network namespace"
    case .elsewhere(isUp: false):
      "the interface \(name) is down in another network namespace, where only its owner can bring it up"
    case .gone where whyUnusable != nil:
      "the interface \(name) was deleted, and what has the name \(found) now can't be used: \(whyUnusable ?? ""); the port tries again once a second"
    case .gone:
      "the interface \(name) was deleted; the port uses one named \(found) as soon as there is one again, and a reload (SIGHUP) makes it"
    }
  }

  private var renamed: String { name == found ? "" : " (\(found) when the port was made)" }
}
