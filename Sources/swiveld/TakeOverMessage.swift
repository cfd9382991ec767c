import Configuration
import Control
import ControlAPI
import Foundation
import Glibc
import Linux
import Switch

/// What two daemons say to each other as one takes over from the other: JSON, with descriptors beside it (`MessageStream`).
///
/// The new one says `hello`, and is made an `offer`: addresses, and the state's file. When it has started all that it can without
/// the other it says `stop`, and gets the `state`, as nothing moves any more. When it has made everything of that, it says
/// `tookOver`; the answer, `yours`, ends the other. At any other answer, at the end of the connection, or when too much time has
/// passed, the other goes on as if nothing had been. `refused` comes with a reason in place of any answer.
struct TakeOverMessage: Codable {
  enum Kind: String, Codable { case hello, offer, stop, state, tookOver, yours, refused }

  /// Of these messages. A daemon says only what it can say in full: what others could not do without makes another format.
  static let format = 1

  var kind: Kind
  var format = TakeOverMessage.format
  var version = swivelVersion
  var reason: String?
  var saved: SavedState?
  var stateFile: File?
  var state: HandedState?
  /// Of the control interface, and that of take-overs.
  var sockets: [HandedListener]?

  struct File: Codable {
    var path: String
    var descriptor: Int
  }

  init(_ kind: Kind) { self.kind = kind }

  /// Throws, in a sentence, what is no message of this format, or refuses.
  init(decoding bytes: [UInt8]) throws {
    struct Envelope: Decodable {
      var format: Int
      var version: String
    }
    let data = Data(bytes)
    let decoder = JSONDecoder()
    guard let envelope = try? decoder.decode(Envelope.self, from: data) else {
      throw ServiceError(.refused, "the other daemon says what can't be understood")
    }
    guard envelope.format == TakeOverMessage.format else {
      throw ServiceError(
        .refused,
        "the other daemon (\(envelope.version)) hands over in format \(envelope.format), this one (\(swivelVersion)) in \(TakeOverMessage.format): restart it instead"
      )
    }
    do {
      self = try decoder.decode(TakeOverMessage.self, from: data)
    } catch {
      throw ServiceError(
        .refused,
        "the other daemon (\(envelope.version)) says what this one (\(swivelVersion)) can't understand: \(error)"
      )
    }
  }

  func encoded() throws -> [UInt8] { [UInt8](try JSONEncoder().encode(self)) }
}

extension MessageStream {
  func send(
    _ message: TakeOverMessage, _ descriptors: HandedDescriptors = .init(), within time: Duration
  ) throws {
    try send(try message.encoded(), descriptors.all, until: .now + time)
  }

  /// The next message, which is to be of a kind.
  func receive(
    _ kind: TakeOverMessage.Kind, within time: Duration
  ) throws -> (TakeOverMessage, HandedDescriptors) {
    let (bytes, descriptors) = try receive(until: .now + time)
    let message = try TakeOverMessage(decoding: bytes)
    if message.kind == .refused {
      throw ServiceError(.refused, message.reason ?? "the other daemon refuses")
    }
    guard message.kind == kind else {
      throw ServiceError(
        .refused, "the other daemon says '\(message.kind.rawValue)', not '\(kind.rawValue)'")
    }
    return (message, HandedDescriptors(descriptors))
  }
}

extension Configuration {
  /// The socket by which another daemon takes over, beside the control socket, under its name.
  var takeOverPath: String {
    (control.path.hasSuffix(".sock") ? String(control.path.dropLast(5)) : control.path)
      + ".take-over"
  }
}
