/// A port as a user asks for it: an entry of `ports:` in the configuration file, and the body of
/// `POST /v1/ports`. Exactly one attachment is set: it says which kind of port it is, and what it leads to.
///
/// As JSON it is an object of `name`, `mtu`, `macs`, and the attachment under the name of its kind.
public struct PortRequest: Sendable, Equatable {
  /// 1 to 64 characters of `A–Z a–z 0–9 . _ -`, unique in the switch.
  public var name: String
  /// Largest payload after the Ethernet header, 68 to 65535 bytes; `nil`: whatever both sides can.
  public var mtu: Int?
  /// Most addresses that may be learned on the port, 1 to 16777216; `nil`: of a vhost-user port what the switch was
  /// configured with, of a TAP as many as there is room for.
  public var macs: Int?
  /// Whether frames pass; `nil`: they do.
  public var link: PortLink?
  private var byKind = ByKind<any Attachment>()

  /// - Parameter attachments: what the port leads to, at most one of each kind. More or less than one in all is a
  ///   fault, which `faults` tells.
  public init(
    name: String, attachments: [any Attachment] = [], mtu: Int? = nil, macs: Int? = nil,
    link: PortLink? = nil
  ) {
    self.name = name
    self.mtu = mtu
    self.macs = macs
    self.link = link
    for attachment in attachments { attach(attachment) }
  }

  /// The attachments that are set, in the order of the kinds.
  public var attachments: [any Attachment] { byKind.all }

  /// The attachment, if it is the only one.
  public var attachment: (any Attachment)? {
    let all = attachments
    return all.count == 1 ? all[0] : nil
  }

  /// Sets the attachment of its kind.
  public mutating func attach(_ attachment: any Attachment) {
    byKind[type(of: attachment).kind] = attachment
  }

  /// The attachment of one kind, for the property by which the kind's own file names it.
  subscript<Kind: Attachment>(type: Kind.Type) -> Kind? {
    get { byKind[Kind.kind] as? Kind }
    set { byKind[Kind.kind] = newValue }
  }
}

/// Whether an operator lets a port carry frames.
public enum PortLink: String, Codable, Sendable, CaseIterable {
  case up
  /// Frames from there are dropped as `queue_disabled`, frames to there as `destination_down`; nothing is learned. vhost-user
  /// has no way to tell the guest: its card keeps its link.
  case down
}

extension PortRequest: Codable {
  private static let ownKeys = (
    name: TextKey("name"), mtu: TextKey("mtu"), macs: TextKey("macs"), link: TextKey("link")
  )

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: TextKey.self)
    self.init(
      name: try container.decode(String.self, forKey: PortRequest.ownKeys.name),
      mtu: try container.decodeIfPresent(Int.self, forKey: PortRequest.ownKeys.mtu),
      macs: try container.decodeIfPresent(Int.self, forKey: PortRequest.ownKeys.macs),
      link: try container.decodeIfPresent(PortLink.self, forKey: PortRequest.ownKeys.link))
    func read<Kind: Attachment>(_ type: Kind.Type) throws {
      self[type] = try container.decodeIfPresent(type, forKey: TextKey(Kind.kind.rawValue))
    }
    for kind in PortKind.allCases { try read(kind.attachment) }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: TextKey.self)
    try container.encode(name, forKey: PortRequest.ownKeys.name)
    try container.encodeIfPresent(mtu, forKey: PortRequest.ownKeys.mtu)
    try container.encodeIfPresent(macs, forKey: PortRequest.ownKeys.macs)
    try container.encodeIfPresent(link, forKey: PortRequest.ownKeys.link)
    for attachment in attachments {
      try container.encode(attachment, forKey: TextKey(type(of: attachment).kind.rawValue))
    }
  }
}
