import ControlAPI
import Switch
import Testing
import VirtioDriver

/// Virtio-net headers that make no sense before the frame behind them.
extension SwitchTests {
  @Suite struct OffloadNonsenseTests {
    private static func packet(
      _ network: TestPacket.Network = .ipv4(options: 0),
      _ transport: TestPacket.Transport = .tcp(options: 0), length: Int = 3000
    ) -> TestPacket {
      TestPacket(to: .station(1), from: .station(0), network, transport, length: length, seed: 9)
    }

    private static let gso = TestPacket.Mode.segmented(size: 1000)

    struct Nonsense: Sendable {
      var text: String
      var reasons: Set<String> = ["malformed_offload"]
      var packet = OffloadNonsenseTests.packet()
      var mode = OffloadNonsenseTests.gso
      var change: @Sendable (inout NetHeader, inout [UInt8]) -> Void
    }

    /// Dropped by either name: nothing that is offered, and nothing that is.
    private static let either: Set<String> = ["malformed_offload", "offload_not_negotiated"]

    static let nonsense: [Nonsense] =
      [
        ("csum_start + csum_offset + 2 beyond the frame", 3038, 16),
        ("csum_start at the frame's end", 3054, 0), ("the field half outside", 3053, 0),
        ("both at their largest", 65_535, 65_535), ("a sum that wraps 16 bits", 34, 65_534),
        ("csum_start 0", 0, 50), ("csum_start within the Ethernet header", 13, 16),
        ("csum_start at the IPv4 header", 14, 0), ("in the IPv4 header", 33, 6),
      ].map { (text: String, start: UInt16, offset: UInt16) in
        Nonsense(text: text, mode: .partial) { header, _ in
          header.csumStart = start
          header.csumOffset = offset
        }
      }
      + [
        ("in the first tag", [0x8100], TestPacket.Network.ipv4(options: 0), 14),
        ("in the second tag", [0x88A8, 0x8100], .ipv4(options: 0), 18),
        ("at a tagged IPv4 header", [0x8100], .ipv4(options: 0), 18),
        ("in an IPv4 header behind two tags", [0x8100, 0x8100], .ipv4(options: 0), 41),
        ("in IPv4's options", [], .ipv4(options: 8), 34),
        ("in IPv4's options behind a tag", [0x8100], .ipv4(options: 8), 45),
        ("in the IPv6 header", [], .ipv6([]), 53),
        ("in an IPv6 header behind a tag", [0x8100], .ipv6([]), 57),
      ].map { (text: String, tags: [UInt16], network: TestPacket.Network, start: UInt16) in
        Nonsense(text: "csum_start \(text)", packet: packet(network), mode: .partial) {
          header, frame in
          frame.insert(
            contentsOf: tags.flatMap { [UInt8($0 >> 8), UInt8($0 & 255), 0, 7] }, at: 12)
          header.csumStart = start
          header.csumOffset = 2
        }
      }
      + [
        Nonsense(text: "gso_size 0 (E48)") { header, _ in header.gsoSize = 0 },
        Nonsense(text: "gso_size 0 of nothing (E48)", packet: packet(length: 0)) { header, _ in
          header.gsoSize = 0
        },
        Nonsense(text: "GSO without NEEDS_CSUM (E58)") { header, _ in header.flags = 0 },
        Nonsense(text: "ECN alone (E48)", reasons: either) { header, _ in
          header.gsoType = NetHeader.gsoECN
        },
        Nonsense(text: "ECN of UDP", packet: packet(.ipv4(options: 0), .udp)) {
          header, _ in header.gsoType |= NetHeader.gsoECN
        },
        Nonsense(
          text: "UFO (E48)", reasons: either, packet: packet(.ipv4(options: 0), .udp)
        ) {
          header, _ in header.gsoType = NetHeader.gsoUDP
        },
        Nonsense(text: "IPv6's type before IPv4") { header, _ in
          header.gsoType = NetHeader.gsoTCPv6
        },
        Nonsense(text: "IPv4's type before IPv6", packet: packet(.ipv6([]))) {
          header, _ in
          header.gsoType = NetHeader.gsoTCPv4
        },
        Nonsense(text: "TCP's type before UDP", packet: packet(.ipv4(options: 0), .udp)) {
          header, _ in header.gsoType = NetHeader.gsoTCPv4
        },
        Nonsense(text: "UDP's type before TCP") { header, _ in
          header.gsoType = NetHeader.gsoUDPL4
        },
        Nonsense(text: "GSO of ARP") { _, frame in frame[13] = 6 },
        Nonsense(text: "csum_start is not the transport's") { header, _ in
          header.csumStart += 2
        },
        Nonsense(text: "csum_offset is not TCP's") { header, _ in header.csumOffset = 6
        },
        Nonsense(text: "cut off in the Ethernet header's type", mode: gso) {
          header, frame in
          frame = Array(frame.prefix(14))
        },
        Nonsense(text: "cut off in the IPv4 header") { _, frame in
          frame = Array(frame.prefix(33))
        },
        Nonsense(text: "cut off in the TCP header") { _, frame in
          frame = Array(frame.prefix(53))
        },
        Nonsense(
          text: "cut off in TCP's options",
          packet: packet(.ipv4(options: 0), .tcp(options: 12))
        ) {
          _, frame in frame = Array(frame.prefix(65))
        },
        Nonsense(text: "cut off in the UDP header", packet: packet(.ipv6([]), .udp)) {
          _, frame in frame = Array(frame.prefix(61))
        },
        Nonsense(text: "an IPv4 header of 16 bytes") { _, frame in frame[14] = 0x44 },
        Nonsense(text: "not IPv4's version") { _, frame in frame[14] = 0x55 },
        Nonsense(text: "not IPv6's version", packet: packet(.ipv6([]))) { _, frame in
          frame[14] = 0x45
        },
        Nonsense(text: "a TCP header of 16 bytes") { _, frame in frame[46] = 0x40 },
        Nonsense(text: "a TCP header beyond the frame") { _, frame in
          frame = Array(frame.prefix(60))
          frame[46] = 0xF0
        },
        Nonsense(text: "a fragment that is not the last") { _, frame in frame[20] = 0x20
        },
        Nonsense(text: "a fragment that is not the first") { _, frame in frame[21] = 9 },
        Nonsense(
          text: "extension headers beyond the frame", packet: packet(.ipv6([.hopByHop]))
        ) {
          _, frame in
          frame[55] = 255
          frame = Array(frame.prefix(500))
        },
        Nonsense(text: "an IPv6 fragment", packet: packet(.ipv6([.hopByHop]))) {
          _, frame in
          frame[20] = 44
          frame[56] = 0
        },
      ]
      + ([2, 6, 7, 0x10, 0x1F, 0x7F, 0x21, 0x41, 0x61, 0x24, 0xE1] as [UInt8]).map { type in
        Nonsense(
          text: "gso_type \(type): none such, or a tunnel (E45, E48)", reasons: either
        ) {
          header, _ in header.gsoType = type
        }
      }

    @Test(
      "A header that claims nonsense costs its frame, by name, once, and nobody else anything (E45, E48)",
      arguments: [QueuePair.TransmitLayout(), .init(pieces: 7)])
    func malformed(_ layout: QueuePair.TransmitLayout) throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [OffloadBed.guestAll, []])
      bed.sender.pairs[0].layout = layout
      var before: [String: UInt64] = [:]
      // To one who would take it as it is, and to one for whom it would have to be done.
      for nonsense in Self.nonsense {
        for station in 1...2 {
          var packet = nonsense.packet
          packet.destination = .station(station)
          var header = packet.header(nonsense.mode)
          var frame = packet.frame(nonsense.mode)
          nonsense.change(&header, &frame)
          bed.send(frame, header)
          let stats = bench.fabric.stats()
          let after = stats.received.drops.merging(stats.sent.drops, uniquingKeysWith: +)
          let drops = after.filter { $0.value != before[$0.key] ?? 0 }
          #expect(Set(drops.keys).isSubset(of: nonsense.reasons), "\(nonsense.text): \(drops)")
          #expect(
            after.values.reduce(0, +) == before.values.reduce(0, +) + 1, "\(nonsense.text)")
          before = after
          for (index, receiver) in bed.receivers.enumerated() {
            let came = receiver.collect()
            #expect(came == [], "\(nonsense.text): receiver \(index) got \(came.count)")
          }
        }
      }
      // The next one is served.
      for station in 1...2 {
        let good = TestPacket(
          to: .station(station), from: .station(0), .ipv4(options: 0), .tcp(options: 0),
          length: 1500)
        bed.send(good.frame(Self.gso), good.header(Self.gso))
        bed.check(bed.receivers[station - 1], [.init(packet: good, mode: Self.gso)])
      }
      bench.expectBalance(bed.named)
    }

    @Test(
      "The smallest segments and those of no payload: delivered or dropped by name, nothing else")
    func tiny() throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [[]])
      for (length, size) in [(0, 1000), (60_000, 1), (3000, 1), (60_000, 40), (3000, 65_535)] {
        for transport in [TestPacket.Transport.tcp(options: 0), .udp] {
          let packet = Self.packet(.ipv4(options: 0), transport, length: length)
          bed.send(packet.frame(.partial), packet.header(.segmented(size: size)))
          let received = bed.receivers[0].collect()
          if received.isEmpty { continue }
          // What there were buffers for.
          let all = packet.segments(size: size).prefix(received.count).map { $0.bytes(.full) }
          #expect(received == all, "\(length) by \(size)")
        }
        bed.exchange([.init(packet: Self.packet(), mode: Self.gso)])
      }
      bench.expectBalance(bed.named)
    }
  }
}
