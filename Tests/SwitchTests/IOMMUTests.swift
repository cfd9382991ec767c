import ControlAPI
import Switch
import Synchronization
import Testing
import VirtioDriver

extension SwitchTests {
  /// A guest whose device has an IOMMU in front: every address is translated, and each translation asked for.
  @Suite struct IOMMUTests {
    static func options(_ more: VirtioFeatures = []) -> GuestPort.Options {
      var options = GuestPort.Options()
      options.features = VirtioFeatures.usual.union([.accessPlatform]).union(more)
      options.protocolFeatures.insert(.backendReq)
      options.ringSize = 32
      return options
    }

    /// Milliseconds that no test takes.
    static let forEver = 3_600_000

    /// A switch with a guest behind an IOMMU, g0, and one without, g1.
    func bed(
      _ options: GuestPort.Options = options(), patience: Int = 4000, workers: Int = 1
    ) throws -> (bench: Bench, guests: [GuestPort], iommu: IOMMU) {
      let bench = try Bench(workers: workers, translationPatience: patience)
      let guests = [try bench.attach("g0", options), try bench.attach("g1")]
      return (bench, guests, try #require(guests[0].iommu))
    }

    /// Receives what still waits in the switch when traffic has ended.
    private func drain(_ bench: Bench, _ guests: [GuestPort]) {
      #expect(
        eventually {
          for guest in guests { _ = guest.collect() }
          return bench.isBalanced
        })
      for guest in guests { _ = guest.collect() }
    }

    func iotlb(_ bench: Bench) throws -> IOTLBStatus {
      try #require(try bench.port("g0").vhostUser?.iotlb)
    }

    enum Way: CaseIterable {
      case split, packed, splitInOrder, splitIndirect, packedIndirect, pieces
    }

    @Test(
      "Frames arrive whole both ways while each page is asked for (E98, E82)",
      arguments: Way.allCases)
    func traffic(_ way: Way) throws {
      var options = IOMMUTests.options()
      switch way {
      case .split: break
      case .packed: options.features.insert(.ringPacked)
      case .splitInOrder: options.features.insert(.inOrder)
      case .splitIndirect, .packedIndirect:
        if way == .packedIndirect { options.features.insert(.ringPacked) }
        options.transmitLayout = .init(pieces: 4, indirect: true)
      case .pieces:
        options.transmitLayout = .init(pieces: 5)
        // Buffers straddle pages, and frames buffers.
        options.receiveBufferLength = 1000
        options.transmitBufferLength = 3000
      }
      let (bench, guests, iommu) = try bed(options)
      let traffic = try SteadyTraffic(guests, lengths: 60...(way == .pieces ? 1900 : 1500))
      #expect(traffic.advance(by: 200))
      let results = traffic.stop()
      #expect(results.allSatisfy { $0.corrupt == 0 && $0.reordered == 0 })
      drain(bench, guests)
      bench.expectBalance(.named(guests))
      #expect(
        try bench.port("g0").vhostUser?.features.contains("VIRTIO_F_ACCESS_PLATFORM") == true)
      let status = try iotlb(bench)
      #expect(status.entries > 0 && status.updates > 0 && status.misses > 0)
      #expect(status.waitingRings.isEmpty)
      // Whoever reads asks to read, whoever writes to write.
      let asked = Set(iommu.misses.map(\.access))
      #expect(asked.contains([.read]) && asked.contains([.write]))
    }

    @Test("A front-end that accepts ACCESS_PLATFORM and gives no channel has no IOMMU")
    func noChannel() throws {
      let bench = try Bench()
      var options = IOMMUTests.options()
      options.protocolFeatures.remove(.backendReq)
      let guests = [try bench.attach("g0", options), try bench.attach("g1")]
      try introduce(guests)
      try guests[0].deliver(
        TestFrame.make(to: .station(1), from: .station(0), stream: 1, sequence: 0))
      #expect(guests[1].collect().count == 1)
    }

    @Test(
      "Everything invalidated, again and again under traffic: rings stop and go on (E98)",
      arguments: [false, true])
    func invalidateAll(packed: Bool) throws {
      let (bench, guests, iommu) = try bed(IOMMUTests.options(packed ? [.ringPacked] : []))
      let traffic = try SteadyTraffic(guests)
      for _ in 0..<10 {
        // As QEMU says 2^64 bytes.
        try iommu.invalidate(0, size: 0)
        // A ring that waits for its own addresses for a moment is one that runs.
        let port = try bench.port("g0")
        #expect(port.state == .running && port.queues.allSatisfy { $0.state == .running })
        #expect(traffic.advance(by: 20))
      }
      let results = traffic.stop()
      #expect(results.allSatisfy { $0.corrupt == 0 && $0.reordered == 0 })
      drain(bench, guests)
      bench.expectBalance(.named(guests))
      #expect(try iotlb(bench).invalidations >= 10)
      // What was asked for, beside which known translations are checked: repeats are not counted. The IOMMU may have some of
      // that still to read.
      let asked = try iotlb(bench).misses
      #expect(eventually { asked <= iommu.misses.count })
    }

    @Test("After an invalidation is answered its page is not read any more (E98)")
    func readElsewhere() throws {
      let (bench, guests, iommu) = try bed()
      try introduce(guests)
      let sender = guests[0].pairs[0]
      // The buffer that the next frame lies in, and another page with another frame.
      for round in 0..<5 {
        let spare = try #require(guests[0].memory.allocate(4096, alignment: 4096))
        let own = try #require(guests[0].memory.allocate(4096, alignment: 4096))
        func frame(_ sequence: Int) -> [UInt8] {
          TestFrame.make(
            to: .station(1), from: .station(0), stream: 1, sequence: UInt64(sequence))
        }
        let bytes = NetHeader().bytes(length: 12)
        own.write(bytes + frame(round))
        spare.write(bytes + frame(1000 + round))
        func send() {
          let token = sender.transmitq.add(
            own.slice(0, 12 + frame(0).count).piece, writable: false)
          #expect(token != nil)
          sender.flush()
          guests[0].settle()
        }
        send()
        #expect(guests[1].collect() == [frame(round)])
        try iommu.move(own.address, to: spare.address)
        send()
        #expect(guests[1].collect() == [frame(1000 + round)])
      }
      bench.expectBalance()
    }

    @Test(
      "After an invalidation is answered its pages are not written any more, under traffic (E98)")
    func writeElsewhere() throws {
      var options = IOMMUTests.options()
      // Rings in one region, receive buffers in the next, and where these are moved to in a third.
      options.regionAddresses = [0, 1 << 32, 2 << 32]
      let (bench, guests, iommu) = try bed(options)
      try introduce(guests)
      let progress = StreamProgress()
      let station = try Station(
        guests[1],
        flows: [.init(to: .station(0), from: .station(1), stream: 1)])
      var result = Station.Result()
      func receive(_ frames: UInt64) {
        let end = progress.next.load(ordering: .relaxed) + frames
        #expect(
          eventually {
            Station.receive(guests[0].pairs[0], &result, [1: progress])
            return progress.next.load(ordering: .relaxed) >= end
          })
      }
      receive(200)
      let length = UInt64(options.ringSize * options.receiveBufferLength)
      let old = try #require(guests[0].memory.buffer(at: 1 << 32, length: Int(length)))
      for page in stride(from: 0, to: length, by: Int(IOMMU.page)) {
        iommu.map(1 << 32 + page, to: 2 << 32 + page, [])
      }
      try iommu.invalidate(1 << 32, size: length)
      let before = old.read(count: Int(length))
      // The buffers are posted again, and more frames come than there are of them.
      #expect(
        eventually {
          Station.receive(guests[0].pairs[0], &result)
          return bench.drops("address_not_translated") >= 100
        })
      #expect(old.read(count: Int(length)) == before)
      _ = station.stop()
    }

    @Test(
      "A page that may only be read is not written; it is asked for once, not over and over (E98)")
    func readOnly() throws {
      var options = IOMMUTests.options()
      options.regionAddresses = [0, 1 << 32]
      let bench = try Bench()
      try bench.addPort("g0")
      let frontEnd = try FrontEnd.connect(path: bench.path("g0"))
      let guest = try GuestPort(frontEnd: frontEnd, options: options)
      let peer = try bench.attach("g1")
      let iommu = try #require(guest.iommu)
      let length = UInt64(options.ringSize * options.receiveBufferLength)
      for page in stride(from: 0, to: length, by: Int(IOMMU.page)) {
        iommu.map(1 << 32 + page, to: 1 << 32 + page, .read)
      }
      try iommu.invalidate(0, size: 0)
      try introduce([guest, peer])
      let frame = TestFrame.make(to: .station(0), from: .station(1), stream: 1, sequence: 0)
      // The rings come back by themselves; then it is the buffers that lack.
      #expect(
        eventually {
          _ = try? peer.deliver(frame)
          return bench.drops("address_not_translated") >= 100
        })
      #expect(guest.collect().isEmpty)
      let old = try #require(guest.memory.buffer(at: 1 << 32, length: Int(length)))
      #expect(old.read(count: Int(length)).allSatisfy { $0 == 0 })
      let writes = iommu.misses.count { $0.access.contains(.write) && $0.address >= 1 << 32 }
      #expect(writes < 2000)
      // Now they may be written, and the device is told.
      for page in stride(from: 0, to: length, by: Int(IOMMU.page)) {
        iommu.map(1 << 32 + page, to: 1 << 32 + page)
        try iommu.update(1 << 32 + page)
      }
      #expect(
        eventually {
          _ = try? peer.deliver(frame)
          return !guest.collect().isEmpty
        })
    }

    @Test(
      "A front-end that answers no miss: its frames wait, others' do not, and its worker sleeps (E98)"
    )
    func silence() throws {
      var options = IOMMUTests.options()
      options.regionAddresses = [0, 1 << 32, 2 << 32]
      let (bench, pair, iommu) = try bed(options, patience: IOMMUTests.forEver)
      let guests = pair + [try bench.attach("g2")]
      try introduce(guests)
      func frame(from sender: Int, to receiver: Int, _ sequence: Int) -> [UInt8] {
        TestFrame.make(
          to: .station(receiver), from: .station(sender), stream: UInt32(sender),
          sequence: UInt64(sequence))
      }
      // Transmit buffers are in the third region.
      iommu.isSilent = true
      try iommu.invalidate(2 << 32, size: UInt64(guests[0].memory.regions[2].length))
      for sequence in 0..<5 {
        #expect(guests[0].send(frame(from: 0, to: 1, sequence)))
      }
      #expect(eventually { iommu.misses.contains { $0.address >= 2 << 32 && $0.access == .read } })
      for sequence in 0..<5 {
        try guests[1].deliver(frame(from: 1, to: 2, sequence))
        try guests[2].deliver(frame(from: 2, to: 1, sequence))
      }
      #expect(guests[2].collect() == (0..<5).map { frame(from: 1, to: 2, $0) })
      #expect(guests[1].collect() == (0..<5).map { frame(from: 2, to: 1, $0) })
      #expect(eventually { bench.fabric.workers()[0].state == "sleeping" })
      #expect(guests[0].pairs[0].transmitq.outstanding == 5)
      // What was asked for is asked for again.
      iommu.isSilent = false
      guests[0].settle()
      #expect(guests[1].collect() == (0..<5).map { frame(from: 0, to: 1, $0) })
      bench.expectBalance(.named(guests))
      #expect(try bench.port("g0").received.dropped == 0)
    }

    @Test(
      "A ring starts when its own addresses are told, and the port says what it waits for (E82, E98)"
    )
    func lateRing() throws {
      let bench = try Bench()
      try bench.addPort("g0")
      let peer = try bench.attach("g1")
      let frontEnd = try FrontEnd.connect(path: bench.path("g0"))
      let options = IOMMUTests.options()
      let guest = try GuestPort(frontEnd: frontEnd, options: options)
      let iommu = try #require(guest.iommu)
      try introduce([guest, peer])
      iommu.isSilent = true
      try iommu.invalidate(0, size: 0)
      #expect(
        eventually { (try? bench.port("g0").vhostUser?.iotlb?.waitingRings) == [0, 1] })
      // Not at once: it might be for a moment.
      #expect(eventually { (try? bench.port("g0").state) == .connected })
      var port = try bench.port("g0")
      #expect(port.explanation.contains("IOMMU"))
      #expect(port.vhostUser?.iotlb?.entries == 0)
      iommu.isSilent = false
      #expect(
        eventually {
          let port = try? bench.port("g0")
          return port?.state == .running && port?.vhostUser?.iotlb?.waitingRings == []
        })
      port = try bench.port("g0")
      #expect(port.queues.allSatisfy { $0.state == .running })
      // Stopping and starting, as a guest that reboots.
      try guest.stop()
      #expect(try iotlb(bench).entries == 0, "the front-end tells no more of what changes")
      try guest.restart()
      try guest.deliver(TestFrame.make(to: .station(1), from: .station(0), stream: 1, sequence: 1))
      #expect(peer.collect().count == 1)
    }
  }
}
