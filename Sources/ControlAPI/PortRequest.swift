/// A port as a user asks for it: an entry of `ports:` in the configuration file, and the body of
/// `POST /v1/ports`. Exactly one of `vhostUser` and `tap` is set.
public struct PortRequest: Codable, Sendable, Equatable {
  /// 1 to 64 characters of `A–Z a–z 0–9 . _ -`, unique in the switch.
  public var name: String
  public var vhostUser: VhostUserRequest?
  public var tap: TapRequest?
  /// Largest payload after the Ethernet header, 68 to 65535 bytes; `nil`: whatever both sides can.
  public var mtu: Int?
  /// Most addresses that may be learned on the port, 1 to 16777216; `nil`: of a vhost-user port what the switch was
  /// configured with, of a TAP as many as there is room for.
  public var macs: Int?

  enum CodingKeys: String, CodingKey {
    case name
    case vhostUser = "vhost-user"
    case tap
    case mtu
    case macs
  }

  public init(
    name: String, vhostUser: VhostUserRequest? = nil, tap: TapRequest? = nil, mtu: Int? = nil,
    macs: Int? = nil
  ) {
    self.name = name
    self.vhostUser = vhostUser
    self.tap = tap
    self.mtu = mtu
    self.macs = macs
  }
}

/// Who listens on a vhost-user socket.
public enum SocketMode: String, Codable, Sendable, CaseIterable {
  /// swivel listens, the front-end connects.
  case server
  /// The front-end listens, swivel connects, and connects again for ever.
  case client
}

/// A vhost-user port: the back-end of a guest's virtio-net device.
public struct VhostUserRequest: Codable, Sendable, Equatable {
  /// Absolute path of the Unix socket, at most 107 bytes.
  public var path: String
  public var mode: SocketMode?
  /// Queue pairs offered, 1 to 16; `nil`: 1.
  public var queues: Int?
  /// User that owns the socket, by name or number (server mode).
  public var owner: String?
  /// Group of the socket, by name or number (server mode).
  public var group: String?
  /// Permission bits of the socket in octal, as in `"0660"` (server mode).
  public var permissions: String?

  public init(
    path: String, mode: SocketMode? = nil, queues: Int? = nil, owner: String? = nil,
    group: String? = nil, permissions: String? = nil
  ) {
    self.path = path
    self.mode = mode
    self.queues = queues
    self.owner = owner
    self.group = group
    self.permissions = permissions
  }
}

/// A TAP uplink: a network interface of the host.
public struct TapRequest: Codable, Sendable, Equatable {
  /// Interface name, 1 to 15 characters; made if absent, removed at the end if swivel made it.
  public var device: String
  /// Queues of the device, 1 to 16; `nil`: 1.
  public var queues: Int?

  public init(device: String, queues: Int? = nil) {
    self.device = device
    self.queues = queues
  }
}
