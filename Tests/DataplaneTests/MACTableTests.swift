import Testing

@testable import Dataplane

@Suite struct MACTableTests {
  private let arena = Arena(node: 0, allowHuge: false)

  private func table(_ entries: Int = 1024) throws -> MACTable {
    let capacity = MACTable.capacity(for: entries)
    return MACTable(
      try arena.allocate(bytes: MACTable.byteCount(capacity: capacity)), capacity: capacity,
      key: 0x1234_5678_9ABC_DEF0)
  }

  private func mac(_ number: Int) -> MACAddress {
    MACAddress([
      2, 0, UInt8(number >> 24 & 255), UInt8(number >> 16 & 255), UInt8(number >> 8 & 255),
      UInt8(number & 255),
    ])
  }

  @Test func learnsLooksUpMovesAndForgets() throws {
    let table = try table()
    #expect(table.port(of: mac(1)) == -1)
    #expect(table.learn(mac(1), port: 3, now: 0) == .learned)
    #expect(table.learn(mac(1), port: 3, now: 0) == .nothing)
    #expect(table.learn(mac(1), port: 3, now: 1) == .refreshed)
    #expect(table.port(of: mac(1)) == 3)
    #expect(table.learn(mac(1), port: 1023, now: 1) == .moved)
    #expect(table.port(of: mac(1)) == 1023)
    #expect(table.flush(port: 3) == 0)
    #expect(table.flush(port: 1023) == 1)
    #expect(table.port(of: mac(1)) == -1)
  }

  @Test("Silent addresses end after `lifetime` stamps, heard ones stay, over the stamp's wrap")
  func ages() throws {
    let table = try table()
    for round in 0..<200 {
      _ = table.learn(mac(1), port: 1, now: table.now)
      if round % 40 == 0 { _ = table.learn(mac(2), port: 2, now: table.now) }
      let age = round % 40
      #expect(table.port(of: mac(1)) == 1)
      #expect(table.port(of: mac(2)) == (age < 32 ? 2 : -1), "round \(round)")
      let removed = table.age()
      #expect(removed == (age == 31 ? 1 : 0), "round \(round)")
    }
  }

  @Test("It holds nearly as many as it has room for")
  func fills() throws {
    let table = try table(1024)
    for number in 0..<900 { _ = table.learn(mac(number), port: number % 1000, now: 0) }
    let missing = (0..<900).count { table.port(of: mac($0)) != $0 % 1000 }
    #expect(missing < 10, "two choices of eight slots hold nearly nine tenths")
    #expect(table.entries().count >= 890)
  }

  @Test("When it is full the longest unseen makes room, and the table does not grow")
  func evicts() throws {
    let table = try table(1024)
    for number in 0..<20_000 { _ = table.learn(mac(number), port: 1, now: 0) }
    let count = table.entries().count
    #expect(count <= table.capacity && count > table.capacity / 2)
    // A hundred newer ones, then a flood of as new ones: of two ages the older goes first.
    for number in 100_000..<100_100 { _ = table.learn(mac(number), port: 2, now: 5) }
    for number in 200_000..<200_300 { _ = table.learn(mac(number), port: 3, now: 5) }
    let kept = (100_000..<100_100).count { table.port(of: mac($0)) == 2 }
    #expect(kept >= 95)
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
