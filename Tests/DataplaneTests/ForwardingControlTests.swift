import Testing

@testable import Dataplane

/// What control enters stays where it was entered, whatever frames say.
@Suite struct ForwardingControlTests {
  private let arena = Arena(node: 0, allowHuge: false)
  private let hints: ForwardingTable.Hints
  private let table: ForwardingTable

  init() throws {
    hints = try .make(arena)
    table = try .make(arena, entries: 16)
  }

  private func key(_ number: Int, domain: UInt16 = 0) -> ForwardingKey {
    ForwardingKey(
      MACAddress([2, 0, 0, 0, UInt8(number >> 8 & 255), UInt8(number & 255)]), domain: domain)
  }

  /// The first keys that may lie in the same places as the first of all.
  private func colliding(_ count: Int) -> [ForwardingKey] {
    func places(_ key: ForwardingKey) -> [Int] {
      [table.slot(0, table.hash(key)), table.slot(8, table.hash(key))]
    }
    return Array((0...).lazy.map { key($0) }.filter { places($0) == places(key(0)) }.prefix(count))
  }

  private func port(of key: ForwardingKey) -> Int { table.destination(of: key, hints) & 0xFFFF }

  @Test("An ageless entry is neither moved nor aged nor flushed, and its station is known at once")
  func ageless() throws {
    let destination = Destination(port: 3, end: 9)
    table.learn(key(1), Destination(port: 1), now: 0, hints)
    try table.pin(key(1), destination)
    #expect(table.count(port: 1) == 0 && table.count(port: 3) == 1)
    #expect(table.learn(key(1), Destination(port: 1), now: 0, hints) == .refused)
    #expect(table.learn(key(1), Destination(port: 3), now: 0, hints) == .refused)
    for _ in 0..<100 {
      #expect(table.age() == 0)
      // Its station's first frame in a while is looked at out of line, and teaches nothing; the next is not.
      #expect(table.learn(key(1), destination, now: table.now, hints) == .nothing)
      #expect(table.isCurrent(key(1), destination, now: table.now, hints))
    }
    #expect(table.flush(port: 3) == 0 && table.flush(domain: 0) == 0)
    #expect(
      table.entries() == [
        .init(key: key(1), destination: destination, age: 0, isAgeless: true, isLocked: false)
      ])
    #expect(table.flush(port: 3, ageless: true) == 1)
    #expect(table.entries().isEmpty && table.count(port: 3) == 0)
  }

  @Test("A locked entry ages like any other, and until then frames from elsewhere do not move it")
  func locked() throws {
    try table.pin(key(1), Destination(port: 3), ageless: false, locked: true)
    #expect(table.learn(key(1), Destination(port: 1), now: 0, hints) == .refused)
    for round in 0..<40 {
      #expect(table.age() == 0)
      #expect(
        table.learn(key(1), Destination(port: 3), now: table.now, hints) == .refreshed,
        "round \(round)")
    }
    #expect(table.learn(key(1), Destination(port: 1), now: table.now, hints) == .refused)
    #expect(table.entries().map(\.isLocked) == [true])
    for _ in 0..<31 { #expect(table.age() == 0) }
    #expect(table.age() == 1)
    #expect(table.learn(key(1), Destination(port: 1), now: table.now, hints) == .learned)
    try table.pin(key(1), Destination(port: 3), ageless: false, locked: true)
    #expect(table.flush(port: 3) == 1)
  }

  @Test("What is pinned last holds, in each domain by itself")
  func again() throws {
    try table.pin(key(1), Destination(port: 3))
    try table.pin(key(1, domain: 5), Destination(port: 4))
    try table.pin(key(1), Destination(port: 6, end: 2), ageless: false)
    #expect(table.destination(of: key(1), hints) == 2 << 16 | 6)
    #expect(port(of: key(1, domain: 5)) == 4)
    // Neither ageless nor locked: as if it had been learned.
    #expect(table.learn(key(1), Destination(port: 1), now: 0, hints) == .moved)
    #expect(table.remove(key(1)) && !table.remove(key(1)))
    #expect(!table.remove(.none))
    #expect(table.flush(domain: 5) == 0 && table.flush(domain: 5, ageless: true) == 1)
    #expect(table.entries().isEmpty)
  }

  @Test("There is room as long as anything else can go, and a reason when there is none")
  func room() throws {
    let keys = colliding(60)
    let places = Set((0..<16).map { table.slot($0, table.hash(keys[0])) }).count
    for (index, key) in keys[0..<places].enumerated() {
      table.learn(key, Destination(port: index), now: 0, hints)
    }
    for key in keys[20..<20 + places] { try table.pin(key, Destination(port: 7)) }
    #expect(throws: ForwardingTable.PinFailure.noRoom) {
      try table.pin(keys[50], Destination(port: 7))
    }
    #expect(table.learn(keys[51], Destination(port: 8), now: 1, hints) == .crowded)
    #expect(table.learn(keys[51], Destination(port: 7), now: 1, hints) == .crowded)
    #expect(keys[20..<20 + places].allSatisfy { port(of: $0) == 7 })
    #expect(table.count(port: 7) == places && table.entries().count == places)
    // One that is there may be changed.
    try table.pin(keys[20], Destination(port: 9))
    #expect(port(of: keys[20]) == 9)
    #expect(throws: ForwardingTable.PinFailure.notStation) {
      try table.pin(ForwardingKey(MACAddress(word: 0), domain: 4), Destination(port: 1))
    }
    #expect(throws: ForwardingTable.PinFailure.notStation) {
      try table.pin(ForwardingKey(MACAddress([1, 0, 0, 0, 0, 1])), Destination(port: 1))
    }
  }

  @Test("A pinned entry is on no roll, even one that was on it before")
  func rolls() throws {
    let roll = AddressRoll(try arena.allocate(bytes: AddressRoll.byteCount(limit: 2)), limit: 2)
    let here = Destination(port: 3)
    table.learn(key(1), here, now: 0, hints, roll)
    try table.pin(key(1), here, ageless: false, locked: true)
    for number in 2..<20 {
      let learned = table.learn(key(number), here, now: 1, hints, roll)
      #expect(learned == (number < 4 ? .learned : .learned | .limited), "\(number)")
    }
    #expect(port(of: key(1)) == 3)
    #expect(table.count(port: 3) == 3)
  }
}
