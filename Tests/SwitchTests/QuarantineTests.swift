import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// A guest that breaks a ring loses that ring, and nobody else anything.
extension SwitchTests {
  @Suite struct QuarantineTests {
    enum Offence: String, CaseIterable, Sendable {
      case availIndexForward, availIndexBack, headOutOfRange

      func commit(on ring: inout DriverRing) {
        switch self {
        case .availIndexForward: ring.availIndex = ring.position &+ UInt16(ring.size) &+ 100
        case .availIndexBack: ring.availIndex = ring.position &- 1000
        case .headOutOfRange:
          ring.pushRaw(head: UInt16(ring.size))
          ring.publish()
        }
        ring.kick()
      }

      var explanation: String {
        self == .headOutOfRange
          ? "the avail ring names a descriptor beyond the table"
          : "avail.idx moved by more than the ring has entries"
      }
    }

    @Test(
      "A broken transmitq is named, told of, and starts anew (E02, HG-10, HG-11)",
      arguments: Offence.allCases)
    func transmitq(_ offence: Offence) throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      try introduce(guests)
      let error = try EventFD()
      try guests[0].frontEnd.setRingError(1, error.descriptor)
      #expect(error.drain() == 0)

      offence.commit(on: &guests[0].pairs[0].transmitq)
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .broken })
      let port = try bench.port("g0")
      #expect(port.explanation.contains(offence.explanation))
      #expect(port.queues[1].state == .broken && port.queues[1].error == offence.explanation)
      #expect(port.queues[0].state == .running)
      #expect(eventually { error.drain() > 0 })
      #expect(eventually { bench.fabric.port(named: "g0")?.lastError?.contains("ring 1") == true })

      // What the ring says from now on is not believed.
      offence.commit(on: &guests[0].pairs[0].transmitq)
      try others(guests, bench)

      // A new front-end on the same socket.
      guests[0].disconnect()
      let fresh = try bench.guest("g0")
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .running })
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 5)
      try fresh.deliver(frame)
      #expect(guests[1].collect() == [frame])
      #expect(fresh.offences == [])
      bench.expectBalance()
    }

    @Test(
      "A broken receiveq drops queue_broken, and the transmitq goes on", arguments: Offence.allCases
    )
    func receiveq(_ offence: Offence) throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.ringSize = 8
      let guests = try bench.guests(3, options)
      try introduce(guests)
      let error = try EventFD()
      try guests[0].frontEnd.setRingError(0, error.descriptor)
      error.drain()
      // A receiveq is looked at when there is a frame for it: the eight good buffers, then the ninth.
      offence.commit(on: &guests[0].pairs[0].receiveq)
      for sequence in 0..<12 {
        try guests[1].deliver(
          TestFrame.make(to: .station(0), from: .station(1), sequence: UInt64(sequence)))
      }
      let sent = try bench.port("g0").sent
      #expect((sent.drops["queue_broken"] ?? 0) >= 4 && sent.drops.count == 1)
      #expect(try bench.port("g0").state == .broken)
      #expect(eventually { error.drain() > 0 })
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 5)
      try guests[0].deliver(frame)
      #expect(guests[1].collect() == [frame])
      try others(guests, bench)
      bench.expectBalance()
    }

    @Test("A ring that its driver sets up anew runs again, on the same connection (E79)")
    func restart() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      try introduce(guests)
      let pair = guests[0].pairs[0]
      let good = pair.transmitq.position
      pair.transmitq.availIndex = good &+ 9000
      pair.transmitq.kick()
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .broken })
      let stopped = try guests[0].frontEnd.stopRing(1)
      #expect(stopped == good)
      pair.transmitq.availIndex = good
      try guests[0].frontEnd.setUpRing(1, pair.transmitq, base: stopped)
      let port = try bench.port("g0")
      #expect(port.state == .running && port.queues[1].error == nil)
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 5)
      try guests[0].deliver(frame)
      #expect(guests[1].collect() == [frame])
      // And is told of again when it breaks again.
      let error = try EventFD()
      try guests[0].frontEnd.setRingError(1, error.descriptor)
      error.drain()
      pair.transmitq.availIndex = good &+ 9000
      pair.transmitq.kick()
      #expect(eventually { error.drain() > 0 })
      try others(guests, bench)
      bench.expectBalance()
    }

    /// The two guests that have done nothing wrong reach each other.
    private func others(_ guests: [GuestPort], _ bench: Bench) throws {
      for sequence in 0..<50 as Range<UInt64> {
        for (from, to) in [(1, 2), (2, 1)] {
          let frame = TestFrame.make(
            to: .station(to), from: .station(from), sequence: sequence)
          try guests[from].deliver(frame)
          #expect(guests[to].collect().last == frame)
        }
      }
      #expect(try bench.port("g1").state == .running && bench.port("g2").state == .running)
    }
  }
}
