import ControlAPI
import Linux
import Switch
import Synchronization
import Testing
import VirtioDriver

/// Frames with offloads where something is amiss: no buffers, buffers too small, bytes at random, a sender that
/// changes its mind.
extension SwitchTests {
  @Suite struct OffloadHostileTests {
    private static func packet(
      to station: Int = 1, _ transport: TestPacket.Transport = .tcp(options: 12), length: Int
    ) -> TestPacket {
      TestPacket(
        to: .station(station), from: .station(0), .ipv4(options: 0), transport, length: length)
    }

    @Test("Segments for which there are no buffers are dropped by name, each", arguments: [0, 1])
    func noBuffers(_ inOrder: Int) throws {
      let bench = try Bench()
      var options = OffloadBed.options(inOrder == 1 ? .inOrder : [])
      options.ringSize = 16
      let bed = OffloadBed(
        sender: try bench.attach("g0", OffloadBed.options(OffloadBed.hostAll)),
        receivers: [try bench.attach("g1", options)])
      try introduce([bed.sender] + bed.receivers)
      let packet = Self.packet(length: 40_000)
      let segments = packet.segments(size: 1000).map { $0.bytes(.full) }
      for round in 1...3 {
        bed.send(packet.frame(.partial), packet.header(.segmented(size: 1000)))
        #expect(bed.receivers[0].collect() == Array(segments.prefix(16)))
        #expect(try bench.port("g1").sent.drops == ["no_receive_buffer": UInt64(round * 24)])
        let small = Self.packet(length: 3000)
        bed.exchange([.init(packet: small, mode: .segmented(size: 1000))])
      }
      bench.expectBalance(bed.named)
    }

    @Test(
      "A driver that takes segments to be made, but posts no buffer for them, does without (E49)")
    func smallBuffers() throws {
      let bench = try Bench()
      var options = OffloadBed.options(OffloadBed.guestAll, without: .mrgRxbuf)
      options.receiveBufferLength = 2048
      let bed = OffloadBed(
        sender: try bench.attach("g0", OffloadBed.options(OffloadBed.hostAll)),
        receivers: [try bench.attach("g1", options)])
      try introduce([bed.sender] + bed.receivers)
      let mode = TestPacket.Mode.segmented(size: 1000)
      for round in 1...3 {
        let packet = Self.packet(length: 40_000)
        bed.send(packet.frame(mode), packet.header(mode))
        #expect(bed.receivers[0].collect() == [])
        #expect(try bench.port("g1").sent.drops == ["receive_buffer_too_small": UInt64(round)])
        bed.exchange([.init(packet: Self.packet(length: 1900), mode: mode)])
      }
      bench.expectBalance(bed.named)
    }

    @Test("A burst of frames of very many segments is cut as far as a turn may take (HG-18)")
    func manySegments() throws {
      let bench = try Bench()
      var options = OffloadBed.options([])
      options.ringSize = 8192
      let bed = OffloadBed(
        sender: try bench.attach("g0", OffloadBed.options(OffloadBed.hostAll)),
        receivers: [try bench.attach("g1", options)])
      try introduce([bed.sender] + bed.receivers)
      let packet = Self.packet(length: 51_200)
      let mode = TestPacket.Mode.segmented(size: 100)
      let count = packet.segments(size: 100).count
      let pair = bed.sender.pairs[0]
      for _ in 0..<20 {
        #expect(pair.enqueue(packet.frame(mode), header: packet.header(mode)))
      }
      // Shown at once, so that they come in bursts of three, of which two may be cut.
      pair.flush()
      bed.sender.settle()
      #expect(count == 512)
      #expect(bed.receivers[0].collect().count == 14 * count)
      #expect(try bench.port("g1").sent.drops == ["segment_limit": 6])
      // The next burst begins anew.
      bed.exchange([.init(packet: Self.packet(length: 3000), mode: .segmented(size: 1000))])
      bench.expectBalance(bed.named)
    }

    @Test(
      "Headers and frames changed at random: delivered by the rules (E53, E54, E58, E61) or dropped by name"
    )
    func random() throws {
      let bench = try Bench()
      let all = OffloadBed.guestAll
      let bed = try OffloadBed.attach(
        bench,
        receivers: [all, all.subtracting(.guestECN), .guestCsum, [], [.guestCsum, .guestTSO4]])
      let rules = bed.receivers.map { HeaderRules($0.features) }
      var random = Xorshift(state: 0x0FF1_0AD5)
      func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
      let shipments = OffloadBed.shipments()
      var arrived = 0
      for _ in 0..<Upheaval.share(of: 400) {
        for _ in 0..<5 {
          let shipment = shipments[below(shipments.count)]
          var header = shipment.packet.header(shipment.mode).bytes()
          var frame = shipment.packet.frame(shipment.mode)
          let station = below(bed.receivers.count + 1)
          let address: Address =
            station == bed.receivers.count ? .broadcast : .station(station + 1)
          frame.replaceSubrange(0..<6, with: address.bytes)
          for _ in 0..<below(3) {
            header[below(12)] = [0, 1, 2, 4, 14, 34, 0x80, 0xFF, UInt8(below(256))][below(9)]
          }
          for _ in 0..<below(3) {
            frame[12 + below(min(frame.count - 12, 130))] = UInt8(below(256))
          }
          if below(8) == 0 { frame = Array(frame.prefix(14 + below(frame.count - 14))) }
          #expect(
            bed.sender.pairs[0].enqueue(frame, header: NetHeader(header, length: 12)))
        }
        bed.sender.pairs[0].flush()
        bed.sender.settle()
        for (receiver, rules) in zip(bed.receivers, rules) {
          while let one = receiver.pairs[0].receiveWithHeader() {
            arrived += 1
            // What was sent with a wrong sum, or as CWR without saying so, arrives so; and a checksum may be
            // asked for anywhere in a frame that is not to be segmented.
            let wrong = rules.offences(one.header, one.frame).filter {
              !$0.contains("the pseudo header's sum is") && !$0.hasPrefix("CWR")
                && !($0.contains("the transport begins at") && one.header.gsoType == 0)
            }
            #expect(wrong == [], "\(one.header)")
          }
        }
      }
      #expect(arrived > Upheaval.share(of: 1000))
      #expect(bed.receivers.allSatisfy { $0.pairs[0].receiveq.violation == nil })
      bench.expectBalance()
      // Nobody has come to harm.
      for station in 1...bed.receivers.count {
        let packet = Self.packet(to: station, length: 3000)
        let mode = TestPacket.Mode.segmented(size: 1000)
        bed.send(packet.frame(mode), packet.header(mode))
        bed.check(bed.receivers[station - 1], [.init(packet: packet, mode: mode)])
      }
    }

    @Test(
      "HG-13: a frame rewritten while it is segmented harms nobody but its sender and receiver",
      .enabled(if: !Upheaval.isReduced, "the sanitizer would see the race that this is made of"))
    func rewritten() throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [OffloadBed.guestAll, [], .guestCsum, []])
      let pair = bed.sender.pairs[0]
      let buffer = try #require(bed.sender.memory.allocate(1 << 14))
      let finished = Atomic<Bool>(false)
      let rewriter = try Linux.Thread(name: "rewriter") {
        var random = Xorshift(state: 77)
        while !finished.load(ordering: .relaxed) {
          // The virtio-net header, the types, the lengths in IP's and TCP's headers, the payload.
          let offset = [0, 1, 4, 5, 6, 7, 8, 24, 26, 28, 32, 33, 35, 58, 58, 500][
            Int(random.next() % 16)]
          buffer.write([UInt8(truncatingIfNeeded: random.next())], at: offset)
        }
      }
      let mode = TestPacket.Mode.segmented(size: 1000)
      for round in 0..<150 {
        let packet = Self.packet(to: 1 + round % 3, length: 9000)
        let bytes = packet.header(mode).bytes() + packet.frame(mode)
        buffer.write(bytes)
        #expect(
          pair.transmitq.add(readable: [buffer.slice(0, bytes.count).piece]) != nil)
        pair.flush()
        bed.sender.settle()
        for receiver in bed.receivers {
          while let one = receiver.pairs[0].receiveWithHeader() {
            let (header, length) = (one.header, one.frame.count)
            // What was judged of it once, it must keep to.
            #expect(header.gsoType == 0 || (header.gsoSize > 0 && header.flags == 1))
            #expect(Int(header.hdrLen) <= length)
            #expect(
              header.flags == 0 || Int(header.csumStart) + Int(header.csumOffset) + 2 <= length)
          }
          #expect(receiver.pairs[0].receiveq.violation == nil)
        }
      }
      finished.store(true, ordering: .relaxed)
      rewriter.join()
      let packet = Self.packet(to: 4, length: 9000)
      bed.send(packet.frame(mode), packet.header(mode))
      bed.check(bed.receivers[3], [.init(packet: packet, mode: mode)])
      #expect(bed.receivers[3].offences == [])
      bench.expectBalance()
    }
  }
}
