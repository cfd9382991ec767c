import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// A device that was stopped or reset, while its driver, the rings still in its memory, goes on as if it were not.
extension SwitchTests {
  @Suite struct SuspensionTests {
    enum Way: CaseIterable { case getVringBase, statusZero, resetDevice, resetOwner }

    @Test(
      "Stopped or reset: not a word of the guest's memory changes, and nobody is told (E05, E81)",
      arguments: Way.allCases)
    func silence(_ way: Way) throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      try introduce(guests)
      let guest = guests[0]
      let frontEnd = guest.frontEnd
      switch way {
      case .getVringBase: try guest.stop()
      case .statusZero: try frontEnd.setStatus(0)
      case .resetDevice: try frontEnd.set(.resetDevice)
      case .resetOwner: try frontEnd.set(.resetOwner)
      }
      let waiting = TestFrame.make(to: .station(1), from: .station(0), sequence: 1)
      let pair = guest.pairs[0]
      #expect(pair.enqueue(waiting))
      _ = pair.receiveq.enableInterrupts()
      _ = pair.transmitq.enableInterrupts()
      pair.transmitq.publish()
      pair.transmitq.kick()
      pair.receiveq.kick()
      // What was told before it was stopped.
      pair.receiveq.callEvent.drain()
      pair.transmitq.callEvent.drain()
      func contents() throws -> [[UInt8]] {
        try guest.memory.regions.map { region in
          let whole = guest.memory.buffer(at: region.guestAddress, length: region.length)
          return try #require(whole).read(count: region.length)
        }
      }
      let before = try contents()

      for sequence in 0..<20 as Range<UInt64> {
        for target in [Address.station(0), .broadcast] {
          try guests[1].deliver(TestFrame.make(to: target, from: .station(1), sequence: sequence))
        }
      }
      #expect(guests[2].collect().count >= 20, "the others are served")
      #expect(guests[1].collect() == [])
      #expect(try contents() == before)
      #expect(pair.receiveq.callEvent.drain() == 0 && pair.transmitq.callEvent.drain() == 0)
      // It answers all the same, and has sent nothing of its own: the next reply is to the next request.
      #expect(try frontEnd.get(.getFeatures) == frontEnd.offered.rawValue)
      #expect(try bench.port("g0").queues.allSatisfy { $0.state == .stopped })

      if way == .getVringBase {
        // Enabled before it runs: what a ring has that runs but is not enabled is discarded (E76).
        for ring in 0...1 { try frontEnd.enableRing(ring, true) }
        try guest.restart()
        guest.settle()
        #expect(guests[1].collect() == [waiting])
      }
      #expect(guest.offences == [])
      bench.expectBalance()
    }
  }
}
