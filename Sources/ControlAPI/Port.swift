/// What a port is doing.
public enum PortState: String, Codable, Sendable, CaseIterable {
  /// No front-end has connected yet, or the last one went away.
  case waiting
  /// A front-end is connected, but no ring carries frames yet.
  case connected
  /// At least one ring is started and enabled.
  case running
  /// A ring broke the rules and was stopped; a reset or a new front-end clears it.
  case broken
}

/// A port as `GET /v1/ports/NAME` shows it.
public struct Port: Codable, Sendable, Equatable {
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
  public var vhostUser: VhostUserStatus?
  public var tap: TapStatus?
  /// Sum over the transmitqs: what came in from this port.
  public var received: Counters
  /// Sum over the receiveqs: what went out to this port.
  public var sent: Counters
  public var queues: [Queue]

  public init(
    name: String, kind: PortKind, state: PortState, explanation: String, lastError: String? = nil,
    faults: [String: UInt64] = [:], mtu: Int? = nil, guestNode: Int? = nil, macs: Int = 0,
    macLimit: Int? = nil, learning: LearningCounters = LearningCounters(),
    vhostUser: VhostUserStatus? = nil,
    tap: TapStatus? = nil, received: Counters = Counters(), sent: Counters = Counters(),
    queues: [Queue] = []
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
    self.vhostUser = vhostUser
    self.tap = tap
    self.received = received
    self.sent = sent
    self.queues = queues
  }
}

public enum PortKind: String, Codable, Sendable, CaseIterable {
  case vhostUser = "vhost-user"
  case tap
}

/// The vhost-user side of a port.
public struct VhostUserStatus: Codable, Sendable, Equatable {
  public var path: String
  public var mode: SocketMode
  /// Queue pairs offered.
  public var queuePairs: Int
  /// Process that connected, when one is connected and the kernel knows it.
  public var frontEndPID: Int?
  /// Front-ends that have connected since the port was made.
  public var connections: Int
  /// Negotiated virtio feature bits by their specification names.
  public var features: [String]
  /// Negotiated vhost-user protocol features by name.
  public var protocolFeatures: [String]
  /// Device status bits by name, when the front-end reports them.
  public var deviceStatus: [String]
  public var memoryRegions: [MemoryRegion]
  /// What is known of the guest's IOMMU, when it has one.
  public var iotlb: IOTLBStatus?

  public init(
    path: String, mode: SocketMode, queuePairs: Int, frontEndPID: Int? = nil, connections: Int = 0,
    features: [String] = [], protocolFeatures: [String] = [], deviceStatus: [String] = [],
    memoryRegions: [MemoryRegion] = [], iotlb: IOTLBStatus? = nil
  ) {
    self.path = path
    self.mode = mode
    self.queuePairs = queuePairs
    self.frontEndPID = frontEndPID
    self.connections = connections
    self.features = features
    self.protocolFeatures = protocolFeatures
    self.deviceStatus = deviceStatus
    self.memoryRegions = memoryRegions
    self.iotlb = iotlb
  }
}

/// The translations of device addresses that a front-end has told, and what they came to.
public struct IOTLBStatus: Codable, Sendable, Equatable {
  /// Translations known now; those that continue each other count once.
  public var entries: Int
  /// Updates and invalidations received since the front-end connected.
  public var updates: Int
  public var invalidations: Int
  /// Addresses that were needed and not known, so that the front-end was asked or is to be.
  public var misses: Int
  /// Rings that wait for translations of their own addresses.
  public var waitingRings: [Int]

  public init(
    entries: Int = 0, updates: Int = 0, invalidations: Int = 0, misses: Int = 0,
    waitingRings: [Int] = []
  ) {
    self.entries = entries
    self.updates = updates
    self.invalidations = invalidations
    self.misses = misses
    self.waitingRings = waitingRings
  }
}

/// A region of guest memory that a front-end shared.
public struct MemoryRegion: Codable, Sendable, Equatable {
  /// Guest physical address of its first byte.
  public var guestAddress: UInt64
  /// Bytes.
  public var size: UInt64
  /// Bytes of a page of the file behind it.
  public var pageSize: UInt64
  /// NUMA node of its first page, when it is known.
  public var node: Int?

  public init(guestAddress: UInt64, size: UInt64, pageSize: UInt64, node: Int? = nil) {
    self.guestAddress = guestAddress
    self.size = size
    self.pageSize = pageSize
    self.node = node
  }
}

/// The TAP side of a port.
public struct TapStatus: Codable, Sendable, Equatable {
  public var device: String
  public var queues: Int
  /// Whether swivel made the device, and so removes it.
  public var made: Bool

  public init(device: String, queues: Int, made: Bool) {
    self.device = device
    self.queues = queues
    self.made = made
  }
}
