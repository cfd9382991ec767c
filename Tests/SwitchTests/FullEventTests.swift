import ControlAPI
import Glibc
import Linux
import Switch
import Testing
import VirtioDriver

/// Front-ends that fill the eventfds they have given and make them block, so that whoever writes to one waits for
/// ever (HP-08).
extension SwitchTests {
  @Suite struct FullEventTests {
    private func trap(_ event: EventFD) {
      var full: UInt64 = .max - 1
      event.drain()
      #expect(write(event.descriptor.raw, &full, 8) == 8)
      // Shared with whoever holds another descriptor of it.
      #expect(fcntl(event.descriptor.raw, F_SETFL, 0) == 0)
    }

    @Test(
      "Call eventfds that would block hold up no worker", arguments: [(1, false), (2, true)])
    func call(workers: Int, packed: Bool) throws {
      let bench = try Bench(workers: workers)
      var options = GuestPort.Options()
      if packed { options.features.insert(.ringPacked) }
      let guests = try bench.guests(4, options)
      let traffic = try SteadyTraffic([guests[2], guests[3]])
      try guests[0].announce(.station(8))
      let pair = guests[0].pairs[0]
      trap(pair.receiveq.callEvent)
      trap(pair.transmitq.callEvent)
      _ = guests[0].collect()
      let before = try bench.port("g0").queues.map(\.counters.notifications)
      for sequence in 0..<20 as Range<UInt64> {
        _ = pair.receiveq.enableInterrupts()
        _ = pair.transmitq.enableInterrupts()
        try guests[1].deliver(
          TestFrame.make(to: .station(8), from: .station(9), sequence: sequence))
        try guests[0].deliver(
          TestFrame.make(to: .station(9), from: .station(8), sequence: sequence))
        #expect(guests[0].collect().count == 1)
      }
      let after = try bench.port("g0").queues.map(\.counters.notifications)
      #expect(zip(before, after).allSatisfy { $0 < $1 }, "both were signalled: \(after)")
      #expect(traffic.advance(by: UInt64(Upheaval.share(of: 2000))))
      // The counters are as full as they were, or fuller.
      #expect(pair.receiveq.callEvent.drain() >= .max - 1)
      try bench.fabric.removePort(named: "g0")
      #expect(traffic.advance(by: UInt64(Upheaval.share(of: 1000))))
      for result in traffic.stop() {
        #expect(result.missing == 0 && result.corrupt == 0 && result.reordered == 0)
      }
      bench.expectBalance()
    }

    @Test(
      "Call eventfds that thousands watch: no worker goes over them, the port is named, and its driver hears all the same",
      arguments: [1, 2])
    func watched(workers: Int) throws {
      let bench = try Bench(workers: workers)
      var options = GuestPort.Options()
      options.features.remove(.eventIdx)
      let guests = try bench.guests(4, options)
      let traffic = try SteadyTraffic([guests[2], guests[3]])
      try guests[0].announce(.station(8))
      let call = guests[0].pairs[0].receiveq.callEvent
      var watchers: EventWatchers? = try EventWatchers(
        of: call.descriptor, copies: 60, sets: 60)
      #expect(watchers?.count == 3600)
      func faults() throws -> UInt64 { try bench.port("g0").faults["slow_interrupts"] ?? 0 }
      func interrupt(_ sequence: UInt64) throws {
        _ = guests[0].pairs[0].receiveq.enableInterrupts()
        call.drain()
        try guests[1].deliver(
          TestFrame.make(to: .station(8), from: .station(9), sequence: sequence))
        #expect(try Poller.wait([(call.descriptor.raw, .read)], milliseconds: 60_000)[0])
        #expect(guests[0].collect().count == 1)
      }
      _ = guests[0].collect()
      for sequence in 0..<20 as Range<UInt64> { try interrupt(sequence) }
      #expect(eventually { (try? faults()) == 1 })
      // An interrupt that is slow is one all the same.
      for sequence in 20..<40 as Range<UInt64> { try interrupt(sequence) }
      #expect(traffic.advance(by: UInt64(Upheaval.share(of: 2000))))
      watchers = nil
      _ = watchers
      for sequence in 40..<60 as Range<UInt64> { try interrupt(sequence) }
      try bench.fabric.removePort(named: "g0")
      #expect(traffic.advance(by: UInt64(Upheaval.share(of: 1000))))
      for result in traffic.stop() {
        #expect(result.missing == 0 && result.corrupt == 0 && result.reordered == 0)
      }
      bench.expectBalance()
    }

    @Test("An error eventfd that would block holds up neither housekeeping nor its port")
    func error() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      let full = try EventFD()
      try guests[0].frontEnd.setRingError(1, full.descriptor)
      trap(full)
      let other = try EventFD()
      try guests[1].frontEnd.setRingError(1, other.descriptor)
      other.drain()
      for guest in guests {
        guest.pairs[0].transmitq.availIndex = guest.pairs[0].transmitq.position &+ 9000
        guest.pairs[0].transmitq.kick()
      }
      // Whoever looks after broken rings has gone on to the other.
      #expect(eventually { other.drain() > 0 })
      #expect(eventually { bench.fabric.port(named: "g0")?.lastError?.contains("ring 1") == true })
      // The port's own thread signals it too, for a ring that does not start.
      #expect(throws: (any Error).self) {
        try guests[0].frontEnd.setRingAddresses(1, descriptors: 16, used: 16, avail: 16)
      }
      guests[0].disconnect()
      let fresh = try bench.guest("g0")
      try fresh.deliver(TestFrame.make(to: .broadcast, from: .station(0), sequence: 1))
      #expect(eventually { guests[1].collect().count == 1 })
    }
  }
}
