/// Why a message, or a whole connection, was not accepted: one sentence for a person, beginning with the
/// request's name where there is one.
public struct ProtocolError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    /// The bytes make no message: what follows them can't be trusted. Always ends the session.
    case malformed
    /// A well-formed message asks for what can't be. Answered when the front-end awaits an answer,
    /// otherwise it ends the session.
    case refused
    /// The connection failed or stalled. Always ends the session.
    case connection
  }

  public let kind: Kind
  public let message: String

  public init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  public var description: String { message }

  static func malformed(_ request: Request, _ what: String) -> ProtocolError {
    ProtocolError(.malformed, "\(request.name): \(what)")
  }

  static func refused(_ request: Request, _ what: String) -> ProtocolError {
    ProtocolError(.refused, "\(request.name): \(what)")
  }
}
