import Testing

@testable import VirtioDriver

/// The builder of packets held against the one who takes them apart, and both against what is known.
@Suite struct TestPacketTests {
  static let networks: [TestPacket.Network] = [
    .ipv4(options: 0), .ipv4(options: 8), .ipv6([]),
    .ipv6([.hopByHop, .routing, .destinationOptions]),
  ]

  private func packet(
    _ network: TestPacket.Network, _ transport: TestPacket.Transport, tags: [UInt16] = [],
    length: Int
  ) -> TestPacket {
    TestPacket(
      to: .station(1), from: .station(0), network, transport, tags: tags, length: length, seed: 3)
  }

  @Test("Sums are those of RFC 1071 and of known packets")
  func sums() {
    #expect(InternetChecksum.sum([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7][...]) == 0xddf2)
    let header: [UInt8] = [
      0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199,
    ]
    #expect(InternetChecksum.sum(header[...]) == 0xFFFF)
    #expect(InternetChecksum.sum([0xab][...]) == 0xab00)
    // Any length and any beginning, against the sum word by word.
    let bytes = (0..<70).map { UInt8(truncatingIfNeeded: $0 &* 73 &+ 11) }
    for start in 0..<9 {
      for end in start..<70 {
        let slice = bytes[start..<end]
        var total = 7
        for (number, byte) in slice.enumerated() { total += Int(byte) << (number % 2 == 0 ? 8 : 0) }
        while total > 0xFFFF { total = (total & 0xFFFF) + (total >> 16) }
        #expect(InternetChecksum.sum(slice, 7) == UInt16(total))
      }
    }
    #expect(InternetChecksum.same(0, 0xFFFF) && !InternetChecksum.same(1, 0xFFFE))
  }

  @Test("What is built is found, and its checksum is right", arguments: networks)
  func headers(_ network: TestPacket.Network) throws {
    for transport in [TestPacket.Transport.tcp(options: 0), .tcp(options: 12), .udp] {
      for tags in [[], [0x8100], [0x88a8, 0x8100]] as [[UInt16]] {
        for length in [0, 1, 2, 999] {
          let packet = packet(network, transport, tags: tags, length: length)
          let frame = packet.bytes(.full)
          let headers = try #require(FrameHeaders(frame))
          #expect(frame.count == packet.length)
          #expect(headers.tags == tags.count && headers.network == packet.networkOffset)
          #expect(headers.version == (packet.isIPv4 ? 4 : 6))
          #expect(headers.transport == packet.transportOffset)
          #expect(headers.length == packet.headerLength)
          #expect((headers.kind == .udp) == (transport == .udp))
          #expect(headers.isChecksumRight(in: frame))
          var damaged = frame
          damaged[frame.count - 1] ^= 1
          #expect(!headers.isChecksumRight(in: damaged))
          let partial = packet.bytes(.partial)
          let stored =
            UInt16(partial[headers.checksum]) << 8 | UInt16(partial[headers.checksum + 1])
          #expect(stored == FrameHeaders(partial)?.pseudoSum)
          if packet.isIPv4 {
            let header = frame[packet.networkOffset..<packet.transportOffset]
            #expect(InternetChecksum.sum(header) == 0xFFFF)
          }
          // What a device does with NEEDS_CSUM: sum from csum_start to the end, and store.
          var completed = partial
          let sum = ~InternetChecksum.sum(partial[packet.transportOffset...])
          completed[headers.checksum] = UInt8(sum >> 8)
          completed[headers.checksum + 1] = UInt8(truncatingIfNeeded: sum)
          #expect(completed == frame)
        }
      }
    }
  }

  @Test("Cut off, of another protocol or a later fragment: no headers")
  func others() {
    let frame = packet(.ipv6([.routing]), .tcp(options: 4), tags: [0x8100], length: 0).bytes(.full)
    for length in 0..<frame.count { #expect(FrameHeaders(Array(frame.prefix(length))) == nil) }
    #expect(FrameHeaders(frame) != nil)
    var fragment = packet(.ipv4(options: 0), .udp, length: 9).bytes(.full)
    fragment[21] = 1
    #expect(FrameHeaders(fragment) == nil)
    fragment[21] = 0
    fragment[23] = 1
    #expect(FrameHeaders(fragment) == nil)
    #expect(FrameHeaders(EthernetFrame.make(to: .broadcast, from: .station(0), length: 60)) == nil)
  }

  @Test("Segments carry the whole payload under numbers that go on")
  func segments() throws {
    var packet = packet(.ipv4(options: 4), .tcp(options: 12), tags: [0x8100], length: 2500)
    packet.flags =
      TestPacket.ack | TestPacket.psh | TestPacket.fin | TestPacket.cwr | TestPacket.ece
    let segments = packet.segments(size: 1000)
    #expect(segments.map(\.payload.count) == [1000, 1000, 500])
    #expect(segments.flatMap(\.payload) == packet.payload)
    #expect(segments.map(\.sequence) == [0xFFFF_FC00, 0xFFFF_FFE8, 0x3D0])
    #expect(segments.map(\.identification) == [0xFFFE, 0xFFFF, 0])
    #expect(segments.map(\.flags) == [0xD0, 0x50, 0x59])
    for segment in segments {
      let frame = segment.bytes(.full)
      let headers = try #require(FrameHeaders(frame))
      #expect(headers.isChecksumRight(in: frame))
      let total = Int(frame[headers.network + 2]) << 8 | Int(frame[headers.network + 3])
      #expect(total == frame.count - headers.network)
    }
    #expect(packet.segments(size: 2500).count == 1 && packet.segments(size: 2499).count == 2)
    let datagrams = self.packet(.ipv6([.hopByHop]), .udp, length: 1001).segments(size: 1000)
    #expect(datagrams.map(\.payload.count) == [1000, 1])
    for datagram in datagrams {
      let frame = datagram.bytes(.full)
      #expect(frame[67] == UInt8(truncatingIfNeeded: 8 + datagram.payload.count))
      #expect(FrameHeaders(frame)?.isChecksumRight(in: frame) == true)
    }
  }

  @Test("The reference accepts what may arrive and nothing else")
  func reference() {
    let packet = packet(.ipv4(options: 0), .tcp(options: 12), length: 2000)
    let mode = TestPacket.Mode.segmented(size: 1448)
    func received(_ header: NetHeader, _ frame: [UInt8]) -> QueuePair.Received {
      var header = header
      header.numBuffers = 1
      return .init(header: header, frame: frame, buffers: 1)
    }
    let whole = received(packet.header(mode), packet.bytes(.partial))
    let parts = packet.segments(size: 1448)
    let partial = parts.map { received($0.header(.partial), $0.bytes(.partial)) }
    let full = parts.map { received(NetHeader(), $0.bytes(.full)) }
    #expect(packet.judge([whole], mode, features: [.guestCsum, .guestTSO4]) == [])
    #expect(packet.judge(full, mode, features: .guestCsum) == [])
    #expect(packet.judge(partial, mode, features: .guestCsum) == [])
    #expect(packet.judge(full, mode, features: []) == [])
    #expect(packet.judge(partial, mode, features: []) != [])
    #expect(packet.judge([whole], mode, features: [.guestCsum, .guestTSO6]) != [])
    #expect(packet.judge(full, mode, features: [.guestCsum, .guestTSO4]) != [])
    #expect(packet.judge(full.reversed(), mode, features: []) != [])
    for index in stride(from: 0, to: full[1].frame.count, by: 13) {
      var damaged = full
      damaged[1].frame[index] ^= 4
      #expect(packet.judge(damaged, mode, features: []) != [])
    }
    var wrong = whole
    wrong.header.gsoSize = 1449
    #expect(packet.judge([wrong], mode, features: [.guestCsum, .guestTSO4]) != [])
    #expect(packet.needs(mode) == [.csum, .hostTSO4] && packet.needs(.partial) == .csum)
    #expect(packet.needs(.full) == [])
  }

  @Test("A datagram whose sum is zero has 0xFFFF (RFC 768)")
  func zero() {
    var datagram = packet(.ipv4(options: 0), .udp, length: 2)
    datagram.payload = [0, 0]
    let frame = datagram.bytes(.full)
    datagram.payload = [frame[40], frame[41]]
    #expect(datagram.bytes(.full)[40...41] == [0xFF, 0xFF])
  }
}
