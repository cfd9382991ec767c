import Linux
import Synchronization
import Testing

@testable import Dataplane

extension ForwardingTable {
  /// A table of memory from an arena, whose hash is the same in every run.
  static func make(
    _ arena: Arena, entries: Int, secret: UInt64 = 0x1234_5678_9ABC_DEF0
  ) throws -> ForwardingTable {
    let capacity = ForwardingTable.capacity(for: entries)
    return ForwardingTable(
      try arena.allocate(bytes: ForwardingTable.byteCount(capacity: capacity)),
      capacity: capacity, secret: secret)
  }

  /// What a worker does with a key that it has heard.
  @discardableResult
  func learn(
    _ key: ForwardingKey, _ destination: Destination, now: UInt64, _ hints: Hints,
    _ roll: AddressRoll? = nil
  ) -> Learned {
    isCurrent(key, destination, now: now, hints)
      ? .nothing : enter(key, destination, now: now, hints, roll)
  }

  /// The same of an address in domain 0, behind a port itself.
  @discardableResult
  func learn(
    _ mac: MACAddress, port: Int, now: UInt64, _ hints: Hints, _ roll: AddressRoll? = nil
  ) -> Learned {
    learn(ForwardingKey(mac), Destination(port: port), now: now, hints, roll)
  }

  /// The port of an address in domain 0, or -1.
  func port(of mac: MACAddress, _ hints: Hints) -> Int {
    let found = destination(of: ForwardingKey(mac), hints)
    return found < 0 ? -1 : Destination(word: UInt32(found)).port
  }
}

extension ForwardingTable.Hints {
  static func make(_ arena: Arena) throws -> Self {
    Self(try arena.allocate(bytes: byteCount))
  }
}

@Suite struct ForwardingTableTests {
  private let arena = Arena(node: 0, allowHuge: false)

  private let hints: ForwardingTable.Hints

  init() throws { hints = try .make(arena) }

  private func table(_ entries: Int = 1024) throws -> ForwardingTable {
    try .make(arena, entries: entries)
  }

  private func mac(_ number: Int) -> MACAddress {
    MACAddress([
      2, 0, UInt8(number >> 24 & 255), UInt8(number >> 16 & 255), UInt8(number >> 8 & 255),
      UInt8(number & 255),
    ])
  }

  @Test func learnsLooksUpMovesAndForgets() throws {
    let table = try table()
    #expect(table.port(of: mac(1), hints) == -1)
    #expect(table.learn(mac(1), port: 3, now: 0, hints) == .learned)
    #expect(table.learn(mac(1), port: 3, now: 0, hints) == .nothing)
    #expect(table.learn(mac(1), port: 3, now: 1, hints) == .refreshed)
    #expect(table.port(of: mac(1), hints) == 3)
    #expect(table.learn(mac(1), port: 1023, now: 1, hints) == .moved)
    #expect(table.port(of: mac(1), hints) == 1023)
    #expect(table.flush(port: 3) == 0)
    #expect(table.flush(port: 1023) == 1)
    #expect(table.port(of: mac(1), hints) == -1)
  }

  @Test("Silent addresses end after `lifetime` stamps, heard ones stay, over the stamp's wrap")
  func ages() throws {
    let table = try table()
    for round in 0..<200 {
      _ = table.learn(mac(1), port: 1, now: table.now, hints)
      if round % 40 == 0 { _ = table.learn(mac(2), port: 2, now: table.now, hints) }
      let age = round % 40
      #expect(table.port(of: mac(1), hints) == 1)
      #expect(table.port(of: mac(2), hints) == (age < 32 ? 2 : -1), "round \(round)")
      let removed = table.age()
      #expect(removed == (age == 31 ? 1 : 0), "round \(round)")
    }
  }

  @Test("It holds nearly as many as it has room for")
  func fills() throws {
    let table = try table(1024)
    for number in 0..<900 { _ = table.learn(mac(number), port: number % 1000, now: 0, hints) }
    let missing = (0..<900).count { table.port(of: mac($0), hints) != $0 % 1000 }
    #expect(missing < 10, "two choices of eight slots hold nearly nine tenths")
    #expect(table.entries().count >= 890)
  }

  @Test("Where it is full the port that has most loses, its longest unseen; the others keep all")
  func crowds() throws {
    let table = try table(256)
    for number in 0..<32 { table.learn(mac(number), port: number % 16, now: 0, hints) }
    for number in 1000..<20_000 {
      let learned = table.learn(mac(number), port: 20 + number % 2, now: 1, hints)
      #expect(learned == .learned || learned == .learned | .evicted)
    }
    #expect(table.entries().count > 240)
    #expect((0..<32).allSatisfy { table.port(of: mac($0), hints) == $0 % 16 })
    // Those who come later find room too, and keep it.
    for number in 100..<132 { table.learn(mac(number), port: number % 16, now: 2, hints) }
    for number in 30_000..<50_000 { table.learn(mac(number), port: 20, now: 3, hints) }
    #expect((0..<32).allSatisfy { table.port(of: mac($0), hints) == $0 % 16 })
    #expect((100..<132).allSatisfy { table.port(of: mac($0), hints) == $0 % 16 })
  }

  @Test("When it is full the longest unseen makes room, and the table does not grow")
  func evicts() throws {
    let table = try table(1024)
    for number in 0..<20_000 { _ = table.learn(mac(number), port: 1, now: 0, hints) }
    let count = table.entries().count
    #expect(count <= table.capacity && count > table.capacity / 2)
    // A hundred newer ones, then a flood of as new ones: of two ages the older goes first.
    for number in 100_000..<100_100 { _ = table.learn(mac(number), port: 2, now: 5, hints) }
    for number in 200_000..<200_300 { _ = table.learn(mac(number), port: 3, now: 5, hints) }
    let kept = (100_000..<100_100).count { table.port(of: mac($0), hints) == 2 }
    #expect(kept >= 95)
  }

  @Test("A worker's hint never outlives what it points to: addresses that move, go and come back")
  func staleHints() throws {
    let table = try table(64)
    let other = try ForwardingTable.Hints.make(arena)
    _ = table.learn(mac(1), port: 1, now: 0, hints)
    #expect(table.port(of: mac(1), other) == 1)
    // Moved by one worker, seen by the other.
    _ = table.learn(mac(1), port: 2, now: 0, hints)
    #expect(table.port(of: mac(1), other) == 2)
    _ = table.flush(port: 2)
    #expect(table.port(of: mac(1), other) == -1 && table.port(of: mac(1), hints) == -1)
    // Its slot may be another's now.
    for number in 2..<200 { _ = table.learn(mac(number), port: 3, now: 1, other) }
    #expect(table.port(of: mac(1), hints) == -1)
    _ = table.learn(mac(1), port: 4, now: 2, other)
    #expect(table.port(of: mac(1), hints) == 4)
  }

  @Test("Workers that learn the same addresses at the same moment leave one entry of each")
  func sameAddressTwice() throws {
    let table = try table(1024)
    let threads = try (0..<4).map { worker in
      let hints = try ForwardingTable.Hints.make(arena)
      return try Linux.Thread(name: "learner") {
        for round in 0..<400 {
          for number in 0..<40 {
            let mac = MACAddress([2, 0, 0, 0, UInt8(round % 250), UInt8(number)])
            _ = table.learn(mac, port: worker, now: 1, hints)
          }
        }
      }
    }
    for thread in threads { thread.join() }
    let entries = table.entries()
    let slots = table.remove { _ in true }
    #expect(slots == entries.count)
  }

  @Test("A destination with an end comes back as it was entered, and counts for its port")
  func ends() throws {
    let table = try table()
    let ends: [UInt16] = [0, 1, 0x1234, 0x8000, 0xFFFF]
    for port in [0, 1, 513, 1023] {
      for (index, end) in ends.enumerated() {
        let key = ForwardingKey(mac(port << 8 | index))
        let destination = Destination(port: port, end: end)
        #expect(destination.port == port && destination.end == end)
        #expect(table.learn(key, destination, now: 63, hints) == .learned)
        #expect(table.learn(key, destination, now: 63, hints) == .nothing)
        #expect(table.destination(of: key, hints) == Int(destination.word))
      }
      #expect(table.count(port: port) == ends.count)
    }
    let listed = table.entries().filter { $0.port == 513 }
    #expect(Set(listed.map(\.destination.end)) == Set(ends))
    // From end to end of one port it moves too, and is still one.
    let key = ForwardingKey(mac(1 << 8))
    #expect(table.learn(key, Destination(port: 1, end: 77), now: 0, hints) == .moved)
    #expect(table.destination(of: key, hints) == 77 << 16 | 1)
    #expect(table.count(port: 1) == ends.count)
  }

  @Test("One address in several domains is as many stations")
  func domains() throws {
    let table = try table(1 << 14)
    let domains: [UInt16] = [0, 1, 2, 0x00FF, 0x0100, 0x8000, 0xFFFF]
    for (port, domain) in domains.enumerated() {
      let key = ForwardingKey(mac(1), domain: domain)
      #expect(key.mac == mac(1) && key.domain == domain)
      #expect(table.destination(of: key, hints) == -1)
      #expect(table.learn(key, Destination(port: port), now: 0, hints) == .learned)
    }
    for (port, domain) in domains.enumerated() {
      #expect(table.destination(of: ForwardingKey(mac(1), domain: domain), hints) == port)
    }
    #expect(table.destination(of: ForwardingKey(mac(1), domain: 3), hints) == -1)
    // Nobody has the address 0, in whichever domain.
    #expect(table.destination(of: ForwardingKey(MACAddress(word: 0), domain: 1), hints) == -1)
    #expect(table.flush(domain: 2) == 1 && table.flush(domain: 2) == 0)
    #expect(table.entries().count == domains.count - 1)
  }

  @Test("Counts of entries are what there is, whatever has happened to them")
  func counts() throws {
    let table = try table(64)
    var random = SplitMix(state: 7)
    for round in 0..<3000 {
      let number = Int(random.next() % 200)
      table.learn(mac(number), port: Int(random.next() % 5), now: table.now, hints)
      switch random.next() % 64 {
      case 0: _ = table.age()
      case 1: _ = table.flush(port: Int(random.next() % 5))
      case 2: table.remove(ForwardingKey(mac(number)))
      default: break
      }
      let entries = table.entries()
      for port in 0..<5 {
        #expect(table.count(port: port) == entries.count { $0.port == port }, "round \(round)")
      }
    }
  }

  @Test("A reader never sees one entry's key with another one's destination")
  func wholeSlots() throws {
    let table = try table(16)
    let keys = (0..<2).map { ForwardingKey(mac($0)) }
    let entries = (0..<2).map { number in
      ForwardingTable.Entry(
        keys[number], Destination(port: number + 1, end: UInt16(number + 1) * 100), stamp: 0)
    }
    // A slot that the first key may lie in, and is looked for by its hint.
    let slot = table.slot(0, table.hash(keys[0]))
    let stop = Atomic<Bool>(false)
    let writers = try (0..<2).map { number in
      try Linux.Thread(name: "writer") {
        while !stop.load(ordering: .relaxed) {
          _ = table.exchange(slot, table.load(slot), entries[number])
        }
      }
    }
    var seen: Set<Int> = []
    hints.set(table.hash(keys[0]), slot: slot)
    for _ in 0..<400_000 {
      let entry = table.load(slot)
      if entry.isEmpty { continue }
      let number = entry.key == keys[0] ? 0 : 1
      if entry.destination != entries[number].destination { seen.insert(-2) }
      seen.insert(table.destination(of: keys[0], hints))
    }
    stop.store(true, ordering: .relaxed)
    for writer in writers { writer.join() }
    #expect(seen.subtracting([-1, Int(entries[0].destination.word)]).isEmpty, "\(seen)")
    #expect(table.count(port: 1) + table.count(port: 2) == 1)
  }

  @Test func addressesReadAsTheyAreWritten() {
    #expect(MACAddress([0x02, 0xA0, 0, 0x0F, 0xFE, 0x10]).description == "02:a0:00:0f:fe:10")
    #expect(MACAddress([1, 0, 0x5E, 0, 0, 1]).isGroup)
    #expect(!MACAddress([2, 0, 0x5E, 0, 0, 1]).isGroup)
    #expect(!MACAddress([0, 0, 0, 0, 0, 0]).isValidSource)
    #expect(!MACAddress([0x01, 0x80, 0xC2, 0, 0, 0]).isReserved)
    #expect((1...15).allSatisfy { MACAddress([0x01, 0x80, 0xC2, 0, 0, UInt8($0)]).isReserved })
    #expect(!MACAddress([0x01, 0x80, 0xC2, 0, 0, 0x10]).isReserved)
    #expect(!MACAddress([0x01, 0x80, 0xC2, 0, 1, 1]).isReserved)
  }
}
