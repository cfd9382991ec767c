/// Feature bits of a virtio-net device and of vhost (virtio v1.4, 5.1.3 and 6; vhost-user.rst).
public struct Features: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }

  private init(bit: Int) { rawValue = 1 << UInt64(bit) }

  public static let netCsum = Features(bit: 0)
  public static let netGuestCsum = Features(bit: 1)
  public static let netMTU = Features(bit: 3)
  public static let netMAC = Features(bit: 5)
  public static let netGuestTSO4 = Features(bit: 7)
  public static let netGuestTSO6 = Features(bit: 8)
  public static let netGuestECN = Features(bit: 9)
  public static let netGuestUFO = Features(bit: 10)
  public static let netHostTSO4 = Features(bit: 11)
  public static let netHostTSO6 = Features(bit: 12)
  public static let netHostECN = Features(bit: 13)
  public static let netHostUFO = Features(bit: 14)
  public static let netMrgRxbuf = Features(bit: 15)
  public static let netStatus = Features(bit: 16)
  public static let netCtrlVQ = Features(bit: 17)
  public static let netCtrlRx = Features(bit: 18)
  public static let netCtrlVLAN = Features(bit: 19)
  public static let netGuestAnnounce = Features(bit: 21)
  public static let netMQ = Features(bit: 22)
  public static let netCtrlMACAddr = Features(bit: 23)
  public static let notifyOnEmpty = Features(bit: 24)
  /// VHOST_F_LOG_ALL: every page written is marked in the log.
  public static let logAll = Features(bit: 26)
  public static let anyLayout = Features(bit: 27)
  public static let ringIndirectDesc = Features(bit: 28)
  public static let ringEventIdx = Features(bit: 29)
  /// VHOST_USER_F_PROTOCOL_FEATURES: the bit of the protocol, which no driver sees.
  public static let vhostUserProtocol = Features(bit: 30)
  public static let version1 = Features(bit: 32)
  public static let accessPlatform = Features(bit: 33)
  public static let ringPacked = Features(bit: 34)
  public static let inOrder = Features(bit: 35)
  public static let orderPlatform = Features(bit: 36)
  public static let netGuestUSO4 = Features(bit: 54)
  public static let netGuestUSO6 = Features(bit: 55)
  public static let netHostUSO = Features(bit: 56)
  public static let netHashReport = Features(bit: 57)
  public static let netRSS = Features(bit: 60)
  public static let netRSCExt = Features(bit: 61)

  /// The specifications' names of the bits set, lowest first; a bit without one is "bit N".
  public var names: [String] { bitNames(rawValue, Features.table) }

  private static let table: [Int: String] = [
    0: "VIRTIO_NET_F_CSUM", 1: "VIRTIO_NET_F_GUEST_CSUM", 2: "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS",
    3: "VIRTIO_NET_F_MTU", 5: "VIRTIO_NET_F_MAC", 6: "VIRTIO_NET_F_GSO",
    7: "VIRTIO_NET_F_GUEST_TSO4", 8: "VIRTIO_NET_F_GUEST_TSO6", 9: "VIRTIO_NET_F_GUEST_ECN",
    10: "VIRTIO_NET_F_GUEST_UFO", 11: "VIRTIO_NET_F_HOST_TSO4", 12: "VIRTIO_NET_F_HOST_TSO6",
    13: "VIRTIO_NET_F_HOST_ECN", 14: "VIRTIO_NET_F_HOST_UFO", 15: "VIRTIO_NET_F_MRG_RXBUF",
    16: "VIRTIO_NET_F_STATUS", 17: "VIRTIO_NET_F_CTRL_VQ", 18: "VIRTIO_NET_F_CTRL_RX",
    19: "VIRTIO_NET_F_CTRL_VLAN", 20: "VIRTIO_NET_F_CTRL_RX_EXTRA",
    21: "VIRTIO_NET_F_GUEST_ANNOUNCE", 22: "VIRTIO_NET_F_MQ", 23: "VIRTIO_NET_F_CTRL_MAC_ADDR",
    24: "VIRTIO_F_NOTIFY_ON_EMPTY", 26: "VHOST_F_LOG_ALL", 27: "VIRTIO_F_ANY_LAYOUT",
    28: "VIRTIO_RING_F_INDIRECT_DESC", 29: "VIRTIO_RING_F_EVENT_IDX",
    30: "VHOST_USER_F_PROTOCOL_FEATURES", 32: "VIRTIO_F_VERSION_1", 33: "VIRTIO_F_ACCESS_PLATFORM",
    34: "VIRTIO_F_RING_PACKED", 35: "VIRTIO_F_IN_ORDER", 36: "VIRTIO_F_ORDER_PLATFORM",
    37: "VIRTIO_F_SR_IOV", 38: "VIRTIO_F_NOTIFICATION_DATA", 39: "VIRTIO_F_NOTIF_CONFIG_DATA",
    40: "VIRTIO_F_RING_RESET", 41: "VIRTIO_F_ADMIN_VQ", 51: "VIRTIO_NET_F_DEVICE_STATS",
    52: "VIRTIO_NET_F_VQ_NOTF_COAL", 53: "VIRTIO_NET_F_NOTF_COAL", 54: "VIRTIO_NET_F_GUEST_USO4",
    55: "VIRTIO_NET_F_GUEST_USO6", 56: "VIRTIO_NET_F_HOST_USO", 57: "VIRTIO_NET_F_HASH_REPORT",
    59: "VIRTIO_NET_F_GUEST_HDRLEN", 60: "VIRTIO_NET_F_RSS", 61: "VIRTIO_NET_F_RSC_EXT",
    62: "VIRTIO_NET_F_STANDBY", 63: "VIRTIO_NET_F_SPEED_DUPLEX",
  ]
}

/// Features of the protocol itself (vhost-user.rst, "Protocol features").
public struct ProtocolFeatures: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }

  private init(bit: Int) { rawValue = 1 << UInt64(bit) }

  public static let mq = ProtocolFeatures(bit: 0)
  public static let logShmfd = ProtocolFeatures(bit: 1)
  public static let rarp = ProtocolFeatures(bit: 2)
  public static let replyAck = ProtocolFeatures(bit: 3)
  public static let netMTU = ProtocolFeatures(bit: 4)
  public static let backendReq = ProtocolFeatures(bit: 5)
  public static let resetDevice = ProtocolFeatures(bit: 13)
  public static let configureMemSlots = ProtocolFeatures(bit: 15)
  public static let status = ProtocolFeatures(bit: 16)

  /// What `Session` knows how to serve: offer a subset of it.
  public static let supported: ProtocolFeatures = [
    .mq, .logShmfd, .rarp, .replyAck, .netMTU, .backendReq, .resetDevice, .configureMemSlots,
    .status,
  ]

  /// The specification's names of the bits set, lowest first; a bit without one is "bit N".
  public var names: [String] { bitNames(rawValue, ProtocolFeatures.table) }

  private static let table: [Int: String] = Dictionary(
    uniqueKeysWithValues: [
      "MQ", "LOG_SHMFD", "RARP", "REPLY_ACK", "NET_MTU", "BACKEND_REQ", "CROSS_ENDIAN",
      "CRYPTO_SESSION", "PAGEFAULT", "CONFIG", "BACKEND_SEND_FD", "HOST_NOTIFIER",
      "INFLIGHT_SHMFD", "RESET_DEVICE", "INBAND_NOTIFICATIONS", "CONFIGURE_MEM_SLOTS", "STATUS",
      "XEN_MMAP", "SHARED_OBJECT", "DEVICE_STATE",
    ].enumerated().map { ($0.offset, "VHOST_USER_PROTOCOL_F_" + $0.element) })
}

/// The device status a driver writes (virtio v1.4, 2.1).
public struct DeviceStatus: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static let acknowledge = DeviceStatus(rawValue: 1)
  public static let driver = DeviceStatus(rawValue: 2)
  public static let driverOK = DeviceStatus(rawValue: 4)
  public static let featuresOK = DeviceStatus(rawValue: 8)
  public static let suspend = DeviceStatus(rawValue: 16)
  public static let needsReset = DeviceStatus(rawValue: 64)
  public static let failed = DeviceStatus(rawValue: 128)

  /// The specification's names of the bits set, lowest first; a bit without one is "bit N".
  public var names: [String] { bitNames(UInt64(rawValue), DeviceStatus.table) }

  private static let table: [Int: String] = [
    0: "ACKNOWLEDGE", 1: "DRIVER", 2: "DRIVER_OK", 3: "FEATURES_OK", 4: "SUSPEND",
    6: "DEVICE_NEEDS_RESET", 7: "FAILED",
  ]
}

private func bitNames(_ bits: UInt64, _ table: [Int: String]) -> [String] {
  (0..<64).filter { bits & (1 << UInt64($0)) != 0 }.map { table[$0] ?? "bit \($0)" }
}
