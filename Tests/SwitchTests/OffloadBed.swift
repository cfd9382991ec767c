import Testing
import VirtioDriver

/// Frames with offloads on their way from one guest to others, each held against the reference.
struct OffloadBed {
  /// Whatever Linux and DPDK can negotiate of offloads.
  static let hostAll: VirtioFeatures = [.csum, .hostTSO4, .hostTSO6, .hostECN, .hostUSO]
  static let guestAll: VirtioFeatures = [
    .guestCsum, .guestTSO4, .guestTSO6, .guestECN, .guestUSO4, .guestUSO6,
  ]
  static let guestSegments: VirtioFeatures = [
    .guestTSO4, .guestTSO6, .guestUSO4, .guestUSO6,
  ]
  /// A frame and its virtio-net header, with which a buffer holds anything (5.1.9.3.1).
  static let longest = 12 + 65_550

  /// Station 0.
  let sender: GuestPort
  /// Stations 1, 2, …
  let receivers: [GuestPort]

  /// A guest's options with exactly `features` beside the usual ones, and buffers as these demand.
  static func options(
    _ features: VirtioFeatures, without: VirtioFeatures = []
  ) -> GuestPort.Options {
    var options = GuestPort.Options()
    options.features = VirtioFeatures.usual.subtracting(without).union(features)
    options.transmitBufferLength = longest
    if !options.features.contains(.mrgRxbuf), !features.isDisjoint(with: guestSegments) {
      options.receiveBufferLength = longest
    }
    return options
  }

  /// A sender with every offload on port g0, and receivers with `features` on g1, g2 …
  static func attach(
    _ bench: Bench, sender: VirtioFeatures = hostAll, receivers: [VirtioFeatures]
  ) throws -> OffloadBed {
    let bed = OffloadBed(
      sender: try bench.attach("g0", options(sender)),
      receivers: try receivers.enumerated().map { index, features in
        try bench.attach("g\(index + 1)", options(features))
      })
    #expect(bed.sender.features.isSuperset(of: sender))
    for (receiver, features) in zip(bed.receivers, receivers) {
      #expect(receiver.features.isSuperset(of: features))
    }
    try introduce([bed.sender] + bed.receivers)
    return bed
  }

  var named: [(name: String, guest: GuestPort)] { .named([sender] + receivers) }

  // ---- Frames ----

  struct Shipment: Sendable {
    var packet: TestPacket
    var mode: TestPacket.Mode

    var text: String {
      "\(packet.network) \(packet.transport) tags \(packet.tags.map { String($0, radix: 16) }) \(packet.payload.count) bytes flags \(packet.flags), \(mode)"
    }
  }

  static let networks: [TestPacket.Network] = [
    .ipv4(options: 0), .ipv6([]), .ipv4(options: 8),
    .ipv6([.hopByHop, .routing, .destinationOptions]),
  ]
  static let tags: [[UInt16]] = [[], [0x8100], [0x88a8, 0x8100]]

  /// Every kind of frame to `destination`: network, transport, tags, mode; lengths and flags vary with them.
  static func shipments(to destination: EthernetAddress = .station(1), seed: Int = 0) -> [Shipment]
  {
    var all: [Shipment] = []
    for network in networks {
      // None, or up to 12 bytes of them.
      let options = 4 * ((all.count / 18 + seed) % 4)
      for transport in [TestPacket.Transport.tcp(options: options), .udp] {
        for tags in tags {
          let number = all.count / 3 + seed
          let size = [536, 1000, 1361][number % 3]
          let lengths = [
            [0, 1, 2, 7, 600, 1301][number % 6], [1, 0, 333, 1400, 8, 64][number % 6],
            [3 * size, 3 * size + 1, 2 * size - 1, size, size + 1, 5 * size + 77, 1][number % 7],
          ]
          let modes: [TestPacket.Mode] = [.full, .partial, .segmented(size: size)]
          for (mode, length) in zip(modes, lengths) {
            var packet = TestPacket(
              to: destination, from: .station(0), network, transport, tags: tags, length: length,
              seed: UInt64(all.count + seed))
            packet.flags =
              [
                TestPacket.ack, TestPacket.ack | TestPacket.psh, TestPacket.ack | TestPacket.cwr,
                TestPacket.ack | TestPacket.psh | TestPacket.fin | TestPacket.ece | TestPacket.cwr,
              ][number % 4]
            all.append(Shipment(packet: packet, mode: mode))
          }
        }
      }
    }
    return all
  }

  /// The longest of each kind of segmentation, with `limit` bytes of IP packet.
  static func longest(
    to destination: EthernetAddress = .station(1), limit: Int = 65_535
  ) -> [Shipment] {
    [TestPacket.Network.ipv4(options: 0), .ipv6([])].flatMap { network in
      [TestPacket.Transport.tcp(options: 12), .udp].map { transport in
        var packet = TestPacket(
          to: destination, from: .station(0), network, transport, length: 0)
        let room = limit - (packet.headerLength - packet.networkOffset)
        packet = TestPacket(to: destination, from: .station(0), network, transport, length: room)
        return Shipment(packet: packet, mode: .segmented(size: 1400))
      }
    }
  }

  /// Sends what the sender's features allow, `burst` frames at a time, and holds every receiver to the
  /// reference; `receives`: those that are to get something.
  func exchange(
    _ shipments: [Shipment], burst: Int = 5, receives: [Int]? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let allowed = shipments.filter { sender.features.isSuperset(of: $0.packet.needs($0.mode)) }
    var rest = allowed[...]
    while !rest.isEmpty {
      let group = rest.prefix(burst)
      rest = rest.dropFirst(burst)
      for shipment in group {
        #expect(
          sender.pairs[0].enqueue(
            shipment.packet.frame(shipment.mode), header: shipment.packet.header(shipment.mode)),
          sourceLocation: sourceLocation)
      }
      sender.pairs[0].flush()
      sender.settle(sourceLocation: sourceLocation)
      for (index, receiver) in receivers.enumerated() {
        let expected = receives?.contains(index) ?? true
        check(
          receiver, expected ? Array(group) : [], "receiver \(index)",
          sourceLocation: sourceLocation)
      }
    }
  }

  /// Takes what a receiver has got, which must be `shipments` in order.
  func check(
    _ receiver: GuestPort, _ shipments: [Shipment], _ name: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    var received: [QueuePair.Received] = []
    while let one = receiver.pairs[0].receiveWithHeader() { received.append(one) }
    var next = 0
    for shipment in shipments {
      let count = shipment.packet.arrivals(shipment.mode, features: receiver.features)
      let own = Array(received[min(next, received.count)..<min(next + count, received.count)])
      next += count
      let wrong = shipment.packet.judge(own, shipment.mode, features: receiver.features)
      #expect(wrong == [], "\(name): \(shipment.text)", sourceLocation: sourceLocation)
    }
    #expect(received.count == next, "\(name): frames", sourceLocation: sourceLocation)
  }

  /// Sends one frame behind any header at all, and waits until the switch is done with it.
  func send(
    _ frame: [UInt8], _ header: NetHeader, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(sender.send(frame, header: header), sourceLocation: sourceLocation)
    sender.settle(sourceLocation: sourceLocation)
  }
}
