import ControlAPI
import Switch
import Testing
import VirtioDriver

/// What the switch offers a front-end, and that it keeps to it.
extension SwitchTests {
  @Suite struct OfferTests {
    private func frontEnd(_ bench: Bench, queues: Int) throws -> FrontEnd {
      try bench.addPort("vm\(queues)", queues: queues)
      let frontEnd = try FrontEnd.connect(path: bench.path("vm\(queues)"))
      frontEnd.timeout = 120_000
      try frontEnd.negotiate()
      return frontEnd
    }

    private static func bits(_ numbers: Int...) -> UInt64 {
      numbers.reduce(0) { $0 | 1 << UInt64($1) }
    }

    /// Features beside the offloads, and what each needs one of (virtio v1.4, 5.1.3.1).
    static let needs: [(feature: UInt64, anyOf: UInt64)] = [
      (bits(18), bits(17)), (bits(19), bits(17)), (bits(21), bits(17)), (bits(22), bits(17)),
      (bits(23), bits(17)), (bits(53), bits(17)), (bits(60), bits(17)), (bits(61), bits(11, 12)),
    ]

    @Test("Modern, and nothing without what it needs (E03, E07, E37, E96)", arguments: [1, 2, 16])
    func consistent(_ queues: Int) throws {
      let bench = try Bench()
      let frontEnd = try frontEnd(bench, queues: queues)
      let offered = frontEnd.offered
      #expect(offered.contains(.version1) && offered.isConsistent)
      for (feature, anyOf) in Self.needs where offered.rawValue & feature != 0 {
        #expect(offered.rawValue & anyOf != 0, "\(VirtioFeatures(rawValue: feature).names)")
      }
      #expect(offered.contains(.mq) == (queues > 1))
      // Some take the answer to GET_QUEUE_NUM for virtqueues, and 1 is too few of those.
      #expect(frontEnd.offeredProtocol.contains(.mq) == (queues > 1))
      #expect(frontEnd.maxQueuePairs == queues)
    }

    @Test("What is not served is not offered (E06, E32, E46, E60, E97, E99, E100)")
    func absent() throws {
      let bench = try Bench()
      let frontEnd = try frontEnd(bench, queues: 4)
      // NOTIFICATION_DATA, NOTIF_CONFIG_DATA, RING_RESET, ADMIN_VQ, HASH_REPORT, RSS, RSC_EXT.
      #expect(frontEnd.offered.rawValue & Self.bits(38, 39, 40, 41, 57, 60, 61) == 0)
      // CROSS_ENDIAN, CONFIG, INFLIGHT_SHMFD, INBAND_NOTIFICATIONS.
      #expect(frontEnd.offeredProtocol.rawValue & Self.bits(6, 9, 12, 14) == 0)
    }

    @Test("Any set of features that holds together is accepted, and again after a reset (E04)")
    func subsets() throws {
      let bench = try Bench()
      let frontEnd = try frontEnd(bench, queues: 2)
      let offered = frontEnd.offered
      var random = DifferentialTests.Random(state: 0x0FFE)
      var sets = [offered, .version1, []]
      for bit in 0..<64 as Range<UInt64> {
        let one = VirtioFeatures(rawValue: 1 << bit)
        if !offered.contains(one) { continue }
        sets.append(one)
        sets.append(offered.subtracting(one))
      }
      for _ in 0..<200 { sets.append(VirtioFeatures(rawValue: random.next() & offered.rawValue)) }
      for set in sets where set.isConsistent {
        for _ in 0..<2 {
          try frontEnd.setFeatures(set)
          try frontEnd.set(.resetDevice)
        }
      }
      // It has not suffered: another front-end is served there.
      frontEnd.close()
      let other = try bench.attach("other")
      let frame = TestFrame.make(to: .broadcast, from: .station(1), sequence: 1)
      try bench.guest("vm2").deliver(frame)
      #expect(other.collect() == [frame])
    }

    @Test("Another switch offers the same, and takes a guest over where it was (E102)")
    func again() throws {
      var options = GuestPort.Options()
      options.queuePairs = 2
      let first = try Bench()
      let guest = try first.attach("vm", options)
      for _ in 0..<5 { try guest.announce(.station(1)) }
      let offered = guest.frontEnd.offered
      let offeredProtocol = guest.frontEnd.offeredProtocol
      first.fabric.stop()

      let second = try Bench()
      try second.addPort("vm", queues: 2)
      let other = try second.attach("other")
      try guest.reconnect(FrontEnd.connect(path: second.path("vm")))
      #expect(guest.frontEnd.offered == offered)
      #expect(guest.frontEnd.offeredProtocol == offeredProtocol)
      try introduce([other, guest])
      for (from, to, station) in [(guest, other, 0), (other, guest, 1)] {
        let frame = TestFrame.make(
          to: .station(station), from: .station(1 - station), sequence: 1)
        try from.deliver(frame)
        #expect(to.collect() == [frame])
      }
      #expect(guest.offences == [])
    }
  }
}
