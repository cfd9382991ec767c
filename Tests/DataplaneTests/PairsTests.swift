import Testing

@testable import Dataplane

/// What a worker remembers of pairs of addresses is never older than the table.
@Suite struct PairsTests {
  private let bench: Bench
  private let hints: ForwardingTable.Hints
  private let table: ForwardingTable

  init() throws {
    bench = try Bench()
    hints = try .make(bench.arena)
    table = try .make(bench.arena, entries: 4096)
  }

  private func key(_ number: Int) -> ForwardingKey {
    ForwardingKey(MACAddress([2, 0, 0, 0, UInt8(number >> 8), UInt8(number & 255)]))
  }

  private func header(to: Int, from: Int) -> EthernetHeader {
    let bytes = frame(
      to: [2, 0, 0, 0, UInt8(to >> 8), UInt8(to & 255)],
      from: [2, 0, 0, 0, UInt8(from >> 8), UInt8(from & 255)])
    return bytes.withUnsafeBytes {
      EthernetHeader(
        first: $0.loadUnaligned(as: UInt64.self),
        second: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
  }

  private func view(port: Int = 1, domain: UInt16 = 0, now: UInt64 = 0) -> UInt64 {
    ForwardingTable.Pairs.view(port: port, domain: domain, now: now)
  }

  private func find(_ count: Int, view: UInt64) -> ForwardingTable.Pairs.Found {
    hints.pairs.find(
      bench.burst.headers, bench.burst.destinations, count, view: view,
      generation: table.generation, table)
  }

  @Test("Nothing is known before it was told, not even of the address 0")
  func empty() {
    for view in [view(port: 0), view()] {
      bench.burst.headers[0] = EthernetHeader()
      #expect(!find(1, view: view).isComplete)
      #expect(bench.burst.destinations[0] == Burst.Destination.unknown)
    }
  }

  @Test("An answer is that for its two addresses, port, domain and stamp")
  func answers() {
    for number in 0..<64 {
      bench.burst.headers[number] = header(to: 1000 + number, from: number)
      hints.pairs.set(
        bench.burst.headers[number], view: view(), generation: table.generation,
        UInt32(number & 1), table)
    }
    let found = find(64, view: view())
    #expect(found.isComplete && !found.isAlike)
    for number in 0..<64 { #expect(bench.burst.destinations[number] == number & 1) }
    for other in [view(port: 2), view(domain: 1), view(now: 1), view(port: 0)] {
      #expect(!find(64, view: other).isComplete)
      for number in 0..<64 {
        #expect(bench.burst.destinations[number] == Burst.Destination.unknown)
      }
    }
    bench.burst.headers[0] = header(to: 1000, from: 1)
    bench.burst.headers[1] = header(to: 1001, from: 0)
    bench.burst.headers[2] = header(to: 2, from: 1002)
    #expect(!find(3, view: view()).isComplete)
    for number in 0..<3 { #expect(bench.burst.destinations[number] == Burst.Destination.unknown) }
  }

  @Test("No two ports, domains and stamps have one view")
  func views() {
    var views: Set<UInt64> = []
    for port in [0, 1, 2, 1023] {
      for domain: UInt16 in [0, 1, 1024, .max] {
        for now: UInt64 in [0, 1, 63] {
          let view = view(port: port, domain: domain, now: now)
          #expect(views.insert(view).inserted && view & 0xFFFF_FFFF == 0)
        }
      }
    }
  }

  @Test("More pairs than there are places: none is another's")
  func crowded() {
    for round in 0..<200 {
      for number in 0..<64 {
        bench.burst.headers[number] = header(to: 64 * round + number, from: number)
      }
      _ = find(64, view: view())
      for number in 0..<64 {
        #expect(bench.burst.destinations[number] == Burst.Destination.unknown)
        hints.pairs.set(
          bench.burst.headers[number], view: view(), generation: table.generation,
          UInt32(64 * round + number), table)
      }
      _ = find(64, view: view())
      var known = 0
      for number in 0..<64 where bench.burst.destinations[number] != Burst.Destination.unknown {
        #expect(bench.burst.destinations[number] == 64 * round + number)
        known += 1
      }
      #expect(known > 32)
    }
  }

  @Test(
    "Addresses that are new change nothing; one that moves, goes or makes room changes the generation"
  )
  func generations() throws {
    var last = table.generation
    func isSame() -> Bool {
      defer { last = table.generation }
      return last == table.generation
    }
    for number in 0..<100 { table.learn(key(number), Destination(port: 1), now: 0, hints) }
    #expect(isSame())
    for number in 0..<100 { table.learn(key(number), Destination(port: 1), now: 1, hints) }
    #expect(isSame(), "a newer stamp alone")
    table.learn(key(5), Destination(port: 2), now: 1, hints)
    #expect(!isSame(), "moved")
    table.learn(key(5), Destination(port: 2, end: 3), now: 1, hints)
    #expect(!isSame(), "moved to another end")
    #expect(table.remove(key(6)) && !isSame(), "removed")
    try table.pin(key(7), Destination(port: 9))
    #expect(!isSame(), "pinned elsewhere")
    #expect(table.flush(port: 2) == 1 && !isSame())
    table.setClock(60)
    #expect(table.age() > 0 && !isSame())
    for number in 0..<60_000 {
      table.learn(
        ForwardingKey(word: 0x0200_0000_0000 | UInt64(number) << 8), Destination(port: 3), now: 2,
        hints)
    }
    #expect(!isSame(), "evicted")
  }

  // ---- Through a turn ----

  /// Three ports, whose stations send bursts of frames that differ.
  private struct Bed {
    let plane: Dataplane
    let ports: [Int]
    let receive: [RingMemory]
    let transmit: [RingMemory]

    init() throws {
      plane = try Dataplane(
        .init(workers: [.init(cpu: nil, node: 0)], hugepages: false, threads: false))
      let plane = plane
      ports = try (0..<3).map { _ in try plane.addPort(pairs: 1) }
      receive = try (0..<3).map { _ in try RingMemory(size: 256) }
      transmit = try (0..<3).map { _ in try RingMemory(size: 64, bytes: 1 << 22) }
      for (index, port) in ports.enumerated() {
        let ring = receive[index]
        let place = ring.allocate(2048)
        for head in 0..<256 {
          ring.describe(head, address: ring.address(place), length: 2048, flags: 2)
          ring.offer(UInt16(head))
        }
        try plane.startRing(0, of: port, ring.setup(), memory: ring.memory, worker: 0)
        let other = transmit[index]
        try plane.startRing(1, of: port, other.setup(), memory: other.memory, worker: 0)
      }
    }

    /// Sends a burst from a port, of frames between stations; returns how many each port has received.
    func send(_ port: Int, _ pairs: [(from: UInt8, to: UInt8)]) -> [Int] {
      let before = receive.map { Int($0.usedIndex) }
      for (index, pair) in pairs.enumerated() {
        transmit[port].send(
          frame(to: [2, 0, 0, 0, 0, pair.to], from: [2, 0, 0, 0, 0, pair.from]),
          descriptor: index)
      }
      #expect(plane.turn() == pairs.count)
      return zip(receive, before).map { Int($0.usedIndex) - $1 }
    }

    func drops(_ port: Int, _ reason: DropReason) -> UInt64 {
      plane.counters(port: ports[port], queue: 1)?.drops[reason] ?? 0
    }
  }

  @Test("A station that moves, or is forgotten, gets what is sent to it where it is from then on")
  func moves() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    // Stations 10, 11 on port 0; 20, 21 on port 1; 30 on port 2.
    _ = bed.send(1, [(20, 10), (21, 10)])
    _ = bed.send(2, [(30, 10), (30, 11)])
    let burst: [(from: UInt8, to: UInt8)] = [(10, 20), (11, 21), (10, 30)]
    for _ in 0..<4 { #expect(bed.send(0, burst) == [0, 2, 1]) }
    // 20 is heard on port 2.
    _ = bed.send(2, [(20, 10), (30, 11)])
    for _ in 0..<3 { #expect(bed.send(0, burst) == [0, 1, 2]) }
    // In one burst with frames to it, a station moves to the port they come from.
    #expect(bed.send(0, [(10, 21), (11, 30), (30, 21), (11, 30), (10, 21)]) == [0, 3, 1])
    #expect(bed.drops(0, .hairpin) == 1)
    #expect(bed.send(0, burst) == [0, 1, 1])
    #expect(bed.drops(0, .hairpin) == 2)
    // Somebody else's frames say that 10 is elsewhere; its next one brings it back, and is counted.
    _ = bed.send(1, [(10, 21), (21, 11)])
    let moved = bed.plane.learning(port: bed.ports[0]).counts.moved
    _ = bed.send(0, burst)
    #expect(bed.plane.learning(port: bed.ports[0]).counts.moved == moved + 1)
    // A port that is down.
    #expect(bed.plane.stopRing(0, of: bed.ports[1]) != nil)
    let down = bed.drops(0, .destinationDown)
    _ = bed.send(0, burst)
    #expect(bed.drops(0, .destinationDown) == down + 1)
  }
}
