import ControlAPI
import Switch
import Testing
import VirtioDriver

/// What a virtio-net header before a transmitted frame may say, and what nobody believes (virtio v1.4,
/// 5.1.9.2.2).
extension SwitchTests {
  @Suite struct OffloadHeaderTests {
    private static func packet(
      _ network: TestPacket.Network = .ipv4(options: 0),
      _ transport: TestPacket.Transport = .tcp(options: 0), length: Int = 3000
    ) -> TestPacket {
      TestPacket(to: .station(1), from: .station(0), network, transport, length: length, seed: 9)
    }

    private static let gso = TestPacket.Mode.segmented(size: 1000)

    // ---- What is not believed ----

    /// Receivers that take everything, checksums alone, nothing.
    static let receivers: [VirtioFeatures] = [OffloadBed.guestAll, .guestCsum, []]

    @Test("hdr_len may be anything (E43), and so may num_buffers (E47)", arguments: receivers)
    func lengths(_ receiver: VirtioFeatures) throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [receiver])
      for network in OffloadBed.networks.prefix(Upheaval.isReduced ? 2 : 4) {
        for transport in [TestPacket.Transport.tcp(options: 12), .udp] {
          let packet = Self.packet(network, transport, length: 2777)
          for mode in [TestPacket.Mode.full, .partial, Self.gso] {
            for (number, length) in ([0, 1, 13, 14, 53, 55, 1500, 65_535] as [UInt16]).enumerated()
            {
              var header = packet.header(mode)
              header.hdrLen = length
              header.numBuffers = [7, 0, 1, 65_535][number % 4]
              bed.send(packet.frame(mode), header)
              bed.check(bed.receivers[0], [.init(packet: packet, mode: mode)], "hdr_len \(length)")
            }
          }
        }
      }
      bench.expectBalance(bed.named)
    }

    @Test("Unknown flags are ignored (E41), and never passed on (E60)", arguments: receivers)
    func flags(_ receiver: VirtioFeatures) throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [receiver])
      let packet = Self.packet()
      for bits in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC] as [UInt8] {
        for mode in [TestPacket.Mode.full, .partial, Self.gso] {
          var header = packet.header(mode)
          header.flags |= bits
          bed.send(packet.frame(mode), header)
          bed.check(bed.receivers[0], [.init(packet: packet, mode: mode)], "flags \(header.flags)")
        }
      }
      bench.expectBalance(bed.named)
    }

    @Test(
      "csum_start and csum_offset mean nothing without NEEDS_CSUM (E42), nor gso_size without GSO (E61)",
      arguments: receivers)
    func leftOver(_ receiver: VirtioFeatures) throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [receiver])
      let packet = Self.packet()
      for value in [1, 14, 34, 3000, 65_535] as [UInt16] {
        let header = NetHeader(hdrLen: value, gsoSize: value, csumStart: value, csumOffset: value)
        bed.send(packet.frame(.full), header)
        bed.check(bed.receivers[0], [.init(packet: packet, mode: .full)], "\(value)")
        var partial = packet.header(.partial)
        partial.gsoSize = value
        bed.send(packet.frame(.partial), partial)
        bed.check(bed.receivers[0], [.init(packet: packet, mode: .partial)], "\(value)")
      }
      bench.expectBalance(bed.named)
    }

    @Test(
      "A sender's DATA_VALID is nobody's (E44, E59): the checksum may be wrong",
      arguments: receivers)
    func dataValid(_ receiver: VirtioFeatures) throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [receiver])
      let packet = Self.packet()
      bed.send(packet.frame(.full), NetHeader(flags: NetHeader.dataValid))
      bed.check(bed.receivers[0], [.init(packet: packet, mode: .full)])
      for mode in [TestPacket.Mode.partial, Self.gso] {
        var header = packet.header(mode)
        header.flags |= NetHeader.dataValid
        bed.send(packet.frame(mode), header)
        bed.check(bed.receivers[0], [.init(packet: packet, mode: mode)])
      }
      // Neither made right nor called right.
      var wrong = packet.frame(.full)
      wrong[50] ^= 0xFF
      for flags in [0, NetHeader.dataValid] {
        bed.send(wrong, NetHeader(flags: flags))
        let received = try #require(bed.receivers[0].pairs[0].receiveWithHeader())
        #expect(received.frame == wrong)
        #expect(received.header == NetHeader(numBuffers: received.header.numBuffers))
      }
      bench.expectBalance(bed.named)
    }

    @Test(
      "Headers and frame may be cut up anywhere (E10): bytes alone, odd pieces, hundreds, empty ones",
      arguments: receivers)
    func cut(_ receiver: VirtioFeatures) throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [receiver])
      let pair = bed.sender.pairs[0]
      let buffer = try #require(bed.sender.memory.allocate(1 << 14))
      let patterns = [
        [5, 7], [11, 2], [1, 20], [12 + 13, 1, 1], [12 + 33], [12 + 53, 1], [12 + 48, 3],
        [Int](repeating: 1, count: 100), [12, 57] + [Int](repeating: 17, count: 230),
        [12, 0, 14, 0, 40, 0, 0, 700, 0, 311, 0],
      ]
      for pieces in patterns {
        for (network, transport) in zip(
          OffloadBed.networks,
          [TestPacket.Transport.udp, .tcp(options: 12), .tcp(options: 0), .udp])
        {
          let packet = Self.packet(network, transport, length: 3331)
          for mode in [TestPacket.Mode.partial, Self.gso] {
            let bytes = packet.header(mode).bytes() + packet.frame(mode)
            buffer.write(bytes)
            var offset = 0
            var segments: [Piece] = []
            for piece in pieces + [bytes.count] where offset < bytes.count {
              let length = min(piece, bytes.count - offset)
              segments.append(buffer.slice(offset, length).piece)
              offset += length
            }
            #expect(pair.transmitq.add(readable: segments) != nil)
            pair.flush()
            bed.sender.settle()
            bed.check(bed.receivers[0], [.init(packet: packet, mode: mode)], "\(pieces.prefix(6))")
          }
        }
      }
      #expect(bed.receivers[0].offences == [])
    }

    // ---- Checksums that are unlike others ----

    /// Puts the checksum in that NEEDS_CSUM asks for, as 5.1.9.2.1 says.
    private func completed(_ frame: [UInt8], _ header: NetHeader) -> [UInt8] {
      var frame = frame
      let sum = ~InternetChecksum.sum(frame[Int(header.csumStart)...])
      let at = Int(header.csumStart) + Int(header.csumOffset)
      frame[at] = UInt8(sum >> 8)
      frame[at + 1] = UInt8(truncatingIfNeeded: sum)
      return frame
    }

    @Test(
      "A checksum is made where the header says: in a tunnel, of any protocol, at the frame's end (E56)",
      arguments: receivers)
    func anywhere(_ receiver: VirtioFeatures) throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [receiver])
      // VXLAN: the packet within is whole, its checksum is to be made, the one without has none.
      var tunnel = Self.packet(.ipv4(options: 0), .udp, length: 0)
      let inner = Self.packet(.ipv6([.hopByHop]), .tcp(options: 12), length: 701)
      tunnel.payload = [8, 0, 0, 0, 0, 0, 9, 0] + inner.frame(.partial)
      var outer = tunnel.bytes(.full)
      outer.replaceSubrange(40..<42, with: [0, 0])
      var frames: [([UInt8], NetHeader)] = [
        (
          outer,
          NetHeader(
            flags: 1, csumStart: UInt16(50 + inner.transportOffset), csumOffset: 16)
        )
      ]
      // No protocol that anybody knows: a frame of every length, and the field at its very end.
      for length in 60...75 {
        let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ length) }
        let frame = EthernetFrame.make(
          to: .station(1), from: .station(0), payload: bytes, length: length)
        frames.append((frame, NetHeader(flags: 1, csumStart: 20, csumOffset: 2)))
        frames.append((frame, NetHeader(flags: 1, csumStart: 14, csumOffset: UInt16(length - 16))))
        frames.append((frame, NetHeader(flags: 1, csumStart: UInt16(length - 2), csumOffset: 0)))
      }
      for (layout, (frame, header)) in frames.enumerated().map({ ($0.offset % 9, $0.element) }) {
        bed.sender.pairs[0].layout = .init(pieces: 1 + layout)
        bed.send(frame, header)
        let received = try #require(bed.receivers[0].pairs[0].receiveWithHeader())
        if received.header.flags & NetHeader.needsCsum != 0 {
          #expect(receiver.contains(.guestCsum) && received.frame == frame)
          #expect(received.header.csumStart == header.csumStart)
          #expect(received.header.csumOffset == header.csumOffset)
        } else {
          #expect(received.frame == completed(frame, header), "\(frame.count) bytes, \(header)")
        }
      }
      bench.expectBalance(bed.named)
    }

    @Test("A datagram's sum of zero is written as 0xFFFF, not as none (E53)")
    func zero() throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [[]])
      for network in [TestPacket.Network.ipv4(options: 0), .ipv6([])] {
        var packet = Self.packet(network, .udp, length: 2)
        packet.payload = [0, 0]
        let at = packet.transportOffset + packet.checksumOffset
        let sum = packet.bytes(.full)[at...(at + 1)]
        packet.payload = Array(sum)
        #expect(packet.bytes(.full)[at...(at + 1)] == [0xFF, 0xFF])
        bed.exchange([.init(packet: packet, mode: .partial)])
        // Each segment's, too: the sum knows neither place nor number of a datagram.
        packet.payload = Array(sum) + Array(sum) + Array(sum)
        bed.exchange([.init(packet: packet, mode: .segmented(size: 2))])
      }
      bench.expectBalance(bed.named)
    }

    // ---- MTU ----

    @Test("Segments, not the frames to be segmented, are held against the MTU (E39, E40)")
    func mtu() throws {
      let bench = try Bench()
      var dropped: UInt64 = 0
      let bed = OffloadBed(
        sender: try bench.attach("g0", OffloadBed.options(OffloadBed.hostAll)),
        receivers: [
          try bench.attach("g1", OffloadBed.options(OffloadBed.guestAll), mtu: 1500),
          try bench.attach("g2", OffloadBed.options([]), mtu: 1500),
        ])
      try introduce([bed.sender] + bed.receivers)
      for (index, receiver) in bed.receivers.enumerated() {
        for (network, headers) in [(TestPacket.Network.ipv4(options: 0), 20), (.ipv6([]), 40)] {
          for (transport, more) in [(TestPacket.Transport.tcp(options: 12), 32), (.udp, 8)] {
            for tags in [[], [0x8100]] as [[UInt16]] {
              let fitting = 1500 - headers - more
              let packet = TestPacket(
                to: .station(index + 1), from: .station(0), network, transport, tags: tags,
                length: 3 * fitting)
              let good = TestPacket.Mode.segmented(size: fitting)
              bed.send(packet.frame(good), packet.header(good))
              bed.check(receiver, [.init(packet: packet, mode: good)], "\(network) \(transport)")
              let bad = TestPacket.Mode.segmented(size: fitting + 1)
              bed.send(packet.frame(bad), packet.header(bad))
              // Segments are made or not; a last one that is shorter may pass.
              let short = packet.segments(size: fitting + 1).filter { $0.payload.count <= fitting }
              let came = receiver.collect()
              #expect(
                came == [] || (index == 1 && came == short.map { $0.bytes(.full) }),
                "\(network) \(transport) \(tags)")
              let drops = try bench.port("g\(index + 1)").sent.drops
              #expect(Set(drops.keys) == ["exceeds_mtu"])
              if index == 0 {
                dropped += 1
                #expect(drops["exceeds_mtu"] == dropped)
              }
            }
          }
        }
      }
      bench.expectBalance(bed.named)
    }
  }
}
