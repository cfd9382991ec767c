/// What a port leads to, as a user asks for it: a guest's socket, an interface of the host. Each kind of port has one
/// such type, in a file of its own, which says everything that the control side has to know of the kind; `PortKind`
/// lists them.
public protocol Attachment: Codable, Sendable, Equatable {
  /// What a port of this kind shows of itself.
  associatedtype Status: AttachmentStatus

  static var kind: PortKind { get }

  /// The keys under the kind's own, in the order that messages list them. They are those of the JSON too: a type
  /// whose properties are called otherwise needs `CodingKeys`.
  static var keys: [String] { get }

  /// What ports of the kind need of the kernel. Asked before there are any, as they can be added later.
  static var needs: SystemNeeds { get }

  /// Reads each of `keys`, in that order: what the fields are, not whether their values make sense.
  init<Fields: FieldReader>(from fields: inout Fields) throws(Fields.Failure)

  /// Everything that is wrong with the values; empty when nothing is.
  var faults: [RequestFault] { get }

  /// What only one port of a switch may have.
  var claims: [Claim] { get }

  /// The Unix socket at which the port meets its peer, where it has one.
  var socket: PortSocket? { get }

  /// The same with the kind's own part of a change made to it; throws `.invalid` for what the kind doesn't have.
  func changed(by change: PortChange) throws(ServiceError) -> Self
}

extension Attachment {
  public static var needs: SystemNeeds { SystemNeeds() }
  public var claims: [Claim] { [] }
  public var socket: PortSocket? { nil }

  public func changed(by change: PortChange) throws(ServiceError) -> Self {
    var own = change
    (own.mtu, own.macs, own.link) = (nil, nil, nil)
    if own.isEmpty { return self }
    throw ServiceError(
      .invalid, "of a \(Self.kind.rawValue) port only mtu, macs and link can change")
  }

  /// A fault of the value of `key`; its message begins with the key's full name: `tap.queues must be …`.
  static func fault(
    _ key: String, _ message: String, _ kind: ServiceError.Kind = .invalid
  ) -> RequestFault {
    RequestFault([Self.kind.rawValue, key], "\(Self.kind.rawValue).\(key) \(message)", kind)
  }

  /// A claim by the value of `key`.
  static func claim(_ key: String, _ thing: String, _ name: String) -> Claim {
    Claim([kind.rawValue, key], thing, name)
  }

  /// The type of the status, of a kind that is only known at run time.
  static var statusType: any AttachmentStatus.Type { Status.self }
}

/// Something that only one port of a switch may have.
public struct Claim: Sendable, Equatable, CustomStringConvertible {
  /// The keys that lead to the value, as in `["tap", "device"]`.
  public var keys: [String]
  /// What it is, in the words of a message: `TAP device`. Kinds that use the same word exclude each other.
  public var thing: String
  /// Which one it is.
  public var name: String

  public init(_ keys: [String], _ thing: String, _ name: String) {
    self.keys = keys
    self.thing = thing
    self.name = name
  }

  /// As in `TAP device 'swivel0'`. Two claims that read alike are for the same thing.
  public var description: String { "\(thing) \(quoted(name))" }

  /// Whether both are for the same thing, whatever the keys.
  public func collides(with other: Claim) -> Bool { thing == other.thing && name == other.name }
}

/// A Unix socket at which a port meets its peer.
public struct PortSocket: Sendable, Equatable {
  /// Absolute.
  public var path: String
  /// Whether the daemon makes it and listens; else the peer does, and the daemon connects.
  public var isMade: Bool
  /// User that it is given to, by name or number.
  public var owner: String?
  /// Group that it is given to, by name or number.
  public var group: String?

  public init(path: String, isMade: Bool, owner: String? = nil, group: String? = nil) {
    self.path = path
    self.isMade = isMade
    self.owner = owner
    self.group = group
  }
}

/// What a kind of port needs of the kernel that the daemon would give up otherwise (docs/security.md).
public struct SystemNeeds: Sendable, Equatable {
  /// Capabilities by the names of `security.capabilities`, as in `net-admin`.
  public var capabilities: [String]
  /// Files that are opened for reading and writing and asked by ioctl(2), as in `/dev/net/tun`.
  public var devices: [String]
  /// The requests of those ioctl(2)s, and of others.
  public var requests: [UInt64]
  /// Families of sockets, `AF_…` by number, of which the protocol 0 is needed; that of Unix sockets is there anyway.
  public var families: [Int]

  public init(
    capabilities: [String] = [], devices: [String] = [], requests: [UInt64] = [],
    families: [Int] = []
  ) {
    self.capabilities = capabilities
    self.devices = devices
    self.requests = requests
    self.families = families
  }

  public static func += (sum: inout SystemNeeds, other: SystemNeeds) {
    sum.capabilities += other.capabilities.filter { !sum.capabilities.contains($0) }
    sum.devices += other.devices.filter { !sum.devices.contains($0) }
    sum.requests += other.requests.filter { !sum.requests.contains($0) }
    sum.families += other.families.filter { !sum.families.contains($0) }
  }
}

extension PortKind {
  /// What all kinds need together: ports of any may be added while the daemon runs.
  public static var needs: SystemNeeds {
    allCases.reduce(into: SystemNeeds()) { $0 += $1.attachment.needs }
  }
}
