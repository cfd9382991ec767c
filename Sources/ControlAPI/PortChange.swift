/// What is to change of a port that is there, without its guest noticing: the body of `PATCH /v1/ports/NAME`. In JSON
/// a key that is left out stays as it is, and `null` goes back to what holds where nothing is said.
public struct PortChange: Encodable, Sendable, Equatable {
  /// A new value, or none any more.
  public enum Setting<Value: Encodable & Sendable & Equatable>: Sendable, Equatable {
    case value(Value)
    case standard

    public var value: Value? {
      if case .value(let value) = self { value } else { nil }
    }
  }

  public var mtu: Setting<Int>?
  public var macs: Setting<Int>?
  public var link: Setting<PortLink>?
  public var owner: Setting<String>?
  public var group: Setting<String>?
  public var permissions: Setting<String>?
  public var memory: Setting<String>?
  public var regions: Setting<Int>?

  /// The keys, in the order that messages list them.
  public static let keys = CodingKeys.allCases.map(\.rawValue)

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case mtu, macs, link, owner, group, permissions, memory, regions
  }

  public init(
    mtu: Setting<Int>? = nil, macs: Setting<Int>? = nil, link: Setting<PortLink>? = nil,
    owner: Setting<String>? = nil, group: Setting<String>? = nil,
    permissions: Setting<String>? = nil,
    memory: Setting<String>? = nil, regions: Setting<Int>? = nil
  ) {
    self.mtu = mtu
    self.macs = macs
    self.link = link
    self.owner = owner
    self.group = group
    self.permissions = permissions
    self.memory = memory
    self.regions = regions
  }

  public var isEmpty: Bool { self == PortChange() }
}

extension PortChange.Setting: Encodable {
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .value(let value): try container.encode(value)
    case .standard: try container.encodeNil()
    }
  }
}

extension PortRequest {
  /// The request with a change made to it; throws `.invalid` for a key that ports of this kind don't have.
  public func changed(by change: PortChange) throws(ServiceError) -> PortRequest {
    var next = self
    if let mtu = change.mtu { next.mtu = mtu.value }
    if let macs = change.macs { next.macs = macs.value }
    if let link = change.link { next.link = link.value }
    if let attachment { next.attach(try attachment.changed(by: change)) }
    try next.validate()
    return next
  }
}
