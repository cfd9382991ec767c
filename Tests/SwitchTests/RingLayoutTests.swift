import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// Split and packed rings (virtio v1.4, 2.7 and 2.8), with and without VIRTIO_F_IN_ORDER, on one switch.
extension SwitchTests {
  @Suite struct RingLayoutTests {
    enum Layout: String, CaseIterable, Sendable {
      case split, splitInOrder, packed, packedInOrder

      var features: VirtioFeatures {
        switch self {
        case .split: []
        case .splitInOrder: .inOrder
        case .packed: .ringPacked
        case .packedInOrder: [.ringPacked, .inOrder]
        }
      }

      /// A packed ring's size need not be a power of two.
      var ringSize: Int { features.contains(.ringPacked) ? 61 : 64 }

      func options(_ without: VirtioFeatures = []) -> GuestPort.Options {
        var options = GuestPort.Options()
        options.features = options.features.union(features).subtracting(without)
        options.ringSize = ringSize
        return options
      }
    }

    @Test(
      "Between guests of any two layouts, frames of every length arrive whole (E08, E31)",
      arguments: Layout.allCases, Layout.allCases)
    func mixed(from: Layout, to: Layout) throws {
      let bench = try Bench()
      var sending = from.options()
      sending.transmitBufferLength = 12 + 16_000
      let guests = [
        try bench.attach("g0", sending), try bench.attach("g1", to.options()),
      ]
      #expect(guests[0].features.isSuperset(of: from.features))
      #expect(guests[1].features.isSuperset(of: to.features))
      try introduce(guests)
      for (sequence, length) in [42, 60, 64, 128, 1514, 2036, 2037, 4096, 9000].enumerated() {
        for shape in [
          QueuePair.TransmitLayout(), .init(pieces: 2), .init(pieces: 7),
          .init(pieces: 8, indirect: true),
        ] {
          guests[0].pairs[0].layout = shape
          let frame = TestFrame.make(
            to: .station(1), from: .station(0), sequence: UInt64(sequence), length: length)
          try guests[0].deliver(frame)
          let received = guests[1].pairs[0].receiveWithHeader()
          #expect(received?.frame == frame, "\(length) bytes in \(shape)")
          #expect(received?.buffers == (length + 12 + 2047) / 2048)
        }
      }
      bench.expectBalance(.named(guests))
    }

    @Test(
      "Bursts in both directions, lap after lap, in order",
      arguments: Layout.allCases, [VirtioFeatures(), [.eventIdx, .mrgRxbuf, .indirectDesc]])
    func bursts(layout: Layout, without: VirtioFeatures) throws {
      let bench = try Bench(workers: 2)
      let guests = try bench.guests(2, layout.options(without))
      try introduce(guests)
      var checkers = [SequenceChecker(), SequenceChecker()]
      var next: [UInt64] = [0, 0]
      for round in 0..<Upheaval.share(of: 150) {
        for from in 0..<2 {
          for _ in 0..<(1 + (round * 7 + from) % layout.ringSize) {
            let frame = TestFrame.make(
              to: .station(1 - from), from: .station(from), sequence: next[from],
              length: 60 + round)
            // Two segments need two descriptors.
            if guests[from].pairs[0].enqueue(frame) { next[from] += 1 }
          }
          guests[from].pairs[0].flush()
        }
        for guest in guests { guest.settle() }
        for index in 0..<2 {
          for frame in guests[index].collect() { checkers[index].accept(frame) }
        }
      }
      #expect(checkers[0].isClean && checkers[1].isClean)
      #expect(checkers[0].received == Int(next[1]) && checkers[1].received == Int(next[0]))
      bench.expectBalance(.named(guests))
    }

    @Test(
      "A worker asleep is kicked, and a driver asleep is interrupted (E30)",
      arguments: Layout.allCases, [true, false])
    func idle(layout: Layout, eventIndex: Bool) throws {
      let bench = try Bench()
      let guests = try bench.guests(2, layout.options(eventIndex ? [] : .eventIdx))
      try introduce(guests)
      for sequence in 0..<100 as Range<UInt64> {
        if sequence % 4 == 0 {
          #expect(eventually { bench.fabric.workers().allSatisfy { $0.state == "sleeping" } })
        }
        let from = Int(sequence % 2)
        let frame = TestFrame.make(
          to: .station(1 - from), from: .station(from), sequence: sequence)
        #expect(guests[from].send(frame))
        #expect(try guests[1 - from].receive(milliseconds: 120_000) == frame)
      }
      for guest in guests { guest.settle() }
      bench.expectBalance(.named(guests))
    }

    @Test(
      "Rings that are stopped go on where they were; so do those of a guest that comes back (E79, E80)",
      arguments: Layout.allCases)
    func restart(_ layout: Layout) throws {
      let bench = try Bench()
      let guests = try bench.guests(2, layout.options())
      try introduce(guests)
      var next: UInt64 = 0
      func pass(_ count: Int) throws {
        for _ in 0..<count {
          for from in 0..<2 {
            let frame = TestFrame.make(
              to: .station(1 - from), from: .station(from), sequence: next)
            try guests[from].deliver(frame)
            #expect(guests[1 - from].collect() == [frame])
          }
          next += 1
        }
      }
      for round in 0..<30 {
        try pass(1 + round % 5)
        try guests[round % 2].stop()
        try guests[round % 2].restart()
      }
      try pass(1)
      guests[0].disconnect()
      try guests[0].reconnect(.connect(path: bench.path("g0")))
      try guests[0].announce(.station(0))
      _ = guests[1].collect()
      try pass(100)
      #expect(guests[0].offences == [] && guests[1].offences == [])
    }

    @Test(
      "A packed transmitq whose chain has no end is named, and nobody else has any harm (HG-16, E02)"
    )
    func withoutEnd() throws {
      let bench = try Bench()
      let guests = try [
        bench.attach("g0", Layout.packed.options()), bench.attach("g1", Layout.split.options()),
        bench.attach("g2", Layout.packed.options()),
      ]
      try introduce(guests)
      let error = try EventFD()
      try guests[0].frontEnd.setRingError(1, error.descriptor)
      error.drain()
      let ring = guests[0].pairs[0].transmitq.availPosition
      let flags: UInt16 = ring.wrap ? PackedDescriptor.availFlag : PackedDescriptor.usedFlag
      guests[0].pairs[0].transmitq.writePackedDescriptor(
        Int(ring.index), PackedDescriptor(address: 0, length: 64, flags: flags | 1))
      guests[0].pairs[0].transmitq.kick()
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .broken })
      let port = try bench.port("g0")
      #expect(port.queues[1].state == .broken && port.queues[0].state == .running)
      #expect(
        port.explanation.contains("a chain of a packed ring has no end among the available"))
      #expect(eventually { error.drain() > 0 })
      for sequence in 0..<200 as Range<UInt64> {
        for (from, to) in [(1, 2), (2, 1)] {
          let frame = TestFrame.make(to: .station(to), from: .station(from), sequence: sequence)
          try guests[from].deliver(frame)
          #expect(guests[to].collect().last == frame)
        }
      }
      // A new front-end on the same socket.
      guests[0].disconnect()
      let fresh = try bench.guest("g0", Layout.packedInOrder.options())
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .running })
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 5)
      try fresh.deliver(frame)
      #expect(guests[1].collect() == [frame])
      #expect(fresh.offences == [])
      bench.expectBalance()
    }

    @Test("HG-13: descriptors rewritten while the switch looks at them harm nobody else")
    func rewritten() throws {
      let bench = try Bench()
      let guests = try [
        bench.attach("g0", Layout.packed.options()), bench.attach("g1", Layout.split.options()),
        bench.attach("g2", Layout.packed.options()),
      ]
      try introduce(guests)
      var random = SystemRandomNumberGenerator()
      for round in 0..<200 as Range<UInt64> {
        for queue in 0..<2 {
          // Anything at all, in every descriptor, again and again.
          for index in 0..<guests[0].pairs[0].transmitq.size {
            let word = UInt64.random(in: 0 ... .max, using: &random)
            let descriptor = PackedDescriptor(
              address: word & 0x3F_FFFF, length: UInt32(truncatingIfNeeded: word >> 40) & 0xFFF,
              id: UInt16(truncatingIfNeeded: word), flags: UInt16(truncatingIfNeeded: word >> 48))
            if queue == 0 {
              guests[0].pairs[0].transmitq.writePackedDescriptor(index, descriptor)
            } else {
              guests[0].pairs[0].receiveq.writePackedDescriptor(index, descriptor)
            }
          }
        }
        guests[0].pairs[0].transmitq.kick()
        #expect(guests[1].send(TestFrame.make(to: .station(0), from: .station(1), sequence: round)))
        let frame = TestFrame.make(to: .station(2), from: .station(1), sequence: round)
        try guests[1].deliver(frame)
        #expect(eventually { guests[2].collect().last == frame })
        if bench.fabric.port(named: "g0")?.state == .broken {
          // As a driver does that resets its device.
          for index in 0..<2 { _ = try guests[0].frontEnd.stopRing(index) }
          try guests[0].frontEnd.setUpRing(0, guests[0].pairs[0].receiveq, base: 0x8000_8000)
          try guests[0].frontEnd.setUpRing(1, guests[0].pairs[0].transmitq, base: 0x8000_8000)
        }
      }
      #expect(guests[1].offences == [] && guests[2].offences == [])
    }
  }
}
