import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// The orders in which other VMMs than QEMU speak, as their sources have it.
extension SwitchTests {
  @Suite struct FrontEndOrderTests {
    private let frames = (0..<40 as Range<UInt64>).map {
      TestFrame.make(to: .station(0), from: .station(1), sequence: $0)
    }

    /// A guest's memory and rings, which some front-end has set up already, and its peer.
    private func guests(_ bench: Bench) throws -> (GuestPort, GuestPort) {
      let guests = [try bench.attach("g0"), try bench.attach("g1")]
      try introduce(guests)
      guests[0].disconnect()
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .waiting })
      return (guests[0], guests[1])
    }

    private func connect(_ bench: Bench) throws -> FrontEnd {
      let frontEnd = try FrontEnd.connect(path: bench.path("g0"))
      frontEnd.timeout = 120_000
      return frontEnd
    }

    private func exchange(_ bench: Bench, _ guest: GuestPort, _ peer: GuestPort) throws {
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .running })
      try guest.announce(.station(0))
      _ = peer.collect()
      for frame in frames { try peer.deliver(frame) }
      var received: [[UInt8]] = []
      #expect(
        eventually {
          received += guest.collect()
          return received.count >= frames.count
        }, "\(received.count)")
      #expect(received == frames)
      #expect(guest.offences == [])
    }

    @Test(
      "Cloud Hypervisor: queues counted one by one, the base at avail.idx, and a guest that resets its device"
    )
    func cloudHypervisor() throws {
      let bench = try Bench()
      let (guest, peer) = try guests(bench)
      let frontEnd = try connect(bench)
      // VhostUserHandle.negotiate_features_vhost_user; two queues, unless MQ says something else.
      try frontEnd.negotiate(.usual, [.mq, .configureMemSlots, .replyAck])
      #expect(!frontEnd.protocolFeatures.contains(.mq))
      for _ in 0..<3 {
        // setup_vhost_user, after the first start and after each later one.
        try frontEnd.setFeatures()
        try frontEnd.shareMemory(guest.memory)
        let pair = guest.pairs[0]
        try frontEnd.setRingSize(0, UInt32(pair.receiveq.size))
        try frontEnd.setRingSize(1, UInt32(pair.transmitq.size))
        try setUp(frontEnd, 0, pair.receiveq)
        try setUp(frontEnd, 1, pair.transmitq)
        for ring in 0...1 { try frontEnd.enableRing(ring, true) }
        try exchange(bench, guest, peer)
        // reset_vhost_user.
        for ring in 0...1 {
          try frontEnd.enableRing(ring, false)
          _ = try frontEnd.stopRing(ring)
        }
        try frontEnd.set(.resetOwner)
      }
      frontEnd.close()
      bench.expectBalance()
    }

    private func setUp(
      _ frontEnd: FrontEnd, _ index: Int, _ ring: borrowing DriverRing
    ) throws {
      try frontEnd.setRingAddresses(index, ring)
      try frontEnd.setRingBase(index, UInt32(ring.availIndex))
      try frontEnd.setRingCall(index, ring.callEvent.descriptor)
      try frontEnd.setRingKick(index, ring.kickEvent.descriptor)
    }

    @Test("crosvm: the owner first, nothing acknowledged, rings enabled last; sleeps and wakes")
    func crosvm() throws {
      let bench = try Bench()
      let (guest, peer) = try guests(bench)
      let frontEnd = try connect(bench)
      frontEnd.acknowledged = false
      try frontEnd.set(.setOwner)
      try frontEnd.negotiate(.usual, [.mq, .backendReq, .replyAck])
      #expect(!frontEnd.protocolFeatures.contains(.mq))
      let (ours, theirs) = try UnixSocket.pair()
      try frontEnd.set(.setBackendReqFD, descriptors: [theirs])
      for _ in 0..<2 {
        try frontEnd.setFeatures()
        try frontEnd.shareMemory(guest.memory)
        let pair = guest.pairs[0]
        var bases = [UInt32(pair.receiveq.position), UInt32(pair.transmitq.position)]
        for _ in 0..<3 {
          try activate(frontEnd, 0, pair.receiveq, bases[0])
          try activate(frontEnd, 1, pair.transmitq, bases[1])
          try exchange(bench, guest, peer)
          // virtio_sleep.
          for ring in 0...1 {
            try frontEnd.enableRing(ring, false)
            bases[ring] = try frontEnd.stopRing(ring)
          }
        }
      }
      frontEnd.close()
      withExtendedLifetime(ours) {}
      bench.expectBalance()
    }

    private func activate(
      _ frontEnd: FrontEnd, _ index: Int, _ ring: borrowing DriverRing, _ base: UInt32
    ) throws {
      try frontEnd.setRingSize(index, UInt32(ring.size))
      try frontEnd.setRingAddresses(index, ring)
      try frontEnd.setRingBase(index, base)
      try frontEnd.setRingCall(index, ring.callEvent.descriptor)
      try frontEnd.setRingKick(index, ring.kickEvent.descriptor)
      try frontEnd.enableRing(index, true)
    }

    /// Sets up the rings of a front-end that has said everything else.
    private func start(_ guest: GuestPort) throws {
      try guest.frontEnd.setUpRing(0, guest.pairs[0].receiveq)
      try guest.frontEnd.setUpRing(1, guest.pairs[0].transmitq)
      try guest.frontEnd.setStatus(15)
      try guest.frontEnd.synchronize()
    }

    @Test("An MTU holds while the driver knows of it, and no longer")
    func mtu() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.features = .usual.union(.mtu)
      let guests = [try bench.attach("g0", options), try bench.attach("g1")]
      let frontEnd = guests[0].frontEnd
      func fits(_ length: Int) throws -> Bool {
        try guests[0].announce(.station(0))
        let frame = TestFrame.make(
          to: .station(0), from: .station(1), sequence: UInt64(length), length: length)
        try guests[1].deliver(frame)
        guests[1].settle()
        return guests[0].collect() == [frame]
      }
      func mtu() -> Int? { bench.fabric.port(named: "g0")?.mtu }
      try frontEnd.setMTU(1400)
      #expect(try mtu() == 1400 && !fits(1514) && fits(1414))
      // device_del and device_add: the same connection, a driver that never heard of an MTU.
      try guests[0].stop()
      try frontEnd.setFeatures(guests[0].features.subtracting(.mtu))
      try start(guests[0])
      #expect(try mtu() == nil && fits(1514))
      // And one that did.
      try guests[0].stop()
      try frontEnd.setFeatures(guests[0].features)
      try start(guests[0])
      #expect(try mtu() == 1400 && !fits(1514))
      try guests[0].stop()
      try frontEnd.set(.resetDevice)
      #expect(mtu() == nil)
      #expect(bench.place(of: .station(0)) == nil, "nobody is there any more")
      try frontEnd.setFeatures(guests[0].features.subtracting(.mtu))
      try start(guests[0])
      #expect(try fits(1514))
      #expect(try bench.port("g0").sent.drops == ["exceeds_mtu": 2])
    }
  }
}
