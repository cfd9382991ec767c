import Testing

/// A guest's front-end as QEMU's options make it: a row of docs/compatibility.md.
struct FrontEnd: Sendable {
  /// How the device is attached: `--transport` of scripts/guest.
  var transport = "pci"
  /// Properties of the device.
  var device = ""
  /// Queue pairs; the guest has one or two CPUs.
  var queuePairs = 1
  /// Bytes; other than 1500 it is offered to the guest (`host_mtu`).
  var mtu = 1500
  /// The device's addresses go through QEMU's intel-iommu, in this mode: `--iommu` of scripts/guest.
  var iommu: String?
  /// How the guest attaches an XDP program, if it does: `native` or `generic`.
  var xdp: String?
  /// The port on which it is: one offers everything, one but the offloads that a guest takes over (`offloads: host`).
  var port = FrontEnd.ports[0]
  /// Whether the row is among the few that CI runs.
  var smoke = false

  static let ports = ["vm1", "vm1host"]

  var adapter: String {
    switch transport {
    case "pci": iommu.map { "virtio-net-pci behind intel-iommu, \($0)" } ?? "virtio-net-pci"
    case "mmio": "virtio-net-device (mmio)"
    default: "virtio-net-device (legacy mmio)"
    }
  }

  /// The properties, with those that the other fields stand for.
  var properties: String {
    var list = device.isEmpty ? [] : [device]
    if mtu != 1500 { list.append("host_mtu=\(mtu)") }
    return list.joined(separator: ",")
  }

  /// For people: the properties, and the queue pairs when there are several.
  var title: String {
    let several = queuePairs > 1 ? ["queues=\(queuePairs)"] : []
    let words = (properties.isEmpty ? [] : [properties]) + several
    var text = words.isEmpty ? "(defaults)" : words.joined(separator: ",")
    if port == FrontEnd.ports[1] { text += "; the port: offloads: host" }
    if let xdp { text += "; XDP, \(xdp)" }
    return text
  }

  /// Of TCP each way when all rows run. Behind an IOMMU every frame of either end waits for QEMU's answer.
  var mebibytes: Int { iommu == nil ? 64 : 4 }

  var guestOptions: [String] {
    var options = ["--transport", transport]
    if !properties.isEmpty { options += ["--device", properties] }
    if let iommu { options += ["--iommu", iommu] }
    if queuePairs > 1 { options += ["--queues", "\(queuePairs)", "--cpus", "2"] }
    return options
  }

  /// What must be among the negotiated features (`true`), and what must not, as the properties say.
  var expectations: [String: Bool] {
    var expected: [String: Bool] = [:]
    for property in properties.split(separator: ",") {
      let parts = property.split(separator: "=").map(String.init)
      if let feature = FrontEnd.features[parts[0]] { expected[feature] = parts[1] != "off" }
    }
    if transport == "legacy-mmio" || device.contains("disable-modern=on") {
      expected["VIRTIO_F_VERSION_1"] = false
    } else {
      expected["VIRTIO_F_VERSION_1"] = true
    }
    if queuePairs > 1 { expected["VIRTIO_NET_F_MQ"] = true }
    expected["VIRTIO_F_ACCESS_PLATFORM"] = iommu != nil
    if port == FrontEnd.ports[1] {
      expected["VIRTIO_NET_F_CSUM"] = true
      expected["VIRTIO_NET_F_GUEST_CSUM"] = false
    }
    return expected
  }

  /// Properties of QEMU's device and the features they decide.
  private static let features = [
    "packed": "VIRTIO_F_RING_PACKED", "mrg_rxbuf": "VIRTIO_NET_F_MRG_RXBUF",
    "indirect_desc": "VIRTIO_RING_F_INDIRECT_DESC", "event_idx": "VIRTIO_RING_F_EVENT_IDX",
    "host_mtu": "VIRTIO_NET_F_MTU",
  ]
  /// The properties that turn off what the guest's driver may leave to the switch, and what the switch
  /// may leave to the driver.
  private static let nothingSent =
    "csum=off,gso=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off"
  private static let nothingReceived =
    "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"

  static let all: [FrontEnd] = [
    FrontEnd(),
    FrontEnd(device: "packed=on"),
    FrontEnd(device: "mrg_rxbuf=off"),
    FrontEnd(device: "packed=on,mrg_rxbuf=off"),
    FrontEnd(device: "indirect_desc=off"),
    FrontEnd(device: "packed=on,indirect_desc=off"),
    FrontEnd(device: "event_idx=off"),
    FrontEnd(device: "packed=on,event_idx=off"),
    FrontEnd(device: "mrg_rxbuf=off,indirect_desc=off,event_idx=off"),
    FrontEnd(device: "packed=on,mrg_rxbuf=off,event_idx=off"),
    // Offloads on one side only: the peer has them all.
    FrontEnd(device: "\(nothingSent),\(nothingReceived)", smoke: true),
    FrontEnd(device: nothingSent),
    FrontEnd(device: nothingReceived),
    FrontEnd(device: "packed=on,\(nothingReceived),mrg_rxbuf=off"),
    FrontEnd(device: "\(nothingReceived),mrg_rxbuf=off"),
    FrontEnd(device: "gso=off,host_tso4=off,host_tso6=off"),
    FrontEnd(device: "guest_tso4=off,guest_tso6=off"),
    FrontEnd(device: "host_tso4=off,guest_tso6=off"),
    FrontEnd(device: "guest_ecn=off,host_ecn=off"),
    // Sizes of the rings.
    FrontEnd(device: "rx_queue_size=256,tx_queue_size=256"),
    FrontEnd(device: "rx_queue_size=1024,tx_queue_size=1024"),
    FrontEnd(
      device: "packed=on,indirect_desc=off,rx_queue_size=1024,tx_queue_size=1024"),
    // Sizes of the frames.
    FrontEnd(mtu: 9000),
    FrontEnd(device: "packed=on", mtu: 9000),
    FrontEnd(device: "mrg_rxbuf=off", mtu: 9000),
    FrontEnd(device: nothingReceived, mtu: 9000),
    FrontEnd(mtu: 1400),
    // Transports.
    FrontEnd(device: "disable-legacy=on"),
    FrontEnd(device: "disable-modern=on"),
    FrontEnd(device: "disable-modern=on,mrg_rxbuf=off"),
    FrontEnd(
      device: "disable-modern=on,mrg_rxbuf=off,indirect_desc=off,event_idx=off", smoke: true),
    FrontEnd(device: "disable-modern=on,\(nothingSent),\(nothingReceived)"),
    FrontEnd(transport: "mmio"),
    FrontEnd(transport: "mmio", device: "packed=on", mtu: 9000, smoke: true),
    FrontEnd(transport: "legacy-mmio"),
    FrontEnd(transport: "legacy-mmio", device: "mrg_rxbuf=off,event_idx=off"),
    FrontEnd(iommu: "strict"),
    FrontEnd(device: "packed=on", iommu: "strict"),
    FrontEnd(iommu: "lazy"),
    FrontEnd(device: "packed=on", iommu: "lazy"),
    // Queue pairs.
    FrontEnd(queuePairs: 2),
    FrontEnd(queuePairs: 8),
    FrontEnd(device: "packed=on", queuePairs: 2, mtu: 1400, smoke: true),
    FrontEnd(device: "disable-modern=on", queuePairs: 2),
    // A program in the driver gets frames that are complete, and in one buffer, or the guest has no TCP (docs/guests.md).
    FrontEnd(xdp: "generic"),
    FrontEnd(device: nothingReceived, xdp: "native"),
    FrontEnd(device: "ctrl_guest_offloads=off,\(nothingReceived)", xdp: "native"),
    FrontEnd(device: "ctrl_guest_offloads=off", xdp: "generic"),
    FrontEnd(xdp: "native", port: ports[1], smoke: true),
    FrontEnd(device: "packed=on", queuePairs: 2, xdp: "native", port: ports[1]),
  ]
}
