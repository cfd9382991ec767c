import ControlAPI
import Switch
import Synchronization
import Testing
import VirtioDriver

/// Several queue pairs as a guest uses them: enabled and disabled while frames flow.
extension SwitchTests {
  @Suite struct SteeringTests {
    /// Flow n is between these two stations: the first behind the port of one pair, the other behind that of eight.
    private func ends(_ flow: Int) -> (one: Address, eight: Address) {
      (.station(100 + flow), .station(200 + flow))
    }

    /// Ports "one" and "eight" of as many pairs, with a guest each.
    private func bench(workers: Int, enabled: Int) throws -> (Bench, GuestPort, GuestPort) {
      let bench = try Bench(workers: workers)
      let one = try bench.attach("one")
      var options = GuestPort.Options()
      options.queuePairs = 8
      options.enabledPairs = enabled
      let eight = try bench.attach("eight", options)
      for flow in 0..<8 {
        try one.announce(ends(flow).one)
        try eight.announce(ends(flow).eight)
      }
      _ = (one.collect(), eight.collect())
      return (bench, one, eight)
    }

    /// Sends a frame of each flow to the guest of eight pairs and returns the pairs it came on.
    private func places(_ one: GuestPort, _ eight: GuestPort) throws -> [Int] {
      try (0..<8).map { flow in
        let frame = TestFrame.make(to: ends(flow).eight, from: ends(flow).one, sequence: 1)
        try one.deliver(frame)
        let came = eight.pairs.indices.filter { eight.pairs[$0].receive() == frame }
        #expect(came.count == 1)
        return came.first ?? -1
      }
    }

    @Test(
      "Until more are enabled frames come on receiveq1 alone (E33); disabled ones get none (E34)",
      arguments: [1, 2])
    func enabling(workers: Int) throws {
      let (bench, one, eight) = try bench(workers: workers, enabled: 1)
      #expect(try places(one, eight) == [0, 0, 0, 0, 0, 0, 0, 0])
      for count in [4, 8, 2, 1, 8] {
        try eight.enablePairs(count)
        for flow in 0..<8 {
          let frame = TestFrame.make(to: ends(flow).one, from: ends(flow).eight, sequence: 2)
          try eight.deliver(frame, queue: flow)
          #expect(one.collect() == (flow < count ? [frame] : []))
        }
        let places = try places(one, eight)
        #expect(places.allSatisfy { $0 < count })
        // 5.1.9.5.6: on the pair of the transmitq that the flow used (E35).
        for flow in 0..<count { #expect(places[flow] == flow) }
      }
      #expect(bench.drops("queue_disabled") == 4 + 6 + 7)
      let port = try bench.port("eight")
      #expect(port.queues[15].counters.drops == ["queue_disabled": 3])
      bench.expectBalance([("one", one), ("eight", eight)])
    }

    @Test(
      "Pairs come and go under traffic: what is lost is named, and every flow stays in order (E34, E35, E36)",
      arguments: Upheaval.isReduced ? [2] : [1, 2])
    func underTraffic(workers: Int) throws {
      let (bench, one, eight) = try bench(workers: workers, enabled: 1)
      let progress = (0..<16).map { _ in StreamProgress() }
      // Streams 0 to 7 go to the guest of eight pairs, 8 to 15 come from it, each on a pair of its own.
      func streams(_ range: Range<Int>) -> [UInt32: StreamProgress] {
        Dictionary(uniqueKeysWithValues: range.map { (UInt32($0), progress[$0]) })
      }
      let single = try Station(
        one,
        flows: (0..<8).map { flow in
          .init(
            to: ends(flow).eight, from: ends(flow).one, progress: progress[flow],
            stream: UInt32(flow))
        }, window: 16, lengths: 60...120,
        progress: streams(8..<16))
      let several = try (0..<8).map { flow in
        try Station(
          eight, queue: flow,
          flows: [
            .init(
              to: ends(flow).one, from: ends(flow).eight, progress: progress[8 + flow],
              stream: UInt32(8 + flow))
          ], window: 16, lengths: 60...120,
          progress: streams(0..<8))
      }
      func advance(_ streams: [Int]) -> Bool {
        let marks = streams.map { progress[$0].next.load(ordering: .relaxed) + 20 }
        return eventually {
          zip(streams, marks).allSatisfy { progress[$0].next.load(ordering: .relaxed) >= $1 }
        }
      }
      for count in Upheaval.isReduced ? [1, 8, 3, 8] : [1, 2, 3, 5, 8, 7, 4, 1, 8] {
        try eight.enablePairs(count)
        // Every flow reaches the guest, and those of enabled pairs come from it.
        #expect(advance(Array(0..<8) + (8..<(8 + count))))
      }
      var results = several.map { $0.stop() }
      let alone = single.stop()
      one.settle()
      eight.settle()
      for flow in 0..<8 { Station.receive(eight.pairs[flow], &results[flow]) }
      var rest = Station.Result()
      Station.receive(one.pairs[0], &rest)

      var received = alone.received + rest.received
      #expect(alone.corrupt == 0 && alone.reordered == 0 && rest.reordered == 0)
      for result in results {
        #expect(result.corrupt == 0 && result.reordered == 0)
        received += result.received
      }
      let sent = (alone.sent.values + results.flatMap(\.sent.values)).reduce(0, +)
      let stats = bench.fabric.stats()
      #expect(UInt64(received) + stats.received.dropped + stats.sent.dropped == sent)
      let names = Set(stats.received.drops.keys).union(stats.sent.drops.keys)
      #expect(
        names.isSubset(of: [
          "queue_disabled", "destination_down", "no_receive_buffer", "queue_busy",
          "no_destination",
        ]))
      // Now that all are enabled again, and every flow was sent on its pair, each has it.
      for flow in 0..<8 {
        try eight.deliver(
          TestFrame.make(to: ends(flow).one, from: ends(flow).eight, sequence: 0), queue: flow)
      }
      #expect(try places(one, eight) == Array(0..<8))
      _ = one.collect()
      bench.expectBalance([("one", one), ("eight", eight)])
    }

    @Test(
      "Acknowledgements hop from pair to pair, and a slow receiver sees every flow in order (E35)",
      arguments: [1, 2], [false, true])
    func hopping(workers: Int, packed: Bool) throws {
      let bench = try Bench(workers: workers)
      let one = try bench.attach("one")
      var options = GuestPort.Options()
      options.queuePairs = 4
      options.ringSize = 64
      if packed { options.features.insert(.ringPacked) }
      let several = try bench.attach("several", options)
      for flow in 0..<4 {
        try one.announce(ends(flow).one)
        try several.announce(ends(flow).eight)
      }
      _ = (one.collect(), several.collect())
      var random = DifferentialTests.Random(state: 0x0E35)
      func below(_ bound: UInt64) -> Int { Int(random.next() % bound) }
      var sent = [UInt64](repeating: 0, count: 4)
      var newest = sent
      var places = [Int](repeating: -1, count: 4)
      var (received, reordered, moved) = (0, 0, 0)
      func take(_ pair: Int, most: Int) {
        for _ in 0..<most {
          guard let frame = several.pairs[pair].receive() else { return }
          guard let content = TestFrame.verify(frame) else { continue }
          let flow = Int(content.stream)
          received += 1
          if content.sequence < newest[flow] { reordered += 1 }
          if places[flow] != pair { moved += 1 }
          newest[flow] = content.sequence
          places[flow] = pair
        }
      }
      var drained = ContinuousClock.now
      while received < Upheaval.share(of: 4000) {
        // No frame waits for as long as a flow must be silent to move, however slow the machine is.
        if ContinuousClock.now - drained > .milliseconds(200) {
          for pair in 0..<4 { take(pair, most: .max) }
          drained = .now
        }
        for _ in 0..<below(4) {
          let flow = below(4)
          let frame = TestFrame.make(
            to: ends(flow).eight, from: ends(flow).one, stream: UInt32(flow),
            sequence: sent[flow] + 1)
          if one.send(frame) { sent[flow] += 1 }
        }
        let flow = below(4)
        let answer = TestFrame.make(to: ends(flow).one, from: ends(flow).eight, sequence: 0)
        _ = several.send(answer, queue: below(4))
        take(below(4), most: below(8))
        while one.receive() != nil {}
      }
      #expect(reordered == 0)
      // They do follow.
      #expect(moved > 4)
      bench.expectBalance()
    }
  }
}
