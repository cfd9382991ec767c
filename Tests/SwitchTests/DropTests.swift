import ControlAPI
import Switch
import Testing
import VirtioDriver

/// Every way a frame can get lost has its name, on the queue where it was lost.
extension SwitchTests {
  @Suite struct DropTests {
    private func frame(_ sequence: Int = 0, length: Int = 64) -> [UInt8] {
      TestFrame.make(
        to: .station(1), from: .station(0), sequence: UInt64(sequence), length: length)
    }

    @Test("no_receive_buffer: the guest takes nothing")
    func noReceiveBuffer() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.ringSize = 16
      let guests = try bench.guests(2, options)
      try introduce(guests)
      for sequence in 0..<40 { try guests[0].deliver(frame(sequence)) }
      #expect(try bench.port("g1").sent.drops == ["no_receive_buffer": 24])
      // The oldest are the ones that were kept.
      var checker = SequenceChecker()
      for frame in guests[1].collect() { checker.accept(frame) }
      #expect(checker.received == 16 && checker.isClean)
      bench.expectBalance(.named(guests))
    }

    @Test("flood_limit: a burst of long broadcasts reaches as many ports as a turn may take")
    func floodLimit() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.transmitBufferLength = 1 << 16
      let sender = try bench.attach("g0", options)
      options = .init()
      options.ringSize = 128
      let others = try (1...95).map { try bench.attach("g\($0)", options) }
      let long = TestFrame.make(to: .broadcast, from: .station(0), sequence: 0, length: 60_000)
      func flood() throws -> [Int] {
        // As many as a burst may have of such.
        for _ in 0..<3 { #expect(sender.pairs[0].enqueue(long)) }
        // Shown at once, so that they come in one burst.
        sender.pairs[0].flush()
        sender.settle()
        return others.map { $0.collect().count { $0 == long } }
      }
      // Of 16 MiB each port takes 180 kB, and what a copy costs beyond its bytes.
      func reached(_ leftOut: Range<Int>) -> [Int] {
        others.indices.map { leftOut.contains($0) ? 0 : 3 }
      }
      #expect(try flood() == reached(92..<95))
      #expect(try bench.port("g0").received.drops == ["flood_limit": 9])
      // Not the same ones again.
      #expect(try flood() == reached(89..<92))
      #expect(try bench.port("g0").received.drops == ["flood_limit": 18])
      bench.expectBalance()
    }

    @Test("receive_buffer_too_small: without merging a frame has one buffer, which is kept")
    func receiveBufferTooSmall() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.features.remove(.mrgRxbuf)
      options.receiveBufferLength = 256
      let guests = try bench.guests(2, options)
      try introduce(guests)
      try guests[0].deliver(frame(0, length: 245))
      try guests[0].deliver(frame(1, length: 1500))
      try guests[0].deliver(frame(2, length: 244))
      #expect(guests[1].collect() == [frame(2, length: 244)])
      #expect(try bench.port("g1").sent.drops == ["receive_buffer_too_small": 2])
      bench.expectBalance(.named(guests))
    }

    @Test(
      "destination_down: the receiveq is disabled (E76) or stopped; and nothing before the start (E01)"
    )
    func destinationDown() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      try introduce(guests)
      try guests[1].frontEnd.enableRing(0, false)
      try guests[0].deliver(frame(0))
      #expect(try bench.port("g0").received.drops == ["destination_down": 1])
      #expect(try bench.port("g1").queues[0].state == .disabled)
      try guests[1].frontEnd.enableRing(0, true)
      try guests[0].deliver(frame(1))
      #expect(guests[1].collect() == [frame(1)])
      try guests[1].stop()
      try guests[0].deliver(frame(2))
      #expect(try bench.port("g0").received.drops == ["destination_down": 2])
      try guests[1].restart()
      try guests[0].deliver(frame(3))
      #expect(guests[1].collect() == [frame(3)])
      bench.expectBalance(.named(guests))
    }

    @Test("queue_disabled: a disabled transmitq is emptied and discarded (E76)")
    func queueDisabled() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      try introduce(guests)
      try guests[0].frontEnd.enableRing(1, false)
      for sequence in 0..<10 { try guests[0].deliver(frame(sequence)) }
      #expect(try bench.port("g0").received.drops == ["queue_disabled": 10])
      #expect(guests[1].collect() == [])
      try guests[0].frontEnd.enableRing(1, true)
      try guests[0].deliver(frame(10))
      #expect(guests[1].collect() == [frame(10)])
      bench.expectBalance(.named(guests))
    }

    @Test("no_destination: nobody else is there")
    func noDestination() throws {
      let bench = try Bench()
      let guest = try bench.attach("alone")
      try bench.addPort("waiting")
      for sequence in 0..<5 { try guest.deliver(frame(sequence)) }
      #expect(try bench.port("alone").received.drops == ["no_destination": 5])
      #expect(bench.fabric.stats().received.replicas == 0)
      bench.expectBalance([("alone", guest)])
    }

    @Test(
      "exceeds_mtu: as configured, a tag more, and the front-end's when it is smaller (E39, E40, E95)"
    )
    func exceedsMTU() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.transmitBufferLength = 9100
      // What a front-end says of an MTU is for a driver that knows of it.
      options.features.insert(.mtu)
      let guests = [
        try bench.attach("g0", options), try bench.attach("g1", options, mtu: 1500),
      ]
      try introduce(guests)
      func passes(_ length: Int, vlan: UInt16? = nil) throws -> Bool {
        let frame = TestFrame.make(
          to: .station(1), from: .station(0), sequence: 1, length: length, vlan: vlan)
        try guests[0].deliver(frame)
        return guests[1].collect() == [frame]
      }
      #expect(try passes(1514) && !passes(1515))
      #expect(try passes(1518, vlan: 5) && !passes(1519, vlan: 5))
      // The front-end may ask for less, not for more.
      try guests[1].frontEnd.setMTU(1000)
      #expect(try bench.port("g1").mtu == 1000)
      #expect(try passes(1014) && !passes(1015))
      try guests[1].frontEnd.setMTU(9000)
      #expect(try bench.port("g1").mtu == 1500)
      #expect(try passes(1514) && !passes(1515))
      #expect(throws: FrontEndError.self) { try guests[1].frontEnd.setMTU(67) }
      #expect(try bench.port("g1").sent.drops == ["exceeds_mtu": 4])
      // The other way no limit was agreed upon.
      let long = TestFrame.make(to: .station(0), from: .station(1), sequence: 1, length: 9000)
      try guests[1].deliver(long)
      #expect(guests[0].collect() == [long])
      bench.expectBalance(.named(guests))
    }

    /// A chain that no driver would make, and the name its drop must have.
    struct Wrong: Sendable, CustomStringConvertible {
      var description: String
      var reason: String
      var segments: @Sendable (_ buffer: UInt64) -> [Piece]
      var writable = false
    }

    static let wrongs: [Wrong] = [
      Wrong(description: "13 bytes (HG-19)", reason: "runt") { [Piece($0, 12 + 13)] },
      Wrong(description: "no byte (HG-19)", reason: "runt") { [Piece($0, 12)] },
      Wrong(description: "65,559 bytes (HG-19)", reason: "oversize") {
        [Piece($0, 12 + 65_559)]
      },
      Wrong(description: "half a header (HG-08)", reason: "header_too_short") { [Piece($0, 6)] },
      Wrong(description: "outside of memory (HG-01)", reason: "malformed_descriptor") { _ in
        [Piece(1 << 40, 76)]
      },
      Wrong(description: "address and length wrap (HG-02)", reason: "malformed_descriptor") { _ in
        [Piece(.max - 10, 76)]
      },
      Wrong(description: "4 GiB long (HG-03)", reason: "malformed_descriptor") {
        [Piece($0, .max)]
      },
      Wrong(
        description: "for the device to write (HG-09)", reason: "malformed_descriptor",
        segments: { [Piece($0, 76)] }, writable: true),
    ]

    @Test(
      "A chain that is wrong is dropped by name, returned, and the next one is served",
      arguments: wrongs)
    func wrongChains(_ wrong: Wrong) throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.spareMemory = 1 << 18
      let guests = try bench.guests(2, options)
      try introduce(guests)
      let buffer = try #require(guests[0].memory.allocate(1 << 17))
      buffer.write([UInt8](repeating: 0, count: 12) + frame())
      let pair = guests[0].pairs[0]
      let segments = wrong.segments(buffer.address)
      for _ in 0..<3 {
        let added =
          wrong.writable
          ? pair.transmitq.add(readable: [], writable: segments)
          : pair.transmitq.add(readable: segments)
        #expect(added != nil)
        pair.flush()
        guests[0].settle()
      }
      #expect(try bench.port("g0").received.drops == [wrong.reason: 3])
      #expect(try bench.port("g0").state == .running)
      try guests[0].deliver(frame(4))
      #expect(guests[1].collect() == [frame(4)])
      #expect(guests[0].offences == [])
      bench.expectBalance()
    }

    @Test(
      "offload_not_negotiated: checksums and segmentation that nobody agreed upon (E41, E43, E47, E48)"
    )
    func offload() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      try introduce(guests)
      for header in [
        NetHeader(flags: NetHeader.needsCsum, csumStart: 34, csumOffset: 16),
        NetHeader(gsoType: NetHeader.gsoTCPv4, hdrLen: 54, gsoSize: 1448),
      ] {
        #expect(guests[0].send(frame(), header: header))
        guests[0].settle()
      }
      #expect(try bench.port("g0").received.drops == ["offload_not_negotiated": 2])
      // Unknown flags, num_buffers and hdr_len from a driver are ignored (E41, E43, E47).
      #expect(guests[0].send(frame(1), header: NetHeader(flags: 0xF0, hdrLen: 999, numBuffers: 7)))
      guests[0].settle()
      let received = try #require(guests[1].pairs[0].receiveWithHeader())
      #expect(received.frame == frame(1) && received.header == NetHeader(numBuffers: 1))
      bench.expectBalance(.named(guests))
    }

    @Test("malformed_receive_buffer: a bad buffer costs its guest a frame, and no other's")
    func malformedReceiveBuffer() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.ringSize = 4
      let guests = try bench.guests(3, options)
      try introduce(guests)
      // The guest's next buffer is for reading.
      let pair = guests[1].pairs[0]
      let next = Int(pair.receiveq.readAvailEntry(pair.receiveq.usedIndex))
      let good = pair.receiveq.readDescriptor(next)
      var bad = good
      bad.flags = 0
      pair.receiveq.writeDescriptor(next, bad)
      let broadcast = TestFrame.make(to: .broadcast, from: .station(0), sequence: 9)
      try guests[0].deliver(broadcast)
      pair.receiveq.writeDescriptor(next, good)
      #expect(guests[2].collect() == [broadcast])
      #expect(try bench.port("g1").sent.drops == ["malformed_receive_buffer": 1])
      try guests[0].deliver(frame(1))
      #expect(guests[1].collect().contains(frame(1)))
      bench.expectBalance()
    }
  }
}
