import Linux
import Synchronization
import Testing

@testable import VhostUser

@Suite struct MemoryTests {
  private func negotiated(slots: Int = 8) throws -> FrontEnd {
    let frontEnd = try FrontEnd(FakeBackend(memorySlots: slots))
    try frontEnd.negotiate(protocolFeatures: [.replyAck, .configureMemSlots])
    return frontEnd
  }

  private func set(_ frontEnd: FrontEnd, _ regions: [RegionDescription]) throws -> UInt64 {
    let files = try regions.map { _ in try TestFile().descriptor }
    return try frontEnd.acknowledged(
      .setMemTable, MemoryTable(regions: regions).bytes, fds: files)
  }

  private func add(_ frontEnd: FrontEnd, _ region: RegionDescription) throws -> UInt64 {
    try frontEnd.acknowledged(
      .addMemReg, SingleRegion(region).bytes, fds: [try TestFile().descriptor])
  }

  private static let hostile: [(String, [RegionDescription])] = {
    func region(_ guest: UInt64, _ size: UInt64, _ user: UInt64, _ offset: UInt64 = 0)
      -> RegionDescription
    {
      RegionDescription(guestAddress: guest, size: size, userAddress: user, mmapOffset: offset)
    }
    return [
      ("empty", [region(0, 0, 0x1000)]),
      ("guest addresses wrap", [region(.max - 0xFFF, 0x2000, 0)]),
      ("user addresses wrap", [region(0, 0x2000, .max - 0xFFF)]),
      ("offset wraps", [region(0, 0x2000, 0, .max - 0xFFF)]),
      ("everything", [region(0, .max, 1)]),
      ("guest overlap", [region(0, 0x2000, 0x10_0000), region(0x1FFF, 0x1000, 0x20_0000)]),
      ("user overlap", [region(0, 0x2000, 0x10_0000), region(0x8000, 0x1000, 0x0F_F001)]),
      ("one inside the other", [region(0, 0x9000, 0x10_0000), region(0x1000, 1, 0x20_0000)]),
      ("more than 8 TiB", [region(0, 8 << 40, 0), region(8 << 40, 0x1000, 8 << 40)]),
      ("the same twice", [region(0, 0x1000, 0x1000), region(0, 0x1000, 0x1000)]),
    ]
  }()

  @Test(arguments: MemoryTests.hostile.indices)
  func `HP-03: regions that are empty, wrap or overlap are refused`(index: Int) throws {
    let (what, regions) = MemoryTests.hostile[index]
    let frontEnd = try negotiated()
    #expect(try set(frontEnd, regions) == 1, "\(what)")
    #expect(!frontEnd.backend.calls.contains { if case .setMemory = $0 { true } else { false } })
    var answers: [UInt64] = []
    for region in regions { answers.append(try add(frontEnd, region)) }
    // Slot by slot the very same region is no mistake: see the next but one test.
    #expect(answers.last == (what == "the same twice" ? 0 : 1), "ADD_MEM_REG: \(what)")
    _ = try frontEnd.close()
  }

  @Test func `HP-03: as many regions as there are slots, and no more`() throws {
    let frontEnd = try negotiated(slots: 9)
    for (count, answer) in [(0, 1), (1, 0), (8, 0), (9, 0), (10, 1)] as [(UInt64, UInt64)] {
      #expect(try set(frontEnd, (0..<count).map { FrontEnd.region($0) }) == answer, "\(count)")
    }
    #expect(try frontEnd.ask(.getMaxMemSlots).number == 9)
    #expect(frontEnd.events.last == .refused("SET_MEM_TABLE: 10 regions, not 1…9"))
    _ = try frontEnd.close()
  }

  @Test func `HP-03: regions that touch are two regions`() throws {
    let frontEnd = try negotiated()
    #expect(try set(frontEnd, [FrontEnd.region(1), FrontEnd.region(0), FrontEnd.region(2)]) == 0)
    _ = try frontEnd.close()
  }

  @Test func `E86, HP-03: when the back-end can't map it, the old table and the rings go on`()
    throws
  {
    let frontEnd = try negotiated()
    #expect(try set(frontEnd, [FrontEnd.region(0)]) == 0)
    try frontEnd.configure(0)
    try frontEnd.settle()
    frontEnd.backend.state.withLock { $0.refusesMemory = true }
    #expect(try set(frontEnd, [FrontEnd.region(1)]) == 1)
    #expect(frontEnd.backend.running.keys.sorted() == [0])
    #expect(
      frontEnd.events.contains(.refused("SET_MEM_TABLE: memory does not fit its file")))
    // The table is the old one: this region is still in it.
    frontEnd.backend.state.withLock { $0.refusesMemory = false }
    #expect(try frontEnd.acknowledged(.remMemReg, SingleRegion(FrontEnd.region(0)).bytes) == 0)
    _ = try frontEnd.close()
  }

  @Test func `E87, HP-11: a region added twice goes when it was removed twice, as QEMU 7.2 does`()
    throws
  {
    let frontEnd = try negotiated(slots: 2)
    let region = SingleRegion(FrontEnd.region(0)).bytes
    let repeated = try TestFile()
    #expect(try add(frontEnd, FrontEnd.region(0)) == 0)
    #expect(try frontEnd.acknowledged(.addMemReg, region, fds: [repeated.descriptor]) == 0)
    try frontEnd.settle()
    #expect(repeated.openCount == 1, "the second descriptor is closed")
    #expect(try frontEnd.acknowledged(.remMemReg, region) == 0)
    #expect(try frontEnd.acknowledged(.remMemReg, region) == 0)
    #expect(try frontEnd.acknowledged(.remMemReg, region) == 1, "it is gone")
    let tables: [[UInt64]] = frontEnd.backend.calls.compactMap {
      if case .setMemory(let at) = $0 { at } else { nil }
    }
    #expect(tables == [[0], []])
    _ = try frontEnd.close()
  }

  @Test func `E87, HP-11: slots are added and removed one by one, rings live or not`() throws {
    let frontEnd = try negotiated(slots: 2)
    let backend = frontEnd.backend
    #expect(try add(frontEnd, FrontEnd.region(0)) == 0)
    try frontEnd.configure(0)
    try frontEnd.settle()
    #expect(backend.running.keys.sorted() == [0])
    var shifted = FrontEnd.region(0)
    shifted.userAddress += 4096
    #expect(try add(frontEnd, shifted) == 1, "an overlap that is not the same region")
    #expect(try add(frontEnd, FrontEnd.region(1)) == 0)
    #expect(try add(frontEnd, FrontEnd.region(2)) == 1, "no slot is left")
    #expect(backend.running.keys.sorted() == [0])

    var wrong = FrontEnd.region(1)
    wrong.size -= 1
    #expect(try frontEnd.acknowledged(.remMemReg, SingleRegion(wrong).bytes) == 1)
    var other = FrontEnd.region(1)
    other.mmapOffset = 77
    let stray = try TestFile()
    #expect(
      try frontEnd.acknowledged(.remMemReg, SingleRegion(other).bytes, fds: [stray.descriptor])
        == 0, "the offset is ignored, a stray descriptor closed")
    try frontEnd.settle()
    #expect(stray.openCount == 1)

    // The region the ring lies in goes: the removal is done, the ring just does not come back …
    backend.state.withLock { $0.refusedRings = [0] }
    #expect(try frontEnd.acknowledged(.remMemReg, SingleRegion(FrontEnd.region(0)).bytes) == 0)
    #expect(backend.running.isEmpty)
    // … until there is memory for it again.
    #expect(try add(frontEnd, FrontEnd.region(1)) == 0)
    #expect(backend.running.isEmpty)
    backend.state.withLock { $0.refusedRings = [] }
    #expect(try add(frontEnd, FrontEnd.region(0)) == 0)
    #expect(backend.running.keys.sorted() == [0])
    #expect(
      backend.calls.compactMap { if case .setMemory(let at) = $0 { at } else { nil } }
        == [[0], [0, 1 << 20], [0], [], [1 << 20], [1 << 20, 0]] as [[UInt64]])
    _ = try frontEnd.close()
  }

  @Test func `E88…E91: the log, its eventfd, and its end`() throws {
    let frontEnd = try FrontEnd()
    let driver: Features = [.version1, .vhostUserProtocol]
    try frontEnd.negotiate(driver, protocolFeatures: [.replyAck, .logShmfd])
    try frontEnd.setMemory()
    try frontEnd.send(.setVringAddr, FrontEnd.address(1, flags: 1).bytes)
    try frontEnd.send(.setVringNum, FrontEnd.state(1, 64))
    try frontEnd.send(.setVringKick, UInt64(0x101).bytes)
    try frontEnd.settle()
    #expect(frontEnd.backend.running[1]?.logAddress == nil, "not before LOG_ALL")

    let file = try TestFile()
    // A reply with or without need_reply (E89).
    try frontEnd.send(
      .setLogBase, LogDescription(size: 4096, offset: 8).bytes, fds: [file.descriptor])
    #expect(try frontEnd.reply()?.number == 0)
    #expect(file.openCount == 2)
    try frontEnd.send(.setLogFD, fds: [try EventFD().descriptor])
    try frontEnd.send(.setFeatures, driver.union(.logAll).rawValue.bytes)
    try frontEnd.settle()
    #expect(frontEnd.backend.running[1]?.logAddress == 0x42_000)
    #expect(frontEnd.backend.running[1]?.features.contains(.logAll) == true)
    try frontEnd.send(.setFeatures, driver.rawValue.bytes)
    try frontEnd.settle()
    #expect(frontEnd.backend.running[1]?.logAddress == nil)
    #expect(file.openCount == 1)
    let logs = frontEnd.backend.calls.filter {
      switch $0 {
      case .setLog, .endLog: true
      default: false
      }
    }
    #expect(
      logs == [
        .setLog(size: 4096, offset: 8, notifies: false),
        .setLog(size: 4096, offset: 8, notifies: true), .endLog,
      ])
    _ = try frontEnd.close()
  }

  @Test func `HP-06: a log that overflows, is empty or has no descriptor is refused`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate(protocolFeatures: [.replyAck, .logShmfd])
    let file = try TestFile()
    for log in [
      LogDescription(size: .max, offset: 1), LogDescription(size: 1, offset: .max),
      LogDescription(size: 0, offset: 0),
    ] {
      #expect(try frontEnd.acknowledged(.setLogBase, log.bytes, fds: [file.descriptor]) == 1)
    }
    let good = LogDescription(size: 4096, offset: 0).bytes
    #expect(try frontEnd.acknowledged(.setLogBase, good) == 1)
    #expect(
      try frontEnd.acknowledged(.setLogBase, UInt64(0).bytes, fds: [file.descriptor]) == 1)
    #expect(try frontEnd.acknowledged(.setLogFD, fds: [file.descriptor]) == 1)
    try frontEnd.settle()
    #expect(file.openCount == 1)
    _ = try frontEnd.close()
  }
}
