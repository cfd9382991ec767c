public import ControlAPI
internal import Foundation
public import Linux
internal import VhostUser

/// All that a switch hands over while nothing moves. Descriptors are places in the list that goes beside it.
public struct HandedState: Codable, Sendable, Equatable {
  /// Ports in their order.
  public var ports: [HandedPort]
  /// Counts of ports that are gone.
  var received: HandedCounts
  var sent: HandedCounts
  var learning: HandedLearning
  var aged: UInt64

  /// The same as text, for another process.
  public func encoded() throws -> [UInt8] { [UInt8](try JSONEncoder().encode(self)) }

  public init(decoding bytes: [UInt8]) throws {
    self = try JSONDecoder().decode(HandedState.self, from: Data(bytes))
  }

  init(
    ports: [HandedPort], received: HandedCounts, sent: HandedCounts, learning: HandedLearning,
    aged: UInt64
  ) {
    (self.ports, self.received, self.sent) = (ports, received, sent)
    (self.learning, self.aged) = (learning, aged)
  }
}

/// A port, whatever its kind.
public struct HandedPort: Codable, Sendable, Equatable {
  /// As it is now.
  public var request: PortRequest
  /// What the configuration file had under the name; `nil`: the port came by the control interface.
  public var file: PortRequest?
  /// By queue; the last is that of control's own frames.
  var counts: [HandedCounts] = []
  var learning: HandedLearning?
  var faults: [String: UInt64] = [:]
  var lastError: String?

  // ---- A port with front-ends ----

  var listener: HandedListener?
  var frontEnd: FrontEnd?

  /// The front-end that is connected.
  struct FrontEnd: Codable, Sendable, Equatable {
    var session: SessionState
    var pid: Int?
    var started: UInt64?
    /// What it was offered.
    var offered: UInt64
    var askedMTU: Int?
  }
  var connections = 0

  // ---- An uplink ----

  var device: Device?

  struct Device: Codable, Sendable, Equatable {
    var name: String
    var queues: [Int]
    var made: Bool
    var segmentsDatagrams: Bool
  }

  /// The socket of the port, where it has one that it listens on.
  public func listenerHandedOver(
    _ descriptors: HandedDescriptors
  ) throws(SystemError) -> UnixListener? {
    try listener?.listener(descriptors)
  }

  init(request: PortRequest, file: PortRequest?) {
    self.request = request
    self.file = file
  }
}

/// A listening socket and its file.
public struct HandedListener: Codable, Sendable, Equatable {
  public var path: String
  public var socket: Int
  public var inode: UInt64

  public init(path: String, socket: Int, inode: UInt64) {
    (self.path, self.socket, self.inode) = (path, socket, inode)
  }
}

extension HandedListener {
  public init(_ listener: UnixListener, _ descriptors: inout HandedDescriptors) {
    self.init(
      path: listener.path, socket: descriptors.add(listener.descriptor), inode: listener.inode)
  }

  public func listener(_ descriptors: HandedDescriptors) throws(SystemError) -> UnixListener {
    UnixListener(taking: try descriptors.at(socket), path: path, inode: inode)
  }
}
