/// Feature bits of a virtio-net device (virtio v1.4, 5.1.3 and 6), and the one bit of vhost-user among
/// them. Written down here a second time on purpose: tests want a front-end that shares no code with the
/// back-end.
public struct VirtioFeatures: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }

  private init(bit: Int) { rawValue = 1 << UInt64(bit) }

  public static let csum = VirtioFeatures(bit: 0)
  public static let guestCsum = VirtioFeatures(bit: 1)
  public static let mtu = VirtioFeatures(bit: 3)
  public static let guestTSO4 = VirtioFeatures(bit: 7)
  public static let guestTSO6 = VirtioFeatures(bit: 8)
  public static let guestECN = VirtioFeatures(bit: 9)
  public static let guestUFO = VirtioFeatures(bit: 10)
  public static let hostTSO4 = VirtioFeatures(bit: 11)
  public static let hostTSO6 = VirtioFeatures(bit: 12)
  public static let hostECN = VirtioFeatures(bit: 13)
  public static let hostUFO = VirtioFeatures(bit: 14)
  public static let mrgRxbuf = VirtioFeatures(bit: 15)
  public static let status = VirtioFeatures(bit: 16)
  public static let ctrlVQ = VirtioFeatures(bit: 17)
  public static let guestAnnounce = VirtioFeatures(bit: 21)
  public static let mq = VirtioFeatures(bit: 22)
  public static let logAll = VirtioFeatures(bit: 26)
  public static let anyLayout = VirtioFeatures(bit: 27)
  public static let indirectDesc = VirtioFeatures(bit: 28)
  public static let eventIdx = VirtioFeatures(bit: 29)
  /// VHOST_USER_F_PROTOCOL_FEATURES.
  public static let protocolFeatures = VirtioFeatures(bit: 30)
  public static let version1 = VirtioFeatures(bit: 32)
  public static let accessPlatform = VirtioFeatures(bit: 33)
  public static let ringPacked = VirtioFeatures(bit: 34)
  public static let inOrder = VirtioFeatures(bit: 35)
  public static let guestUSO4 = VirtioFeatures(bit: 54)
  public static let guestUSO6 = VirtioFeatures(bit: 55)
  public static let hostUSO = VirtioFeatures(bit: 56)
  public static let rscExt = VirtioFeatures(bit: 61)

  /// The features by the specification's names where they have one here, else by their bits.
  public var names: String {
    let known: [(VirtioFeatures, String)] = [
      (.csum, "VIRTIO_NET_F_CSUM"), (.guestCsum, "VIRTIO_NET_F_GUEST_CSUM"),
      (.guestTSO4, "VIRTIO_NET_F_GUEST_TSO4"), (.guestTSO6, "VIRTIO_NET_F_GUEST_TSO6"),
      (.guestECN, "VIRTIO_NET_F_GUEST_ECN"), (.guestUFO, "VIRTIO_NET_F_GUEST_UFO"),
      (.hostTSO4, "VIRTIO_NET_F_HOST_TSO4"), (.hostTSO6, "VIRTIO_NET_F_HOST_TSO6"),
      (.hostECN, "VIRTIO_NET_F_HOST_ECN"), (.hostUFO, "VIRTIO_NET_F_HOST_UFO"),
      (.guestUSO4, "VIRTIO_NET_F_GUEST_USO4"), (.guestUSO6, "VIRTIO_NET_F_GUEST_USO6"),
      (.hostUSO, "VIRTIO_NET_F_HOST_USO"), (.rscExt, "VIRTIO_NET_F_RSC_EXT"),
      (.mrgRxbuf, "VIRTIO_NET_F_MRG_RXBUF"), (.mq, "VIRTIO_NET_F_MQ"),
      (.indirectDesc, "VIRTIO_F_INDIRECT_DESC"), (.eventIdx, "VIRTIO_F_EVENT_IDX"),
      (.protocolFeatures, "VHOST_USER_F_PROTOCOL_FEATURES"), (.version1, "VIRTIO_F_VERSION_1"),
      (.ringPacked, "VIRTIO_F_RING_PACKED"), (.inOrder, "VIRTIO_F_IN_ORDER"),
    ]
    return (0..<64).compactMap { (bit: UInt64) -> String? in
      let one = VirtioFeatures(rawValue: 1 << bit)
      if !contains(one) { return nil }
      return known.first { $0.0 == one }?.1 ?? "feature bit \(bit)"
    }.joined(separator: ", ")
  }

  /// Every checksum and segmentation offload there is, of both directions.
  public static let offloads: VirtioFeatures = [
    .csum, .hostTSO4, .hostTSO6, .hostECN, .hostUFO, .hostUSO, .guestCsum, .guestTSO4, .guestTSO6,
    .guestECN, .guestUFO, .guestUSO4, .guestUSO6,
  ]

  /// Each offload with those of which it needs at least one (virtio v1.4, 5.1.3.1).
  public static let prerequisites: [(feature: VirtioFeatures, anyOf: VirtioFeatures)] = [
    (.hostTSO4, .csum), (.hostTSO6, .csum), (.hostUFO, .csum), (.hostUSO, .csum),
    (.hostECN, [.hostTSO4, .hostTSO6]),
    (.guestTSO4, .guestCsum), (.guestTSO6, .guestCsum), (.guestUFO, .guestCsum),
    (.guestUSO4, .guestCsum), (.guestUSO6, .guestCsum), (.guestECN, [.guestTSO4, .guestTSO6]),
  ]

  /// Whether no offload is there without what it needs.
  public var isConsistent: Bool {
    VirtioFeatures.prerequisites.allSatisfy { !contains($0.feature) || !isDisjoint(with: $0.anyOf) }
  }

  /// What a plain driver of today wants.
  public static let usual: VirtioFeatures = [
    .version1, .mrgRxbuf, .eventIdx, .indirectDesc, .mq, .protocolFeatures,
  ]
}

/// Features of the vhost-user protocol (vhost-user.rst, "Protocol features").
public struct VhostUserFeatures: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }

  private init(bit: Int) { rawValue = 1 << UInt64(bit) }

  public static let mq = VhostUserFeatures(bit: 0)
  public static let logShmfd = VhostUserFeatures(bit: 1)
  public static let rarp = VhostUserFeatures(bit: 2)
  public static let replyAck = VhostUserFeatures(bit: 3)
  public static let netMTU = VhostUserFeatures(bit: 4)
  public static let backendReq = VhostUserFeatures(bit: 5)
  public static let config = VhostUserFeatures(bit: 9)
  public static let inflightShmfd = VhostUserFeatures(bit: 12)
  public static let resetDevice = VhostUserFeatures(bit: 13)
  public static let configureMemSlots = VhostUserFeatures(bit: 15)
  public static let status = VhostUserFeatures(bit: 16)

  /// What QEMU asks for with a network device.
  public static let usual: VhostUserFeatures = [
    .mq, .logShmfd, .rarp, .replyAck, .netMTU, .resetDevice, .configureMemSlots, .status,
  ]
}
