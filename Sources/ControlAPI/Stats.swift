/// One learned address: an element of `GET /v1/macs`.
public struct MACEntry: Codable, Sendable, Equatable {
  /// `aa:bb:cc:dd:ee:ff`.
  public var mac: String
  public var port: String
  /// Seconds since a frame from this address was last seen, to the resolution of the table's ageing.
  public var age: Int
  /// Somebody entered it: it stays whatever frames say, until it is removed or its port is.
  public var pinned: Bool

  public init(mac: String, port: String, age: Int, pinned: Bool = false) {
    self.mac = mac
    self.port = port
    self.age = age
    self.pinned = pinned
  }
}

/// One worker thread: an element of `GET /v1/workers`.
public struct Worker: Codable, Sendable, Equatable {
  public var id: Int
  public var cpu: Int
  public var node: Int
  /// `polling` or `sleeping`.
  public var state: String
  /// Turns of its loop.
  public var turns: UInt64
  /// Turns that moved at least one frame.
  public var busyTurns: UInt64
  /// Times it went to sleep for want of work.
  public var sleeps: UInt64
  /// What its arena's memory is made of: `2 MiB hugepages`, `4 KiB pages`, …
  public var memory: String
  /// Transmitqs it polls, as `PORT/INDEX`.
  public var queues: [String]

  public init(
    id: Int, cpu: Int, node: Int, state: String, turns: UInt64 = 0, busyTurns: UInt64 = 0,
    sleeps: UInt64 = 0, memory: String = "", queues: [String] = []
  ) {
    self.id = id
    self.cpu = cpu
    self.node = node
    self.state = state
    self.turns = turns
    self.busyTurns = busyTurns
    self.sleeps = sleeps
    self.memory = memory
    self.queues = queues
  }
}

/// What a port's frames have taught the MAC table since the port was made.
public struct LearningCounters: Codable, Sendable, Equatable {
  /// Addresses that were not known.
  public var learned: UInt64
  /// Addresses that were known on another port.
  public var moved: UInt64
  /// Addresses that went because the port had its limit, and one came.
  public var limited: UInt64
  /// Addresses, of any port, that went because the table had no room for one of these; and these that were not learned,
  /// as no port had so many that it was to lose one.
  public var evicted: UInt64
  /// Frames whose source addresses were not looked at, as too many before them were new; they went their way.
  public var deferred: UInt64

  public init(
    learned: UInt64 = 0, moved: UInt64 = 0, limited: UInt64 = 0, evicted: UInt64 = 0,
    deferred: UInt64 = 0
  ) {
    self.learned = learned
    self.moved = moved
    self.limited = limited
    self.evicted = evicted
    self.deferred = deferred
  }
}

/// The MAC table's own figures; those that ports have too are sums over all there are or have been.
public struct MACTableStats: Codable, Sendable, Equatable {
  /// Addresses the table has room for.
  public var capacity: Int
  public var entries: Int
  public var learned: UInt64
  /// Addresses that changed their port.
  public var moved: UInt64
  /// Addresses that went because their port had its limit.
  public var limited: UInt64
  /// Addresses that went because the table had no room for a newer one, and such newer ones that were not learned.
  public var evicted: UInt64
  /// Frames whose source addresses were not looked at, as too many before them were new.
  public var deferred: UInt64
  /// Addresses removed because they were silent for too long.
  public var aged: UInt64

  public init(
    capacity: Int, entries: Int = 0, learned: UInt64 = 0, moved: UInt64 = 0, limited: UInt64 = 0,
    evicted: UInt64 = 0, deferred: UInt64 = 0, aged: UInt64 = 0
  ) {
    self.capacity = capacity
    self.entries = entries
    self.learned = learned
    self.moved = moved
    self.limited = limited
    self.evicted = evicted
    self.deferred = deferred
    self.aged = aged
  }
}

/// The whole switch: `GET /v1/stats`.
public struct Stats: Codable, Sendable, Equatable {
  public var version: String
  /// Seconds since the daemon started.
  public var uptime: Double
  /// Every queue of every port there is or has been: `received.frames + received.replicas` equals
  /// `sent.frames` plus the drops of both.
  public var received: Counters
  public var sent: Counters
  public var macTable: MACTableStats
  /// The ports that exist now, in the order they were made.
  public var ports: [PortStats]
  /// What the daemon has given up; `nil`: it is not known here.
  public var security: SecurityStatus?
  /// The daemon's log; `nil`: nothing is known of it here.
  public var log: LogStatus?

  public init(
    version: String, uptime: Double, received: Counters, sent: Counters, macTable: MACTableStats,
    ports: [PortStats], security: SecurityStatus? = nil, log: LogStatus? = nil
  ) {
    self.version = version
    self.uptime = uptime
    self.received = received
    self.sent = sent
    self.macTable = macTable
    self.ports = ports
    self.security = security
    self.log = log
  }
}

/// A port's share of `GET /v1/stats`.
public struct PortStats: Codable, Sendable, Equatable {
  public var name: String
  public var state: PortState
  public var received: Counters
  public var sent: Counters

  public init(name: String, state: PortState, received: Counters, sent: Counters) {
    self.name = name
    self.state = state
    self.received = received
    self.sent = sent
  }
}
