import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// A worker without work sleeps, and the first frame afterwards arrives all the same.
extension SwitchTests {
  @Suite struct IdleTests {
    private func isAsleep(_ bench: Bench) -> Bool {
      bench.fabric.workers().allSatisfy { $0.state == "sleeping" }
    }

    @Test("With kicks, with and without the event index", arguments: [true, false], [1, 3])
    func kicks(_ eventIndex: Bool, _ workers: Int) throws {
      let bench = try Bench(workers: workers)
      var options = GuestPort.Options()
      if !eventIndex { options.features.remove(.eventIdx) }
      let guests = try bench.guests(2, options)
      try introduce(guests)
      for sequence in 0..<UInt64(Upheaval.share(of: 200)) {
        if sequence % 4 == 0 { #expect(eventually { isAsleep(bench) }) }
        let from = Int(sequence % 2)
        let frame = TestFrame.make(
          to: .station(1 - from), from: .station(from), sequence: sequence)
        #expect(guests[from].send(frame))
        #expect(try guests[1 - from].receive(milliseconds: 120_000) == frame)
      }
      // Nobody kicks a worker that is polling, or not for each frame.
      #expect(bench.fabric.workers().allSatisfy { $0.sleeps > 0 })
      guests[0].settle()
      bench.expectBalance(.named(guests))
    }

    @Test("Without a kick descriptor: the driver polls, and so does the worker (E78)")
    func polling() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      try introduce(guests)
      try guests[0].frontEnd.setRingKick(1, nil)
      for sequence in 0..<20 as Range<UInt64> {
        #expect(eventually { isAsleep(bench) })
        #expect(
          guests[0].pairs[0].enqueue(
            TestFrame.make(to: .station(1), from: .station(0), sequence: sequence)))
        guests[0].pairs[0].transmitq.publish()
        #expect(try guests[1].receive(milliseconds: 120_000) != nil)
      }
      bench.expectBalance(.named(guests))
    }

    @Test("A busy worker never sleeps")
    func busy() throws {
      let bench = try Bench(busy: true)
      let guests = try bench.guests(2)
      try introduce(guests)
      let turns = bench.fabric.workers()[0].turns
      #expect(eventually { bench.fabric.workers()[0].turns > turns + 20_000 })
      #expect(bench.fabric.workers()[0].sleeps == 0)
      #expect(bench.fabric.workers()[0].state == "polling")
    }

    @Test("A kick without a reason, or a thousand of them, does no harm (E21)")
    func spuriousKicks() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      try introduce(guests)
      for _ in 0..<1000 {
        guests[0].pairs[0].transmitq.kick()
        guests[0].pairs[0].receiveq.kick()
      }
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 1)
      try guests[0].deliver(frame)
      #expect(guests[1].collect() == [frame])
      #expect(eventually { isAsleep(bench) })
    }
  }
}
