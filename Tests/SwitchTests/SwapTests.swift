import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// What a front-end may exchange of a running ring while frames go through it.
extension SwitchTests {
  @Suite struct SwapTests {
    enum Swap: CaseIterable { case call, error, kick, all }

    @Test(
      "SET_VRING_CALL, SET_VRING_ERR and SET_VRING_KICK on running rings lose no frame and interrupt nothing (E83)",
      arguments: Swap.allCases, [VirtioFeatures.usual, .usual.union(.ringPacked)])
    func underTraffic(_ swap: Swap, _ features: VirtioFeatures) throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.features = features
      let guests = [try bench.attach("g0", options), try bench.attach("g1", options)]
      let traffic = try SteadyTraffic(guests)
      #expect(traffic.advance(by: 100))
      let holdings = Holdings()
      for round in 0..<Upheaval.share(of: 60) {
        for guest in guests {
          let pair = guest.pairs[0]
          let events = [
            (pair.receiveq.callEvent, pair.receiveq.kickEvent),
            (pair.transmitq.callEvent, pair.transmitq.kickEvent),
          ]
          for (index, (call, kick)) in events.enumerated() {
            if swap == .call || swap == .all {
              try guest.frontEnd.setRingCall(index, call.descriptor)
            }
            if swap == .error || swap == .all {
              try guest.frontEnd.setRingError(index, try EventFD().descriptor)
            }
            if swap == .kick || swap == .all {
              try guest.frontEnd.setRingKick(index, kick.descriptor)
            }
          }
        }
        if round % 20 == 0 { #expect(traffic.advance(by: 1)) }
      }
      #expect(traffic.advance(by: 500))
      // None of those that were exchanged is kept: an error eventfd is a ring's only new one.
      #expect(
        eventually {
          Holdings().descriptors <= holdings.descriptors + (swap == .kick || swap == .call ? 0 : 4)
        })
      for (index, result) in traffic.stop().enumerated() {
        let stream = try #require(result.checkers[UInt32(index ^ 1)])
        #expect(stream.missing == 0 && stream.reordered == 0 && result.corrupt == 0)
      }
      for name in ["g0", "g1"] {
        let port = try bench.port(name)
        #expect(port.received.drops == [:] && port.sent.drops == [:], "\(name)")
        // What a signal costs is the machine's affair, and some are slow.
        #expect(port.faults.filter { $0.key != "slow_interrupts" } == [:])
      }
      bench.expectBalance(.named(guests))
    }

    @Test(
      "SET_VRING_ENABLE costs the frames that come meanwhile, by name, and no ring its place (E76)")
    func enabling() throws {
      let bench = try Bench()
      let guests = [try bench.attach("g0"), try bench.attach("g1")]
      try introduce(guests)
      for round in 0..<Upheaval.share(of: 100) {
        for ring in 0...1 { try guests[1].frontEnd.enableRing(ring, false) }
        try guests[1].frontEnd.synchronize()
        let lost = TestFrame.make(
          to: .station(1), from: .station(0), stream: 1, sequence: UInt64(2 * round))
        #expect(guests[0].send(lost))
        guests[0].settle()
        for ring in 0...1 { try guests[1].frontEnd.enableRing(ring, true) }
        try guests[1].frontEnd.synchronize()
        let kept = TestFrame.make(
          to: .station(1), from: .station(0), stream: 1, sequence: UInt64(2 * round + 1))
        try guests[0].deliver(kept)
        #expect(guests[1].collect() == [kept])
        #expect(
          try bench.port("g0").received.drops == ["destination_down": UInt64(round + 1)])
      }
      bench.expectBalance(.named(guests))
    }
  }
}
