import ControlAPI
import Switch
import Testing
import VirtioDriver

extension SwitchTests {
  @Suite struct ForwardingTests {
    @Test("Unknown unicast, broadcast and multicast flood to every other port and never back")
    func floods() throws {
      let bench = try Bench()
      let guests = try bench.guests(4)
      let targets: [Address] = [
        .station(99), .broadcast, Address(0x0100_5e00_0001), Address(0x3333_0000_0001),
        Address(0x0180_c200_0010), Address(0x0180_c200_0000), Address(0),
      ]
      for (sequence, target) in targets.enumerated() {
        let frame = TestFrame.make(
          to: target, from: .station(1), sequence: UInt64(sequence), length: 100)
        try guests[1].deliver(frame)
        for index in [0, 2, 3] {
          #expect(guests[index].collect() == [frame], "\(target) to port \(index)")
        }
        #expect(guests[1].collect() == [])
      }
      let stats = bench.fabric.stats()
      #expect(stats.received.frames == 7 && stats.received.replicas == 14)
      #expect(stats.sent.frames == 21)
      bench.expectBalance(.named(guests))
    }

    @Test("A learned address is served alone (E62)")
    func unicast() throws {
      let bench = try Bench()
      let guests = try bench.guests(4)
      try introduce(guests)
      for from in 0..<4 {
        for to in 0..<4 where to != from {
          let frame = TestFrame.make(to: .station(to), from: .station(from), sequence: 7)
          try guests[from].deliver(frame)
          for index in 0..<4 {
            #expect(guests[index].collect() == (index == to ? [frame] : []))
          }
        }
      }
      #expect(bench.fabric.macs().count == 4)
      bench.expectBalance(.named(guests))
    }

    @Test("A frame for its own port, a reserved group, an impossible source: dropped by name")
    func neverForwarded() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      try introduce(guests)
      try guests[0].deliver(TestFrame.make(to: .station(0), from: .station(0), sequence: 0))
      // Another station behind the same port.
      try guests[0].deliver(TestFrame.make(to: .station(0), from: .station(50), sequence: 0))
      #expect(try bench.port("g0").received.drops == ["hairpin": 2])
      // IEEE 802.1Q, table 8-1: a bridge forwards none of them, whether it knows the protocol or not. The
      // spanning tree's own address is forwarded, so that a loop through two guests can be seen.
      for last in UInt64(1)...15 {
        try guests[0].deliver(
          TestFrame.make(to: Address(0x0180_c200_0000 + last), from: .station(0), sequence: last))
      }
      #expect(bench.drops("reserved_multicast") == 15)
      for source in [Address.broadcast, Address(0), Address(0x0100_5e00_0001)] {
        try guests[0].deliver(TestFrame.make(to: .station(1), from: source, sequence: 0))
      }
      #expect(bench.drops("invalid_source") == 3)
      #expect(guests[1].collect() == [] && guests[0].collect() == [])
      #expect(bench.fabric.macs().count == 3)
      bench.expectBalance(.named(guests))
    }

    @Test("Unicast and broadcast mixed in one burst stay in order for each receiver")
    func order() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      try introduce(guests)
      var checkers = [SequenceChecker(), SequenceChecker(), SequenceChecker()]
      // Per receiver: the sequence number counts what it is to get.
      var numbers = [UInt64](repeating: 0, count: 3)
      var expected = [0, 0, 0]
      var random = SystemRandomNumberGenerator()
      for _ in 0..<60 {
        let burst = Int.random(in: 1...64, using: &random)
        for _ in 0..<burst {
          let length = Int.random(in: 60...400, using: &random)
          // A receiver's numbers rise with every frame that it gets, so one number fits a broadcast too.
          let next = max(numbers[1], numbers[2])
          switch Int.random(in: 0..<3, using: &random) {
          case 0:
            numbers[1] = next + 1
            numbers[2] = next + 1
            expected[1] += 1
            expected[2] += 1
            #expect(
              guests[0].pairs[0].enqueue(
                TestFrame.make(
                  to: .broadcast, from: .station(0), sequence: next, length: length)))
          case let to:
            numbers[to] = next + 1
            expected[to] += 1
            #expect(
              guests[0].pairs[0].enqueue(
                TestFrame.make(
                  to: .station(to), from: .station(0), sequence: next, length: length)))
          }
        }
        // One publication: the worker finds all of them at once.
        guests[0].pairs[0].flush()
        guests[0].settle()
        for index in 1...2 {
          for frame in guests[index].collect() { checkers[index].accept(frame) }
        }
      }
      for index in 1...2 {
        #expect(checkers[index].reordered == 0 && checkers[index].corrupt == 0)
        #expect(checkers[index].received == expected[index])
      }
      bench.expectBalance(.named(guests))
    }

    static let lengths = [
      42, 43, 59, 60, 61, 64, 127, 128, 1500, 1514, 1518, 2035, 2036, 2037, 4095, 4096, 4097, 9000,
      16_383, 40_000, 65_535, 65_549, 65_557, 65_558,
    ]

    @Test("Frames of every length up to the longest arrive whole, over merged buffers")
    func everyLength() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.transmitBufferLength = 12 + 65_558
      options.ringSize = 64
      let guests = try bench.guests(2, options)
      try introduce(guests)
      for (sequence, length) in Self.lengths.enumerated() {
        for layout in [
          QueuePair.TransmitLayout(), .init(pieces: 2), .init(pieces: 7),
          .init(pieces: 8, indirect: true),
        ] {
          guests[0].pairs[0].layout = layout
          let frame = TestFrame.make(
            to: .station(1), from: .station(0), sequence: UInt64(sequence), length: length)
          try guests[0].deliver(frame)
          let received = guests[1].pairs[0].receiveWithHeader()
          #expect(received?.frame == frame, "\(length) bytes in \(layout)")
          #expect(received?.buffers == (length + 12 + 2047) / 2048)
        }
      }
      bench.expectBalance(.named(guests))
    }

    @Test("Frames shorter than a test frame: 14 to 41 bytes")
    func shortFrames() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      try introduce(guests)
      for length in 14...41 {
        for segments in [1, 2, 3, 5] {
          guests[0].pairs[0].layout = .init(pieces: segments)
          let frame = EthernetFrame.make(
            to: .station(1), from: .station(0), payload: [UInt8](1...60), length: length)
          try guests[0].deliver(frame)
          #expect(guests[1].collect() == [frame], "\(length) bytes in \(segments)")
        }
      }
      bench.expectBalance(.named(guests))
    }
  }
}
