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
  /// Most memory that a front-end may share, as in `"64G"` (`memorySize`); `nil`: the daemon's own limit.
  public var memory: String?
  /// Most regions of it at a time, 1 to 512; `nil`: the daemon's own limit.
  public var regions: Int?
  /// Offloads that are offered, as words for `OffloadName.names`; `nil`: all.
  public var offloads: [String]?

  public init(
    path: String, mode: SocketMode? = nil, queues: Int? = nil, owner: String? = nil,
    group: String? = nil, permissions: String? = nil, memory: String? = nil, regions: Int? = nil,
    offloads: [String]? = nil
  ) {
    self.path = path
    self.mode = mode
    self.queues = queues
    self.owner = owner
    self.group = group
    self.permissions = permissions
    self.memory = memory
    self.regions = regions
    self.offloads = offloads
  }
}

extension VhostUserRequest: Attachment {
  public typealias Status = VhostUserStatus

  public static let kind = PortKind.vhostUser
  public static let keys = [
    "path", "mode", "queues", "owner", "group", "permissions", "memory", "regions", "offloads",
  ]

  public init<Fields: FieldReader>(from fields: inout Fields) throws(Fields.Failure) {
    path = try fields.requiredString("path")
    mode = try fields.choice("mode")
    queues = try fields.integer("queues")
    owner = try fields.string("owner")
    group = try fields.string("group")
    permissions = try fields.string("permissions")
    memory = try fields.string("memory")
    regions = try fields.integer("regions")
    offloads = try fields.words("offloads")
  }

  public var faults: [RequestFault] {
    var faults: [RequestFault] = []
    func fault(_ key: String, _ message: String, _ kind: ServiceError.Kind = .invalid) {
      faults.append(VhostUserRequest.fault(key, message, kind))
    }
    if let wrong = socketPathFault(path) { fault("path", wrong) }
    if let queues, !(1...16).contains(queues) { fault("queues", "must be 1 to 16, not \(queues)") }
    if mode == .client {
      let set = [("owner", owner), ("group", group), ("permissions", permissions)]
      for (key, value) in set where value != nil {
        fault(key, "is for mode server: in mode client the front-end makes the socket", .refused)
      }
    }
    if owner == "" { fault("owner", "must be a user's name or number") }
    if group == "" { fault("group", "must be a group's name or number") }
    if let permissions, permissionBits(permissions) == nil {
      fault("permissions", "must be octal, as in '0660', not \(quoted(permissions))")
    }
    if let memory, memorySize(memory) == nil {
      // A schema can say how a size is written, but hardly how much is too much.
      let isSize = memory.wholeMatch(of: #/[1-9][0-9]*[MGT]/#) != nil
      fault(
        "memory", "must be a size from 1M to 64T, as in 64G, not \(quoted(memory))",
        isSize ? .refused : .invalid)
    }
    if let regions, !regionLimits.contains(regions) {
      fault("regions", "must be 1 to 512, not \(regions)")
    }
    if let offloads, case .failure(let wrong) = OffloadName.names(offloads) {
      fault("offloads", wrong.message, wrong.kind)
    }
    return faults
  }

  public var claims: [Claim] {
    [VhostUserRequest.claim("path", "socket path", plainPath(path))]
  }

  public func changed(by change: PortChange) throws(ServiceError) -> Self {
    var next = self
    if let owner = change.owner { next.owner = owner.value }
    if let group = change.group { next.group = group.value }
    if let permissions = change.permissions { next.permissions = permissions.value }
    if let memory = change.memory { next.memory = memory.value }
    if let regions = change.regions { next.regions = regions.value }
    return next
  }

  public var socket: PortSocket? {
    PortSocket(path: path, isMade: mode != .client, owner: owner, group: group)
  }
}

extension PortRequest {
  /// A guest's port's request.
  public init(
    name: String, vhostUser: VhostUserRequest, mtu: Int? = nil, macs: Int? = nil,
    link: PortLink? = nil
  ) {
    self.init(name: name, attachments: [vhostUser], mtu: mtu, macs: macs, link: link)
  }

  /// What is asked for as a guest's port.
  public var vhostUser: VhostUserRequest? {
    get { self[VhostUserRequest.self] }
    set { self[VhostUserRequest.self] = newValue }
  }
}

/// The vhost-user side of a port.
public struct VhostUserStatus: Codable, Sendable, Equatable {
  public var path: String
  public var mode: SocketMode
  /// Queue pairs offered.
  public var queuePairs: Int
  /// Process that connected, when one is connected and the kernel knows it.
  public var frontEndPID: Int?
  /// Front-ends that have connected since the port was made.
  public var connections: Int
  /// Negotiated virtio feature bits by their specification names.
  public var features: [String]
  /// Negotiated vhost-user protocol features by name.
  public var protocolFeatures: [String]
  /// Device status bits by name, when the front-end reports them.
  public var deviceStatus: [String]
  public var memoryRegions: [MemoryRegion]
  /// Most bytes of guest memory, and most regions of it, that a front-end may share.
  public var memoryLimit: UInt64?
  public var regionLimit: Int?
  /// Offloads that are offered, by the names of `OffloadName`.
  public var offloads: [String]?
  /// What is known of the guest's IOMMU, when it has one.
  public var iotlb: IOTLBStatus?

  public init(
    path: String, mode: SocketMode, queuePairs: Int, frontEndPID: Int? = nil, connections: Int = 0,
    features: [String] = [], protocolFeatures: [String] = [], deviceStatus: [String] = [],
    memoryRegions: [MemoryRegion] = [], memoryLimit: UInt64? = nil, regionLimit: Int? = nil,
    offloads: [String]? = nil, iotlb: IOTLBStatus? = nil
  ) {
    self.path = path
    self.mode = mode
    self.queuePairs = queuePairs
    self.frontEndPID = frontEndPID
    self.connections = connections
    self.features = features
    self.protocolFeatures = protocolFeatures
    self.deviceStatus = deviceStatus
    self.memoryRegions = memoryRegions
    self.memoryLimit = memoryLimit
    self.regionLimit = regionLimit
    self.offloads = offloads
    self.iotlb = iotlb
  }
}

extension VhostUserStatus: AttachmentStatus {
  public static let kind = PortKind.vhostUser
  public static let key = "vhostUser"

  public var place: String { path }
  public var connectsTo: String? { mode == .client ? path : nil }

  public var facts: [Fact] {
    let listener = mode == .server ? "swivel listens" : "the front-end listens"
    var facts = [
      Fact("socket", "\(path) (\(listener))"),
      Fact("queue pairs", "\(queuePairs)"),
      Fact("front-end", frontEndPID.map { "process \($0)" } ?? "none that is known"),
      Fact("connections", Figures.grouped(connections)),
    ]
    if let offloads { facts.append(Fact("offloads offered", OffloadName.text(offloads))) }
    if let memoryLimit, let regionLimit {
      let shared = memoryRegions.reduce(0) { $0 + $1.size }
      facts.append(
        Fact(
          "memory",
          "\(Figures.memory(shared)) of at most \(Figures.memory(memoryLimit)), "
            + "\(memoryRegions.count) of at most \(regionLimit) regions"))
    }
    return facts
  }

  public var paragraphs: [Paragraph] {
    var paragraphs: [Paragraph] = [
      .list("features", features),
      .list("protocol features", protocolFeatures),
      .list("device status", deviceStatus),
      .table(
        "memory regions", columns: ["GUEST ADDRESS", "SIZE", "PAGES", "NODE"],
        rows: memoryRegions.map { region in
          [
            "0x" + String(region.guestAddress, radix: 16), Figures.memory(region.size),
            Figures.memory(region.pageSize), Figures.optional(region.node),
          ]
        }),
    ]
    if let iotlb { paragraphs.append(.line("IOTLB", iotlb.text)) }
    return paragraphs
  }
}

extension Port {
  /// What the port shows as a guest's.
  public var vhostUser: VhostUserStatus? {
    get { self[VhostUserStatus.self] }
    set { self[VhostUserStatus.self] = newValue }
  }
}

/// The translations of device addresses that a front-end has told, and what they came to.
public struct IOTLBStatus: Codable, Sendable, Equatable {
  /// Translations known now; those that continue each other count once.
  public var entries: Int
  /// Updates and invalidations received since the front-end connected.
  public var updates: Int
  public var invalidations: Int
  /// Translations that were needed and not known, and that the front-end was asked for.
  public var misses: Int
  /// Rings that wait for translations of their own addresses.
  public var waitingRings: [Int]

  public init(
    entries: Int = 0, updates: Int = 0, invalidations: Int = 0, misses: Int = 0,
    waitingRings: [Int] = []
  ) {
    self.entries = entries
    self.updates = updates
    self.invalidations = invalidations
    self.misses = misses
    self.waitingRings = waitingRings
  }
}

extension IOTLBStatus {
  /// In one line.
  fileprivate var text: String {
    var text =
      "\(Figures.grouped(entries)) entries, \(Figures.grouped(updates)) updates, "
      + "\(Figures.grouped(invalidations)) invalidations, \(Figures.grouped(misses)) misses"
    if !waitingRings.isEmpty {
      text += "; rings that wait: \(waitingRings.map(String.init).joined(separator: ", "))"
    }
    return text
  }
}

/// A region of guest memory that a front-end shared.
public struct MemoryRegion: Codable, Sendable, Equatable {
  /// Guest physical address of its first byte.
  public var guestAddress: UInt64
  /// Bytes.
  public var size: UInt64
  /// Bytes of a page of the file behind it.
  public var pageSize: UInt64
  /// NUMA node of its first page, when it is known.
  public var node: Int?

  public init(guestAddress: UInt64, size: UInt64, pageSize: UInt64, node: Int? = nil) {
    self.guestAddress = guestAddress
    self.size = size
    self.pageSize = pageSize
    self.node = node
  }
}
