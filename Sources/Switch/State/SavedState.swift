public import ControlAPI

/// What a daemon leaves to its successor, but for the positions of packed rings (`RingPositions`).
public struct SavedState: Codable, Sendable, Equatable {
  /// A port, and who is on it.
  public struct SavedPort: Codable, Sendable, Equatable {
    public var request: PortRequest
    /// What the configuration file had under the name; `nil`: the port came by the control interface.
    public var file: PortRequest?
    /// The front-end that is connected.
    public var frontEnd: FrontEnd?
  }

  /// A process that drives a port, and what it has been offered.
  public struct FrontEnd: Codable, Sendable, Equatable {
    public var pid: Int
    /// When it started, in clock ticks since the machine did (proc(5), field 22 of `stat`): numbers of processes come again.
    public var started: UInt64?
    public var features: UInt64
  }

  /// An address and the place of its port among `ports`.
  public struct Address: Codable, Sendable, Equatable {
    public var mac: String
    public var port: Int
    /// Seconds since it was heard last; `nil`: it was entered, and does not age.
    public var age: Double?

    public init(mac: String, port: Int, age: Double?) {
      self.mac = mac
      self.port = port
      self.age = age
    }

    public init(from decoder: any Decoder) throws {
      var row = try decoder.unkeyedContainer()
      self.init(
        mac: try row.decode(String.self), port: try row.decode(Int.self),
        age: try row.decodeIfPresent(Double.self))
    }

    /// A row of two or three, as there may be many.
    public func encode(to encoder: any Encoder) throws {
      var row = encoder.unkeyedContainer()
      try row.encode(mac)
      try row.encode(port)
      if let age { try row.encode(age) }
    }
  }

  /// Of the program that wrote it.
  public var version: String
  /// Which run of the machine it was; in another nobody is connected any more.
  public var boot: String
  /// When, in seconds since the machine started.
  public var time: Double
  public var ports: [SavedPort]
  public var addresses: [Address]
  /// CPUs of workers that came by the control interface.
  public var workers: [Int]?

  public init(
    version: String, boot: String, time: Double, ports: [SavedPort], addresses: [Address],
    workers: [Int]? = nil
  ) {
    self.version = version
    self.boot = boot
    self.time = time
    self.ports = ports
    self.addresses = addresses
    self.workers = workers
  }

  /// Most addresses that are kept: those heard last. What is not known is flooded, and heard again soon.
  public static let mostAddresses = 65_536
}
