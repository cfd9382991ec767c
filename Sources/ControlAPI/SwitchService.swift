/// What the control interface asks of the switch. Every call may block for as long as the workers need to
/// reach a quiescent state (microseconds to milliseconds); none may be made from a worker.
public protocol SwitchService: Sendable {
  func ports() -> [Port]
  /// `nil` when there is no port of that name.
  func port(named name: String) -> Port?
  func addPort(_ request: PortRequest) throws(ServiceError) -> Port
  func removePort(named name: String) throws(ServiceError)
  func macs() -> [MACEntry]
  func workers() -> [Worker]
  func stats() -> Stats
}

/// Why the switch refused a request.
public struct ServiceError: Error, Codable, Sendable, Equatable, CustomStringConvertible {
  public enum Kind: String, Codable, Sendable {
    /// The request itself is wrong (HTTP 400).
    case invalid
    /// There is no such thing (HTTP 404).
    case notFound
    /// It is there already (HTTP 409).
    case conflict
    /// The system refused: no permission, no device, no memory (HTTP 500).
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
