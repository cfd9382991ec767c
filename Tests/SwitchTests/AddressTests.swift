import ControlAPI
import Switch
import Testing
import VirtioDriver

extension SwitchTests {
  @Suite struct AddressTests {
    @Test("An address that shows up elsewhere is served there from the next frame on (E65)")
    func moves() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      let roamer = Address.station(77)
      try introduce(guests)
      for round in 0..<6 {
        let home = 1 + round % 2
        try guests[home].announce(roamer)
        for guest in guests { _ = guest.collect() }
        #expect(bench.place(of: roamer) == "g\(home)")
        let frame = TestFrame.make(to: roamer, from: .station(0), sequence: UInt64(round))
        try guests[0].deliver(frame)
        #expect(guests[home].collect() == [frame])
        #expect(guests[3 - home].collect() == [])
      }
      #expect(bench.fabric.stats().macTable.moved == 5)
      bench.expectBalance(.named(guests))
    }

    @Test(
      "An address that shows up elsewhere in the middle of a burst is served there from then on")
    func movesWithinABurst() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      try introduce(guests)
      // Port 0 sends to station 1, which then speaks there itself, to its old place and to itself.
      let frames = [
        TestFrame.make(to: .station(1), from: .station(0), sequence: 1),
        TestFrame.make(to: .station(1), from: .station(1), sequence: 2),
        TestFrame.make(to: .station(1), from: .station(0), sequence: 3),
        TestFrame.make(to: .station(2), from: .station(0), sequence: 4),
      ]
      for frame in frames { #expect(guests[0].pairs[0].enqueue(frame)) }
      guests[0].pairs[0].flush()
      guests[0].settle()
      #expect(guests[1].collect() == [frames[0]] && guests[2].collect() == [frames[3]])
      #expect(try bench.port("g0").received.drops == ["hairpin": 2])
      bench.expectBalance(.named(guests))
    }

    @Test("An address that is silent ages away and is flooded to again; one that speaks stays")
    func ageing() throws {
      let bench = try Bench(macAge: 1)
      let guests = try bench.guests(3)
      // On a busy machine a second may be over before anybody has looked.
      let learned = eventually {
        _ = guests[1].send(
          TestFrame.make(to: .broadcast, from: .station(1), stream: 0xFFFF, sequence: 0))
        return bench.place(of: .station(1)) == "g1"
      }
      #expect(learned)
      guests[1].settle()
      // Station 0 goes on speaking until station 1 is forgotten.
      let forgotten = eventually {
        _ = guests[0].send(
          TestFrame.make(to: Address(0x0180_c200_0001), from: .station(0), sequence: 0))
        return bench.place(of: .station(1)) == nil
      }
      #expect(forgotten)
      let kept = eventually {
        _ = guests[0].send(
          TestFrame.make(to: Address(0x0180_c200_0001), from: .station(0), sequence: 0))
        return bench.place(of: .station(0)) == "g0"
      }
      #expect(kept)
      guests[0].settle()
      for guest in guests { _ = guest.collect() }
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 1)
      try guests[0].deliver(frame)
      #expect(guests[1].collect() == [frame] && guests[2].collect() == [frame])
      let table = bench.fabric.stats().macTable
      #expect(table.aged >= 1 && table.learned >= 2)
      bench.expectBalance(.named(guests))
    }

    @Test("The addresses of a port go with it, and the port's number may be another's")
    func removal() throws {
      let bench = try Bench()
      var guests = try bench.guests(3)
      try introduce(guests)
      try bench.fabric.removePort(named: "g1")
      #expect(bench.fabric.macs().map(\.port) == ["g0", "g2"])
      // A new port takes the free number; what was known of the old one must not be known of it.
      guests[1] = try bench.attach("new")
      #expect(bench.fabric.macs().map(\.port) == ["g0", "g2"])
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 1)
      try guests[0].deliver(frame)
      #expect(guests[1].collect() == [frame] && guests[2].collect() == [frame])
      bench.expectBalance()
    }

    @Test("With its front-end gone a port's addresses are forgotten")
    func disconnection() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      try introduce(guests)
      guests[1].disconnect()
      #expect(eventually { bench.place(of: .station(1)) == nil })
      let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: 1)
      try guests[0].deliver(frame)
      #expect(guests[2].collect() == [frame])
      bench.expectBalance()
    }

    @Test(
      "SEND_RARP makes the address known, here and to whoever is on another port (E92)",
      arguments: [1, 2])
    func rarp(_ workers: Int) throws {
      let bench = try Bench(workers: workers)
      let guests = try bench.guests(3)
      for round in 1...3 {
        try guests[2].frontEnd.sendRARP(.station(42))
        #expect(bench.place(of: .station(42)) == "g2")
        // RFC 903, and a guest may be a bridge that has to learn from it.
        for guest in guests[0...1] {
          var heard: [[UInt8]] = []
          #expect(
            eventually {
              heard += guest.collect()
              return !heard.isEmpty
            })
          #expect(heard.count == 1)
          let frame = try #require(heard.first)
          #expect(frame.count == 60)
          #expect(Array(frame[0..<6]) == [UInt8](repeating: 0xFF, count: 6))
          #expect(Array(frame[6..<12]) == Address.station(42).bytes)
          #expect(Array(frame[12..<22]) == [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3])
        }
        // Who is announced hears nothing of it, and has sent it.
        #expect(guests[2].collect() == [])
        #expect(eventually { bench.fabric.port(named: "g2")?.received.frames == UInt64(round) })
      }
      let frame = TestFrame.make(to: .station(42), from: .station(0), sequence: 1)
      try guests[0].deliver(frame)
      #expect(guests[2].collect() == [frame] && guests[1].collect() == [])
      // No station has a group address.
      try guests[2].frontEnd.sendRARP(.broadcast)
      #expect(
        eventually { bench.fabric.port(named: "g2")?.received.drops == ["invalid_source": 1] })
      #expect(bench.fabric.macs().count == 2)
      #expect(guests[0].collect() == [] && guests[1].collect() == [])
      bench.expectBalance()
      // With its port it goes, and what it stood on.
      try bench.fabric.removePort(named: "g2")
      bench.expectBalance()
    }

    @Test("A guest that invents addresses displaces its own; the others' frames go to nobody else")
    func abuse() throws {
      let bench = try Bench(macEntries: 256, macsPerPort: 32)
      let guests = try bench.guests(2)
      let attacker = try bench.attach("attacker")
      let traffic = try SteadyTraffic(guests)
      _ = attacker.collect()
      for number in 0..<Upheaval.share(of: 20_000) {
        let frame = TestFrame.make(
          to: Address(0x0180_c200_0001), from: .station(1000 + number), sequence: 0)
        #expect(try attacker.send(frame, milliseconds: 120_000))
      }
      #expect(traffic.advance(by: 100))
      let results = traffic.stop()
      attacker.settle()
      for result in results {
        #expect(result.missing == 0 && result.reordered == 0 && result.corrupt == 0)
      }
      #expect(attacker.collect() == [], "a frame between the others went to all")
      for index in 0..<2 { #expect(bench.place(of: .station(index)) == "g\(index)") }
      let port = try bench.port("attacker")
      #expect(port.macLimit == 32 && port.macs == 32 && port.learning.moved == 0)
      #expect(port.learning.limited + 32 == port.learning.learned)
      #expect(
        port.learning.learned + port.learning.deferred == UInt64(Upheaval.share(of: 20_000)))
      bench.expectBalance(.named(guests))
    }

    @Test("A port's own limit goes before the switch's")
    func limits() throws {
      let bench = try Bench(macsPerPort: 32)
      try bench.addPort("usual")
      let own = try bench.fabric.addPort(
        PortRequest(name: "own", vhostUser: .init(path: bench.path("own")), macs: 64))
      #expect(own.macLimit == 64)
      #expect(try bench.port("usual").macLimit == 32)
      // As many as the table has room for is no limit.
      let all = try bench.fabric.addPort(
        PortRequest(name: "all", vhostUser: .init(path: bench.path("all")), macs: 1024))
      #expect(all.macLimit == nil)
    }

    @Test("A guest that invents addresses displaces the oldest; the table never grows")
    func flooding() throws {
      let bench = try Bench(macEntries: 64)
      let guests = try bench.guests(2)
      for number in 0..<2000 {
        #expect(
          try guests[0].send(
            TestFrame.make(to: Address(0x0180_c200_0001), from: .station(number), sequence: 0),
            milliseconds: 120_000))
      }
      guests[0].settle()
      let table = bench.fabric.stats().macTable
      #expect(table.capacity == 64 && table.entries <= 64)
      // A burst brings a few new ones; what it brings beyond is not looked at.
      #expect(table.learned + table.deferred == 2000 && table.learned >= 64)
      #expect(table.learned - table.evicted == UInt64(table.entries))
      let frame = TestFrame.make(to: .station(1999), from: .station(5000), sequence: 1)
      try guests[1].deliver(frame)
      #expect(guests[0].collect() == [frame])
      bench.expectBalance(.named(guests))
    }
  }
}
