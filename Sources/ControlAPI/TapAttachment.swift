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

extension TapRequest: Attachment {
  public typealias Status = TapStatus

  public static let kind = PortKind.tap
  public static let keys = ["device", "queues"]

  public static let needs = SystemNeeds(
    capabilities: ["net-admin"], devices: ["/dev/net/tun"],
    requests: [
      // TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNGETIFF
      0x4004_54CA, 0x4004_54D0, 0x4004_54D8, 0x8004_54D2,
      // SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX
      0x8913, 0x8914, 0x8922, 0x8927, 0x8933,
    ],
    // AF_NETLINK: what becomes of the interface
    families: [16])

  public init<Fields: FieldReader>(from fields: inout Fields) throws(Fields.Failure) {
    device = try fields.requiredString("device")
    queues = try fields.integer("queues")
  }

  public var faults: [RequestFault] {
    var faults: [RequestFault] = []
    // The kernel's own rules (dev_valid_name), and no '%', which would make it choose a number.
    let taboo = device.unicodeScalars.contains {
      $0.value <= 0x20 || $0.value == 0x7f || $0 == "/" || $0 == ":" || $0 == "%"
    }
    if !(1...15).contains(device.utf8.count) || taboo || device == "." || device == ".." {
      faults.append(
        TapRequest.fault(
          "device",
          "must be an interface name of 1 to 15 characters without space / : %, "
            + "not \(quoted(device))"))
    }
    if let queues, !(1...16).contains(queues) {
      faults.append(TapRequest.fault("queues", "must be 1 to 16, not \(queues)"))
    }
    return faults
  }

  public var claims: [Claim] { [TapRequest.claim("device", "TAP device", device)] }
}

extension PortRequest {
  /// An uplink's request.
  public init(
    name: String, tap: TapRequest, mtu: Int? = nil, macs: Int? = nil, link: PortLink? = nil
  ) {
    self.init(name: name, attachments: [tap], mtu: mtu, macs: macs, link: link)
  }

  /// What is asked for as an uplink.
  public var tap: TapRequest? {
    get { self[TapRequest.self] }
    set { self[TapRequest.self] = newValue }
  }
}

/// The TAP side of a port.
public struct TapStatus: Codable, Sendable, Equatable {
  /// As the interface is called now.
  public var device: String
  public var queues: Int
  /// Whether swivel made the device, and so removes it.
  public var made: Bool
  /// The interface's own MTU in bytes; `nil`: it can't be seen.
  public var mtu: Int?

  public init(device: String, queues: Int, made: Bool, mtu: Int? = nil) {
    self.device = device
    self.queues = queues
    self.made = made
    self.mtu = mtu
  }
}

extension TapStatus: AttachmentStatus {
  public static let kind = PortKind.tap
  public static let key = "tap"

  public var place: String { device }

  public var facts: [Fact] {
    [
      Fact("device", "\(device) (\(made ? "made by swivel" : "was there before"))"),
      Fact("queues", "\(queues)"),
    ] + (mtu.map { [Fact("interface's MTU", "\($0)")] } ?? [])
  }
}

extension Port {
  /// What the port shows as an uplink.
  public var tap: TapStatus? {
    get { self[TapStatus.self] }
    set { self[TapStatus.self] = newValue }
  }
}
