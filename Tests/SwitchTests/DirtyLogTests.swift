import ControlAPI
import Glibc
import Linux
import Switch
import Testing
import VirtioDriver

/// The log of dirty pages, by which a front-end that migrates a guest learns what the switch has written.
extension SwitchTests {
  @Suite struct DirtyLogTests {
    enum Way: CaseIterable, Sendable {
      case split, packed, splitInOrder, packedInOrder, noEventIndex, packedNoEventIndex
      case manyBuffers, packedManyBuffers, oneBuffer, indirect, packedIndirect, chains, packedChains
      case largeRing, packedLargeRing, translated, packedTranslated, translatedChains

      var options: GuestPort.Options {
        var options = GuestPort.Options()
        let name = "\(self)".lowercased()
        if name.contains("translated") { options = IOMMUTests.options() }
        options.ringSize = 64
        options.regionAddresses = [0, 1 << 32, 2 << 32]
        options.features.insert(.logAll)
        if name.contains("packed") { options.features.insert(.ringPacked) }
        if name.contains("inorder") { options.features.insert(.inOrder) }
        if name.contains("noeventindex") { options.features.remove(.eventIdx) }
        if name.contains("manybuffers") { options.receiveBufferLength = 300 }
        if self == .oneBuffer { options.features.remove(.mrgRxbuf) }
        if name.contains("indirect") {
          options.transmitLayout = .init(pieces: 4, indirect: true)
          options.receiveLayout = .init(pieces: 4, indirect: true)
          options.features.remove(.mrgRxbuf)
        }
        if name.contains("chains") {
          options.transmitLayout = .init(pieces: 3)
          options.receiveLayout = .init(pieces: 3)
          options.features.remove(.mrgRxbuf)
        }
        if name.contains("largering") { options.ringSize = 1024 }
        return options
      }
    }

    /// A guest that is logged, on a switch with a witness.
    private func bed(
      _ way: Way, workers: Int = 1
    ) throws -> (bench: Bench, guest: GuestPort, peer: GuestPort) {
      let bench = try Bench(workers: workers, translationPatience: IOMMUTests.forEver)
      let guest = try bench.attach("g0", way.options)
      let peer = try bench.attach("g1")
      try introduce([guest, peer])
      return (bench, guest, peer)
    }

    @Test(
      "Every page that the switch has written is marked, and when GET_VRING_BASE is answered (E88, E79)",
      arguments: Way.allCases)
    func everyByte(_ way: Way) throws {
      let (bench, guest, peer) = try bed(way)
      try guest.stop()
      let sent = 12
      for sequence in 0..<sent {
        let frame = TestFrame.make(
          to: .station(1), from: .station(0), sequence: UInt64(sequence), length: 100 + sequence)
        #expect(guest.pairs[0].enqueue(frame))
      }
      guest.pairs[0].flush()
      let log = try TestLog(guest)
      try log.install(on: guest)
      let before = try bench.port("g0")
      // From here on the driver writes nothing.
      let image = MemoryImage(guest)
      try guest.restart()
      // Behind an IOMMU a ring starts when its own addresses are told.
      #expect(
        eventually {
          bench.fabric.port(named: "g0")?.queues.allSatisfy { $0.state == .running } == true
        })
      var frames: [[UInt8]] = []
      for sequence in 0..<10 {
        frames.append(
          TestFrame.make(
            to: .station(0), from: .station(1), sequence: UInt64(sequence),
            length: 60 + 150 * sequence))
        try peer.deliver(frames[sequence])
      }
      let isDone = Deadline.wait(milliseconds: 60_000) {
        guard let now = bench.fabric.port(named: "g0") else { return false }
        return now.sent.frames >= before.sent.frames + UInt64(frames.count)
          && now.received.frames >= before.received.frames + UInt64(sent)
      }
      let port = try bench.port("g0")
      #expect(isDone, "\(port)")
      try guest.stop()

      let changed = image.changed
      // Both rings, and where ten frames lie.
      #expect(changed.count > 3)
      let missing = changed.filter { !log.marks(ofMemory: $0) }
      #expect(missing.isEmpty, "\(missing.map { String($0, radix: 16) })")
      // Else a log that is all ones would do.
      #expect(log.count <= changed.count + 8 && log.count < image.size / 2)
      // And it is what was sent.
      #expect(guest.collect() == frames)
      #expect(guest.offences == [])
    }

    @Test(
      "A log that is replaced under traffic: what is written afterwards is in the new one alone (E89)",
      arguments: [Way.split, .packed, .translated])
    func swapped(_ way: Way) throws {
      let (bench, guest, peer) = try bed(way, workers: 2)
      defer { withExtendedLifetime(bench) {} }
      let logs = try (0..<5).map { try TestLog(guest, offset: UInt64($0 * 1000)) }
      try logs[0].install(on: guest)
      // Receive buffers are written by the switch alone.
      let image = MemoryImage(guest)
      let traffic = try SteadyTraffic([guest, peer])
      for (old, new) in zip(logs, logs.dropFirst()) {
        #expect(traffic.advance(by: 40))
        try new.install(on: guest)
        let count = old.count
        #expect(count > 0)
        #expect(traffic.advance(by: 40))
        #expect(old.count == count, "the old log is left alone")
      }
      let results = traffic.stop()
      #expect(results.allSatisfy { $0.corrupt == 0 && $0.reordered == 0 })
      try guest.stop()
      let region = try #require(guest.memory.regions.dropFirst().first)
      let changed = image.changed.filter {
        $0 >= region.guestAddress && $0 < region.guestAddress + UInt64(region.length)
      }
      #expect(!changed.isEmpty)
      #expect(changed.allSatisfy { page in logs.contains { $0.marks(ofMemory: page) } })
    }

    @Test(
      "As QEMU begins and ends a migration, on live rings: LOG_ALL, and used rings marked where it says, within the log (E90, E93)",
      arguments: [Way.split, .packed])
    func live(_ way: Way) throws {
      var options = way.options
      options.features.remove(.logAll)
      let bench = try Bench()
      let guests = [try bench.attach("g0", options), try bench.attach("g1")]
      let guest = guests[0]
      let log = try TestLog(guest, more: 64)
      let traffic = try SteadyTraffic(guests)
      #expect(traffic.advance(by: 50))
      try log.install(on: guest)
      #expect(traffic.advance(by: 50))
      #expect(log.count == 0, "not before LOG_ALL")
      try guest.frontEnd.setFeatures(guest.features.union(.logAll))
      // Behind the last region, where there is no memory.
      let outside = (log.size - 8) * 8 * 4096
      try guest.frontEnd.setRingAddresses(0, guest.pairs[0].receiveq, log: outside)
      try guest.frontEnd.setRingAddresses(1, guest.pairs[0].transmitq, log: outside + 0x2000)
      #expect(traffic.advance(by: 50))
      #expect(log.count > 0)
      #expect(log.marks(outside) && log.marks(outside + 0x2000))
      #expect(!log.marks(outside + 0x4000))

      try guest.frontEnd.setFeatures(guest.features)
      log.clear()
      #expect(traffic.advance(by: 50))
      #expect(log.count == 0, "not after LOG_ALL")
      let results = traffic.stop()
      #expect(results.allSatisfy { $0.corrupt == 0 && $0.reordered == 0 })
      #expect(guest.offences == [])
    }

    @Test(
      "A log too small for the memory is refused, and an address outside of it stops its ring until it is mended (E90, HP-06)",
      arguments: [Way.split, .packed, .translated])
    func tooSmall(_ way: Way) throws {
      let (bench, guest, peer) = try bed(way)
      defer { withExtendedLifetime(bench) {} }
      let log = try TestLog(guest)
      for (size, offset) in [(log.size - 1, 0), (1, 0), (log.size, 1), (log.size, 1 << 62)] {
        #expect(throws: FrontEndError.refused(.setLogBase, code: 1)) {
          try guest.frontEnd.setLogBase(log.file, size: size, offset: UInt64(offset))
        }
      }
      try log.install(on: guest)
      for place: UInt64 in [log.size * 8 * 4096, 1 << 62, .max] {
        #expect(throws: FrontEndError.refused(.setVringAddr, code: 1)) {
          try guest.frontEnd.setRingAddresses(0, guest.pairs[0].receiveq, log: place)
        }
      }
      try guest.frontEnd.setRingAddresses(0, guest.pairs[0].receiveq)
      let frame = TestFrame.make(to: .station(0), from: .station(1), sequence: 1)
      #expect(eventually { peer.send(frame) && !guest.collect().isEmpty })
      #expect(log.count > 0)
    }

    @Test("A log that its front-end shortens under traffic breaks its port and no other (HP-03)")
    func vanished() throws {
      let bench = try Bench()
      var guests = [try bench.attach("g0", Way.split.options)]
      guests += try (1..<4).map { try bench.attach("g\($0)") }
      let log = try TestLog(guests[0])
      try log.install(on: guests[0])
      // Stations 0 and 1 are the others'.
      try guests[0].announce(.station(10))
      let others = try SteadyTraffic(Array(guests[2...]))
      #expect(ftruncate(log.file.raw, 0) == 0)
      let isBroken = eventually {
        _ = guests[1].send(TestFrame.make(to: .station(10), from: .station(11), sequence: 1))
        return bench.fabric.port(named: "g0")?.faults["memory_vanished"] ?? 0 > 0
      }
      #expect(isBroken)
      #expect(others.advance(by: 100))
      _ = others.stop()
    }
  }
}
