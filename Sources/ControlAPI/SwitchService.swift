/// What the control interface asks of the switch. Every call may block for as long as the workers need to
/// reach a quiescent state (microseconds to milliseconds); none may be made from a worker.
public protocol SwitchService: Sendable {
  func ports() -> [Port]
  /// `nil` when there is no port of that name.
  func port(named name: String) -> Port?
  func addPort(_ request: PortRequest) throws(ServiceError) -> Port
  /// Changes what a port allows without its guest noticing; refuses what can't change so.
  func changePort(named name: String, _ change: PortChange) throws(ServiceError) -> Port
  func removePort(named name: String) throws(ServiceError)
  func macs() -> [MACEntry]
  /// Enters an address (`aa:bb:cc:dd:ee:ff`) for a port, to stay until it is removed or the port is.
  func addMAC(_ mac: String, port: String) throws(ServiceError) -> MACEntry
  /// Forgets one address, however it came.
  func removeMAC(_ mac: String) throws(ServiceError)
  /// Forgets what was learned: on one port, or on all. Those entered by `addMAC` stay.
  func flushMACs(port: String?) throws(ServiceError)
  func workers() -> [Worker]
  /// Starts a worker on a CPU.
  func addWorker(_ request: WorkerRequest) throws(ServiceError) -> Worker
  /// Ends a worker, by its number, when others have taken its queues.
  func removeWorker(_ number: Int) throws(ServiceError)
  /// Has workers that do less than others take some of their queues. Takes a second, to measure.
  func rebalance() throws(ServiceError) -> BalanceReport
  func stats() -> Stats
  /// Whether the switch does its work. May take two seconds to say that it does not.
  func health() -> Health
  /// Reads the configuration file again and makes the ports what it says, or changes nothing.
  func reload() throws(ServiceError) -> ReloadReport
  func logStatus() -> LogStatus
  func setLogLevel(_ level: LogLevel)
}

/// Why the switch refused a request.
public struct ServiceError: Error, Codable, Sendable, Equatable, CustomStringConvertible {
  public enum Kind: String, Codable, Sendable, CaseIterable {
    /// The request itself is wrong (HTTP 400).
    case invalid
    /// There is no such thing (HTTP 404).
    case notFound
    /// It is there already, or as many as there can be (HTTP 409).
    case conflict
    /// The request is sound, but this machine or this daemon can't do what it asks until somebody changes something:
    /// an unknown group, a directory out of reach, an interface that is no TAP (HTTP 422).
    case refused
    /// Descriptors or memory have run out; it may work later (HTTP 503).
    case exhausted
    /// Something went wrong here, and the request is not to blame (HTTP 500).
    case failed
  }
  public var kind: Kind
  public var message: String

  public init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  public var description: String { message }
}

/// The body of every HTTP reply whose status is 400 or more.
public struct ErrorReply: Codable, Sendable, Equatable {
  public var error: String

  public init(error: String) {
    self.error = error
  }
}

/// The version that `swivel --version` and `GET /v1/stats` report.
public let swivelVersion = "0.1.0"

/// Where the daemon listens, and the command line asks, when nobody says otherwise.
public let defaultControlSocket = "/run/swivel/control.sock"
