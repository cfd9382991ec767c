import Testing
import VirtioDriver

/// The checker of what a device writes before a frame: it accepts what may be, and names what may not.
@Suite struct HeaderRulesTests {
  private static let all: VirtioFeatures = [
    .guestCsum, .guestTSO4, .guestTSO6, .guestECN, .guestUSO4, .guestUSO6,
  ]

  private static func packet(
    _ network: TestPacket.Network = .ipv4(options: 0),
    _ transport: TestPacket.Transport = .tcp(options: 0), length: Int = 3000
  ) -> TestPacket {
    TestPacket(to: .station(1), from: .station(0), network, transport, length: length)
  }

  private func offences(
    _ packet: TestPacket, _ mode: TestPacket.Mode, _ features: VirtioFeatures = all,
    change: (inout NetHeader, inout [UInt8]) -> Void = { _, _ in }
  ) -> [String] {
    var header = packet.header(mode)
    var frame = packet.frame(mode)
    header.numBuffers = 1
    change(&header, &frame)
    return HeaderRules(features).offences(header, frame)
  }

  @Test("What is negotiated may come")
  func good() {
    for network in TestPacketTests.networks {
      for transport in [TestPacket.Transport.tcp(options: 4), .udp] {
        let packet = Self.packet(network, transport)
        #expect(offences(packet, .full, []) == [])
        #expect(offences(packet, .partial, .guestCsum) == [])
        #expect(offences(packet, .segmented(size: 1000)) == [])
        #expect(offences(packet, .full) { header, _ in header.flags = NetHeader.dataValid } == [])
        #expect(
          offences(packet, .segmented(size: 1)) { header, frame in
            header.hdrLen = UInt16(frame.count)
          } == [])
      }
    }
    var marked = Self.packet()
    marked.flags |= TestPacket.cwr
    #expect(offences(marked, .segmented(size: 1000)) == [])
    // The checksum of a frame inside of the frame.
    #expect(offences(Self.packet(), .partial) { header, _ in header.csumStart = 100 } == [])
    // A protocol that is not known here.
    let other = EthernetFrame.make(to: .broadcast, from: .station(0), length: 60)
    let header = NetHeader(flags: 1, csumStart: 30, csumOffset: 28, numBuffers: 1)
    #expect(HeaderRules(Self.all).offences(header, other) == [])
  }

  struct Wrong: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var number: String
    var packet = HeaderRulesTests.packet()
    var mode = TestPacket.Mode.segmented(size: 1000)
    var features = HeaderRulesTests.all
    var change: @Sendable (inout NetHeader, inout [UInt8]) -> Void = { _, _ in }
  }

  private static func marked() -> TestPacket {
    var packet = packet()
    packet.flags |= TestPacket.cwr
    return packet
  }

  static let wrongs: [Wrong] = [
    Wrong(testDescription: "NEEDS_CSUM unasked", number: "E53", mode: .partial, features: []),
    Wrong(testDescription: "DATA_VALID unasked", number: "E53", mode: .full, features: []) {
      header, _ in header.flags = 2
    },
    Wrong(testDescription: "TSO4 unasked", number: "E54", features: [.guestCsum, .guestTSO6]),
    Wrong(
      testDescription: "TSO6 unasked", number: "E54", packet: packet(.ipv6([])),
      features: [.guestCsum, .guestTSO4]),
    Wrong(
      testDescription: "USO4 unasked", number: "E54", packet: packet(.ipv4(options: 0), .udp),
      features: [.guestCsum, .guestUSO6]),
    Wrong(
      testDescription: "USO6 unasked", number: "E54", packet: packet(.ipv6([]), .udp),
      features: [.guestCsum, .guestUSO4]),
    Wrong(testDescription: "UFO unasked", number: "E54") { header, _ in header.gsoType = 3 },
    Wrong(testDescription: "IPv6's type before IPv4", number: "E54") { header, _ in
      header.gsoType = NetHeader.gsoTCPv6
    },
    Wrong(testDescription: "no such type", number: "E57") { header, _ in header.gsoType = 2 },
    Wrong(testDescription: "a tunnel", number: "E60") { header, _ in header.gsoType |= 0x20 },
    Wrong(
      testDescription: "ECN unasked", number: "E55", packet: marked(),
      features: all.subtracting(.guestECN)),
    Wrong(testDescription: "CWR without the bit", number: "E55", packet: marked()) { header, _ in
      header.gsoType &= 0x7F
    },
    Wrong(
      testDescription: "ECN of UDP", number: "E55", packet: packet(.ipv4(options: 0), .udp)
    ) { header, _ in header.gsoType |= 0x80 },
    Wrong(testDescription: "GSO without NEEDS_CSUM", number: "E58") { header, _ in
      header.flags = 0
    },
    Wrong(testDescription: "gso_size 0", number: "E58") { header, _ in header.gsoSize = 0 },
    Wrong(testDescription: "hdr_len too short", number: "E58") { header, _ in header.hdrLen -= 1 },
    Wrong(testDescription: "hdr_len beyond the frame", number: "E58") { header, frame in
      header.hdrLen = UInt16(frame.count + 1)
    },
    Wrong(testDescription: "csum_start wrong", number: "E56", mode: .partial) { header, _ in
      header.csumStart -= 4
    },
    Wrong(testDescription: "csum_offset wrong", number: "E56", mode: .partial) { header, _ in
      header.csumOffset += 2
    },
    Wrong(testDescription: "beyond the frame", number: "E56", mode: .partial) { header, frame in
      header.csumStart = UInt16(frame.count - 17)
    },
    Wrong(testDescription: "not the pseudo header's sum", number: "E56", mode: .partial) {
      _, frame in frame[51] ^= 1
    },
    Wrong(testDescription: "DATA_VALID of a wrong sum", number: "E59", mode: .full) {
      header, frame in
      header.flags = 2
      frame[100] ^= 1
    },
    Wrong(testDescription: "both flags", number: "E59", mode: .partial) { header, _ in
      header.flags = 3
    },
    Wrong(testDescription: "RSC_INFO", number: "E60", mode: .full) { header, _ in
      header.flags = 4
    },
    Wrong(testDescription: "an unknown flag", number: "E60", mode: .full) { header, _ in
      header.flags = 0x80
    },
    Wrong(testDescription: "hdr_len left over", number: "E61", mode: .partial) { header, _ in
      header.hdrLen = 54
    },
    Wrong(testDescription: "gso_size left over", number: "E61", mode: .partial) { header, _ in
      header.gsoSize = 1448
    },
    Wrong(testDescription: "csum_start left over", number: "E61", mode: .full) { header, _ in
      header.csumStart = 34
    },
    Wrong(testDescription: "csum_offset left over", number: "E61", mode: .full) { header, _ in
      header.csumOffset = 16
    },
  ]

  @Test("What may not be is named", arguments: wrongs)
  func bad(_ wrong: Wrong) {
    let found = offences(wrong.packet, wrong.mode, wrong.features, change: wrong.change)
    #expect(found.contains { $0.contains(wrong.number) }, "\(found)")
  }

  @Test("An offload needs what it builds upon (5.1.3.1)")
  func prerequisites() {
    #expect(VirtioFeatures.offloads.isConsistent && VirtioFeatures().isConsistent)
    #expect(!VirtioFeatures([.hostTSO4]).isConsistent)
    #expect(!VirtioFeatures([.csum, .hostECN]).isConsistent)
    #expect(VirtioFeatures([.csum, .hostTSO6, .hostECN]).isConsistent)
    #expect(!VirtioFeatures([.csum, .guestUSO4]).isConsistent)
  }
}
