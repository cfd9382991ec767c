/// What a port is doing.
public enum PortState: String, Codable, Sendable, CaseIterable {
  /// No front-end has connected yet, or the last one went away.
  case waiting
  /// A front-end is connected, but no ring carries frames yet.
  case connected
  /// At least one ring is started and enabled.
  case running
  /// The port leads to an interface that is down, has no carrier, or was cut as part of a loop: no flood reaches it. It
  /// runs again by itself.
  case down
  /// A ring broke the rules and was stopped, until a reset or a new front-end; or what the port stands on is gone: its
  /// interface, the file of its socket.
  case broken
}

/// A port as `GET /v1/ports/NAME` shows it: what every port has, and what its kind adds under a key of its own.
public struct Port: Sendable, Equatable {
  public var name: String
  public var kind: PortKind
  public var state: PortState
  /// One sentence for a person: what the port waits for, or what is wrong with it.
  public var explanation: String
  /// The most recent error of this port, kept until the next one replaces it.
  public var lastError: String?
  /// What has gone wrong since the port was made, by name: rings that broke and why, and what the front-end did
  /// against the protocol. Never goes back.
  public var faults: [String: UInt64]
  /// Configured or negotiated MTU in bytes, where there is one.
  public var mtu: Int?
  /// NUMA node of the guest's memory, when it is known.
  public var guestNode: Int?
  /// Addresses learned on this port.
  public var macs: Int
  /// Most addresses that may be learned on it; `nil`: as many as the table has room for.
  public var macLimit: Int?
  public var learning: LearningCounters
  /// Sum over the transmitqs: what came in from this port.
  public var received: Counters
  /// Sum over the receiveqs: what went out to this port.
  public var sent: Counters
  public var queues: [Queue]
  private var byKind = ByKind<any AttachmentStatus>()

  /// - Parameter status: what the port's kind adds.
  public init(
    name: String, kind: PortKind, state: PortState, explanation: String, lastError: String? = nil,
    faults: [String: UInt64] = [:], mtu: Int? = nil, guestNode: Int? = nil, macs: Int = 0,
    macLimit: Int? = nil, learning: LearningCounters = LearningCounters(),
    status: (any AttachmentStatus)? = nil, received: Counters = Counters(),
    sent: Counters = Counters(), queues: [Queue] = []
  ) {
    self.name = name
    self.kind = kind
    self.state = state
    self.explanation = explanation
    self.lastError = lastError
    self.faults = faults
    self.mtu = mtu
    self.guestNode = guestNode
    self.macs = macs
    self.macLimit = macLimit
    self.learning = learning
    self.received = received
    self.sent = sent
    self.queues = queues
    if let status { byKind[type(of: status).kind] = status }
  }

  /// What the port's kind adds; of several the first.
  public var status: (any AttachmentStatus)? { byKind.all.first }

  /// The front-end's socket to which the port connects, where it is the one that does.
  public var connectsTo: String? { status?.connectsTo }

  /// What one kind adds, for the property by which the kind's own file names it.
  subscript<Status: AttachmentStatus>(type: Status.Type) -> Status? {
    get { byKind[Status.kind] as? Status }
    set { byKind[Status.kind] = newValue }
  }
}

extension Port: Codable {
  private enum CodingKeys: String, CodingKey {
    case name, kind, state, explanation, lastError, faults, mtu, guestNode, macs, macLimit
    case learning, received, sent, queues
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      name: try values.decode(String.self, forKey: .name),
      kind: try values.decode(PortKind.self, forKey: .kind),
      state: try values.decode(PortState.self, forKey: .state),
      explanation: try values.decode(String.self, forKey: .explanation),
      lastError: try values.decodeIfPresent(String.self, forKey: .lastError),
      faults: try values.decode([String: UInt64].self, forKey: .faults),
      mtu: try values.decodeIfPresent(Int.self, forKey: .mtu),
      guestNode: try values.decodeIfPresent(Int.self, forKey: .guestNode),
      macs: try values.decode(Int.self, forKey: .macs),
      macLimit: try values.decodeIfPresent(Int.self, forKey: .macLimit),
      learning: try values.decode(LearningCounters.self, forKey: .learning),
      received: try values.decode(Counters.self, forKey: .received),
      sent: try values.decode(Counters.self, forKey: .sent),
      queues: try values.decode([Queue].self, forKey: .queues))
    let others = try decoder.container(keyedBy: TextKey.self)
    func read<Status: AttachmentStatus>(_ type: Status.Type) throws {
      self[type] = try others.decodeIfPresent(type, forKey: TextKey(Status.key))
    }
    for kind in PortKind.allCases { try read(kind.attachment.statusType) }
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(name, forKey: .name)
    try values.encode(kind, forKey: .kind)
    try values.encode(state, forKey: .state)
    try values.encode(explanation, forKey: .explanation)
    try values.encodeIfPresent(lastError, forKey: .lastError)
    try values.encode(faults, forKey: .faults)
    try values.encodeIfPresent(mtu, forKey: .mtu)
    try values.encodeIfPresent(guestNode, forKey: .guestNode)
    try values.encode(macs, forKey: .macs)
    try values.encodeIfPresent(macLimit, forKey: .macLimit)
    try values.encode(learning, forKey: .learning)
    try values.encode(received, forKey: .received)
    try values.encode(sent, forKey: .sent)
    try values.encode(queues, forKey: .queues)
    var others = encoder.container(keyedBy: TextKey.self)
    for status in byKind.all {
      try others.encode(status, forKey: TextKey(type(of: status).key))
    }
  }
}
