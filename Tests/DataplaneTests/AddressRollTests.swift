import Linux
import Synchronization
import Testing

@testable import Dataplane

/// A port has no more addresses than it may have, whoever enters them.
@Suite struct AddressRollTests {
  private let arena = Arena(node: 0, allowHuge: false)
  private let hints: ForwardingTable.Hints
  private let table: ForwardingTable

  init() throws {
    hints = try .make(arena)
    table = try .make(arena, entries: 1024)
  }

  private func roll(_ limit: Int) throws -> AddressRoll {
    AddressRoll(try arena.allocate(bytes: AddressRoll.byteCount(limit: limit)), limit: limit)
  }

  private func mac(_ number: Int) -> MACAddress {
    MACAddress([2, 0, 0, UInt8(number >> 16 & 255), UInt8(number >> 8 & 255), UInt8(number & 255)])
  }

  /// The numbers of the addresses on a port.
  private func known(_ numbers: Range<Int>, port: Int) -> [Int] {
    numbers.filter { table.port(of: mac($0), hints) == port }
  }

  @Test("The limit holds, and who came first goes first", arguments: [1, 2, 7, 8, 9, 100])
  func oldestFirst(limit: Int) throws {
    let roll = try roll(limit)
    for number in 0..<400 {
      let learned = table.learn(mac(number), port: 3, now: 0, hints, roll)
      #expect(learned == (number < limit ? .learned : .learned | .limited))
      #expect(known(0..<400, port: 3) == Array(max(0, number + 1 - limit)...number))
    }
    #expect(table.entries().count == limit)
  }

  @Test("An address that has spoken since outlives those that were heard once")
  func secondChance() throws {
    let roll = try roll(16)
    for number in 0..<16 { table.learn(mac(number), port: 3, now: 0, hints, roll) }
    #expect(table.learn(mac(3), port: 3, now: 1, hints, roll) == .refreshed)
    for number in 16..<24 { table.learn(mac(number), port: 3, now: 1, hints, roll) }
    #expect(known(0..<24, port: 3) == [3] + Array(9..<24))
  }

  @Test("An address that moves counts where it is, and no more where it was")
  func moves() throws {
    let first = try roll(8)
    let second = try roll(4)
    for number in 0..<8 { table.learn(mac(number), port: 1, now: 0, hints, first) }
    for number in 0..<6 {
      #expect(
        table.learn(mac(number), port: 2, now: 0, hints, second)
          == (number < 4 ? .moved : .moved | .limited))
    }
    #expect(known(0..<8, port: 2) == [2, 3, 4, 5])
    #expect(known(0..<8, port: 1) == [6, 7])
    // There is room for six again.
    for number in 10..<16 {
      #expect(table.learn(mac(number), port: 1, now: 0, hints, first) == .learned)
    }
    #expect(known(0..<16, port: 1) == [6, 7, 10, 11, 12, 13, 14, 15])
  }

  @Test("One address in two domains is two entries, and who came first goes first")
  func domains() throws {
    let roll = try roll(4)
    let keys = (0..<8).map { ForwardingKey(mac(1), domain: UInt16($0)) }
    for (number, key) in keys.enumerated() {
      let learned = table.learn(key, Destination(port: 3), now: 0, hints, roll)
      #expect(learned == (number < 4 ? .learned : .learned | .limited))
      let known = keys.indices.filter { table.destination(of: keys[$0], hints) == 3 }
      #expect(known == Array(max(0, number - 3)...number))
    }
  }

  @Test("A word names a key by its slot and 40 bits of its hash")
  func names() {
    let keys = [0, 1, 0x8000].map { ForwardingKey(mac(1), domain: $0) }
    for key in keys {
      let name = AddressRoll.name(AddressRoll.maximumSlots - 1, table.hash(key))
      #expect(AddressRoll.slot(name) == AddressRoll.maximumSlots - 1)
      #expect(keys.filter { AddressRoll.names(name, table.hash($0)) } == [key])
    }
  }

  @Test("Places of addresses that were forgotten are free")
  func forgotten() throws {
    let roll = try roll(8)
    for round in 0..<20 {
      for number in 0..<8 {
        let mac = mac(round % 3 == 0 ? number : 100 * round + number)
        #expect(table.learn(mac, port: 1, now: 0, hints, roll) == .learned, "round \(round)")
      }
      #expect(table.flush(port: 1) == 8)
    }
  }

  @Test("A flood of addresses on one port takes none of the others'")
  func flood() throws {
    let roll = try roll(128)
    for number in 0..<500 { table.learn(mac(number), port: 10 + number % 100, now: 0, hints) }
    var limited = 0
    for number in 1000..<61_000 {
      let learned = table.learn(mac(number), port: 3, now: 1, hints, roll)
      if learned.has(.limited) { limited += 1 }
    }
    #expect((0..<500).allSatisfy { table.port(of: mac($0), hints) == 10 + $0 % 100 })
    #expect(limited >= 60_000 - 128 - 1000)
    #expect(table.entries().count { $0.port == 3 } <= 128)
  }

  @Test("Workers that enter, refresh and move addresses at the same moment keep the limits")
  func workers() throws {
    let limits = [16, 40]
    let rolls = try limits.map(roll)
    let table = table
    let moved = Atomic<Int>(0)
    let threads = try (0..<4).map { worker in
      let hints = try ForwardingTable.Hints.make(arena)
      return try Linux.Thread(name: "learner") {
        var random = UInt64(worker + 1)
        for round in 0..<8000 {
          random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          // Of some addresses both ports hear, of the others one.
          let number = Int(random >> 40 & 255)
          let port = number < 64 ? Int(random >> 33 & 1) : number & 1
          let mac = MACAddress([2, 1, 0, 0, 0, UInt8(number)])
          let learned = table.learn(
            mac, port: port, now: UInt64(round / 500), hints, rolls[port])
          if learned.has(.moved) { moved.wrappingAdd(1, ordering: .relaxed) }
          if worker == 0, round % 500 == 499, round < 4000 {
            _ = table.flush(port: round / 500 & 1)
          }
        }
      }
    }
    for thread in threads { thread.join() }
    #expect(moved.load(ordering: .relaxed) > 0)
    for port in 0..<2 {
      let count = table.remove { $0.port == port }
      #expect(count > 0 && count <= limits[port], "port \(port)")
    }
  }
}
