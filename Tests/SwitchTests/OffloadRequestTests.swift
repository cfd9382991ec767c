import ControlAPI
import Switch
import Testing
import VirtioDriver

/// Requests to cut a frame that ask for too little or too much, and frames that say less of themselves than they are.
extension SwitchTests {
  @Suite struct OffloadRequestTests {
    private static let gso = TestPacket.Mode.segmented(size: 1000)

    private static func packet(
      _ network: TestPacket.Network = .ipv4(options: 0),
      _ transport: TestPacket.Transport = .tcp(options: 0), length: Int
    ) -> TestPacket {
      TestPacket(to: .station(1), from: .station(0), network, transport, length: length, seed: 9)
    }

    /// Sends a packet to be segmented, changed, to who takes everything, who takes checksums, and who takes nothing;
    /// returns what came to each.
    private func arrivals(
      _ packet: TestPacket, size: Int, change: (inout [UInt8]) -> Void = { _ in }
    ) throws -> [[QueuePair.Received]] {
      let bench = try Bench()
      let bed = try OffloadBed.attach(
        bench, receivers: [OffloadBed.guestAll, [.guestCsum], []])
      let mode = TestPacket.Mode.segmented(size: size)
      let came = (1...3).map { station -> [QueuePair.Received] in
        var packet = packet
        packet.destination = .station(station)
        var frame = packet.frame(mode)
        change(&frame)
        bed.send(frame, packet.header(mode))
        var received: [QueuePair.Received] = []
        while let one = bed.receivers[station - 1].pairs[0].receiveWithHeader() {
          received.append(one)
        }
        // What came is what the packet is, byte for byte.
        #expect(
          packet.judge(received, mode, features: bed.receivers[station - 1].features) == [],
          "station \(station)")
        return received
      }
      bench.expectBalance(bed.named)
      return came
    }

    static let kinds: [(TestPacket.Network, TestPacket.Transport)] = [
      (.ipv4(options: 0), .tcp(options: 12)), (.ipv6([.hopByHop]), .tcp(options: 0)),
      (.ipv4(options: 8), .udp), (.ipv6([]), .udp),
    ]

    @Test(
      "A payload no longer than a segment asks for no segmentation any more (E48)",
      arguments: kinds,
      [(100, 65_535), (100, 100), (0, 1000), (1400, 1400)])
    func oneSegment(
      kind: (TestPacket.Network, TestPacket.Transport), lengths: (payload: Int, size: Int)
    ) throws {
      let packet = Self.packet(kind.0, kind.1, length: lengths.payload)
      let came = try arrivals(packet, size: lengths.size)
      for received in came {
        #expect(received.count == 1)
        #expect(received.first?.header.gsoType == 0 && received.first?.header.gsoSize == 0)
      }
      #expect(came[0].first?.header.flags == NetHeader.needsCsum)
      // One byte more is one.
      if lengths.payload > 0 {
        let more = try arrivals(packet, size: lengths.payload - 1)
        #expect(more[0].first?.header.gsoSize == UInt16(lengths.payload - 1))
        #expect(more[2].count == 2)
      }
    }

    @Test(
      "Lengths of a packet to be cut that are 0, or wrong, are put right, whole or cut (E48)",
      arguments: kinds, [0, 7, 0xFFFF])
    func lengths(kind: (TestPacket.Network, TestPacket.Transport), wrong: UInt16) throws {
      for length in [100, 3000] {
        let packet = Self.packet(kind.0, kind.1, length: length)
        _ = try arrivals(packet, size: 1000) { frame in
          var places = [packet.networkOffset + (packet.isIPv4 ? 2 : 4)]
          if kind.1 == .udp { places.append(packet.transportOffset + 4) }
          for place in places {
            frame[place] = UInt8(wrong >> 8)
            frame[place + 1] = UInt8(wrong & 255)
          }
          // What it says of itself then is true.
          guard packet.isIPv4 else { return }
          let (first, end) = (packet.networkOffset, packet.transportOffset)
          frame[first + 10] = 0
          frame[first + 11] = 0
          let sum = ~InternetChecksum.sum(frame[first..<end])
          frame[first + 10] = UInt8(sum >> 8)
          frame[first + 11] = UInt8(sum & 255)
        }
      }
    }

    @Test("A packet longer than its header can say is dropped by name")
    func tooLong() throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [OffloadBed.guestAll])
      let packet = Self.packet(length: 65_495)
      bed.send(packet.frame(Self.gso), packet.header(Self.gso))
      #expect(bed.receivers[0].collect().count == 1)
      bed.send(packet.frame(Self.gso) + [7], packet.header(Self.gso))
      #expect(bed.receivers[0].collect() == [])
      #expect(bench.drops("malformed_offload") == 1)
      bench.expectBalance(bed.named)
    }

    @Test("More datagrams than Linux takes in one frame are cut for everybody")
    func manyDatagrams() throws {
      for (length, isCut) in [(64 * 100, false), (64 * 100 + 1, true)] {
        let bench = try Bench()
        let bed = try OffloadBed.attach(bench, receivers: [OffloadBed.guestAll])
        let packet = Self.packet(.ipv4(options: 0), .udp, length: length)
        let mode = TestPacket.Mode.segmented(size: 100)
        bed.send(packet.frame(mode), packet.header(mode))
        #expect(bed.receivers[0].collect().count == (isCut ? 65 : 1))
        // Segments of TCP may be as many as they like.
        let other = Self.packet(.ipv4(options: 0), .tcp(options: 0), length: length)
        bed.send(other.frame(mode), other.header(mode))
        #expect(bed.receivers[0].collect().count == 1)
        bench.expectBalance(bed.named)
      }
    }
  }
}
