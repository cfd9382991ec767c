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
      /// Of a packed ring.
      case chainWithoutEnd

      var options: GuestPort.Options {
        var options = GuestPort.Options()
        if self == .chainWithoutEnd { options.features.insert(.ringPacked) }
        return options
      }

      func commit(on ring: inout DriverRing) {
        switch self {
        case .availIndexForward: ring.availIndex = ring.position &+ UInt16(ring.size) &+ 100
        case .availIndexBack: ring.availIndex = ring.position &- 1000
        case .headOutOfRange:
          if ring.outstanding == 0 {
            ring.pushRaw(head: UInt16(ring.size))
            ring.publish()
          } else {
            // The last of the buffers there are: one more would be more than the ring has entries.
            ring.writeAvailEntry(ring.position &- 1, UInt16(ring.size))
          }
        case .chainWithoutEnd:
          let oldest = PackedPosition(word: UInt16(truncatingIfNeeded: ring.resumeBase))
          if ring.outstanding == 0 {
            let available =
              oldest.wrap ? PackedDescriptor.availFlag : PackedDescriptor.usedFlag
            ring.writePackedDescriptor(
              Int(oldest.index),
              PackedDescriptor(address: 4096, length: 64, flags: 1 | available))
          } else {
            // The last buffer of a ring that is full of them.
            let last = (Int(oldest.index) + ring.size - 1) % ring.size
            var descriptor = ring.readPackedDescriptor(last)
            descriptor.flags |= 1
            ring.writePackedDescriptor(last, descriptor)
          }
        }
        ring.kick()
      }

      var explanation: String {
        switch self {
        case .availIndexForward, .availIndexBack:
          "avail.idx moved by more than the ring has entries"
        case .headOutOfRange: "the avail ring names a descriptor beyond the table"
        case .chainWithoutEnd:
          "a chain of a packed ring has no end among the available descriptors"
        }
      }

      var name: String {
        switch self {
        case .availIndexForward, .availIndexBack: "avail_index_jump"
        case .headOutOfRange: "head_out_of_range"
        case .chainWithoutEnd: "chain_without_end"
        }
      }
    }

    @Test(
      "A broken transmitq is named, told of, and starts anew (E02, HG-10, HG-11)",
      arguments: Offence.allCases)
    func transmitq(_ offence: Offence) throws {
      let bench = try Bench()
      let guests = try bench.guests(3, offence.options)
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

      #expect(try bench.port("g0").faults == [offence.name: 1])

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
      // Counts do not go back, and nothing was told twice.
      #expect(try bench.port("g0").faults == [offence.name: 1])
      bench.expectBalance()
    }

    @Test(
      "A broken receiveq drops queue_broken, and the transmitq goes on", arguments: Offence.allCases
    )
    func receiveq(_ offence: Offence) throws {
      let bench = try Bench()
      var options = offence.options
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
      #expect(eventually { bench.fabric.port(named: "g0")?.faults == [offence.name: 1] })
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 5)
      try guests[0].deliver(frame)
      #expect(guests[1].collect() == [frame])
      try others(guests, bench)
      bench.expectBalance()
    }

    @Test("A port that is broken over and over is counted each time, and costs the others nothing")
    func overAndOver() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      let traffic = try SteadyTraffic([guests[1], guests[2]])
      let pair = guests[0].pairs[0]
      let good = pair.transmitq.position
      let rounds = Upheaval.share(of: 150)
      for _ in 0..<rounds {
        pair.transmitq.availIndex = good &+ 9000
        pair.transmitq.kick()
        #expect(eventually { bench.fabric.port(named: "g0")?.state == .broken })
        // At once: whoever looks after broken rings has hardly seen it.
        #expect(try guests[0].frontEnd.stopRing(1) == UInt32(good))
        pair.transmitq.availIndex = good
        try guests[0].frontEnd.setUpRing(1, pair.transmitq, base: UInt32(good))
      }
      #expect(try bench.port("g0").faults == ["avail_index_jump": UInt64(rounds)])
      #expect(traffic.advance(by: 500))
      for result in traffic.stop() {
        #expect(result.missing == 0 && result.corrupt == 0 && result.reordered == 0)
      }
    }

    @Test("What a front-end does against the protocol is counted by name")
    func protocolFaults() throws {
      let bench = try Bench()
      let guest = try bench.attach("g0")
      func faults() -> [String: UInt64] { bench.fabric.port(named: "g0")?.faults ?? [:] }
      #expect(faults() == [:])
      // Refused, and answered.
      #expect(throws: FrontEndError.self) { try guest.frontEnd.setRingSize(99, 256) }
      #expect(throws: FrontEndError.self) { try guest.frontEnd.setRingSize(1, 3) }
      #expect(faults() == ["refused_request": 2])
      // A ring that can't be there.
      #expect(throws: FrontEndError.self) {
        try guest.frontEnd.setRingAddresses(1, descriptors: 16, used: 16, avail: 16)
      }
      #expect(faults()["ring_not_started"] == 1)
      let second = try FrontEnd.connect(path: bench.path("g0"))
      #expect(eventually { faults()["second_front_end"] == 1 })
      second.close()
      // Version 2.
      try guest.frontEnd.send(FrontEndMessage(.getFeatures, flags: 2))
      #expect(eventually { faults()["malformed_message"] == 1 })
      // Half a header, and the end.
      let half = try FrontEnd.connect(path: bench.path("g0"))
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .connected })
      try half.send([1, 0, 0, 0, 1])
      half.close()
      #expect(eventually { faults()["malformed_message"] == 2 })
      #expect(faults().values.reduce(0, +) == 6, "\(faults())")
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
