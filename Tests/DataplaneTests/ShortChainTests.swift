import Testing

@testable import Dataplane

/// Chains that are taken in the short way, and those that look like such and are not: whichever way they are taken, they
/// come to the same. What is wrong with a chain is told by the tests of transmitqs, model and malformed ones.
@Suite struct ShortChainTests {
  private static let header: [UInt8] = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]

  /// Lengths of a chain's descriptors, whether its frame then lies in one piece, and whether it is short.
  static let layouts: [(cuts: [Int], isWhole: Bool, isShort: Bool)] = [
    ([12, 100], true, true), ([12, 16], true, true), ([12, 15], false, false),
    ([12, 14], false, false), ([12, 16, 84], false, true), ([12, 15, 85], false, false),
    ([28, 1], false, true), ([27, 73], false, false), ([112, 100], false, true),
    ([12, 54, 46, 1], false, true), ([12, 50, 25, 12, 13], false, false),
    ([11, 101], true, false),
    ([12, 2048], true, true), ([12, 2049], true, false), ([12, 1024, 1024], false, true),
    ([12, 1024, 1025], false, false), ([12, 0, 100], true, false), ([12, 66, 0], true, false),
    ([12, 100, 0], true, false), ([0, 112], true, false),
  ]

  private func bytes(_ cuts: [Int]) -> [UInt8] {
    ShortChainTests.header + frame(length: cuts.reduce(0, +) - 12)
  }

  /// What is gathered, and what a receiver gets of it, in one buffer and in two that are merged.
  private func check(
    _ queue: inout some Virtqueue, _ bench: Bench,
    _ layout: (cuts: [Int], isWhole: Bool, isShort: Bool)
  ) throws {
    let sent = bytes(layout.cuts)
    #expect(bench.gather(&queue) == (1, sent.count - 12), "\(layout)")
    #expect(bench.bytes(0) == Array(sent.dropFirst(12)), "\(layout)")
    #expect((bench.burst.addresses[0] != 0) == layout.isWhole, "\(layout)")
    #expect(bench.burst.netHeaders[0] == 0x0605_0403_0201_0000, "\(layout)")
    #expect(bench.burst.special.checksumOffsets[0] == 0x0807, "\(layout)")
    for cut in [sent.count, 20] {
      let memory = try RingMemory(size: 8)
      let other = try Bench()
      var receiveq = try other.queue(memory)
      let place = memory.allocate(sent.count)
      memory.describe(0, address: memory.address(place), length: UInt32(cut), flags: 2)
      memory.describe(1, address: memory.address(place + cut), length: 4096, flags: 2)
      memory.offer(0, 1)
      let delivered = receiveq.deliver(bench.burst, bench.burst.natural, 1, limit: 65_550)
      #expect(delivered.frames == 1 && delivered.bytes == sent.count - 12)
      receiveq.publish()
      let buffers: UInt8 = cut == sent.count ? 1 : 2
      #expect(memory.usedIndex == UInt16(buffers))
      #expect(
        memory.read(place, sent.count)
          == [UInt8](repeating: 0, count: 10) + [buffers, 0] + sent.dropFirst(12), "\(layout)")
    }
  }

  @Test("A split ring's, linked and in tables", arguments: layouts.indices, [false, true])
  func split(_ number: Int, _ indirect: Bool) throws {
    let layout = ShortChainTests.layouts[number]
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let sent = bytes(layout.cuts)
    let table = indirect ? memory.allocate(16 * layout.cuts.count, alignment: 8) : 0
    // Apart from each other, so that none is taken for the next one's beginning.
    var offset = 0
    for (index, length) in layout.cuts.enumerated() {
      let place = memory.allocate(max(1, length), alignment: 1) + 3 * index
      memory.write(Array(sent[offset..<(offset + length)]), at: place)
      memory.describe(
        index, address: memory.address(place), length: UInt32(length),
        flags: index == layout.cuts.count - 1 ? 0 : 1, next: UInt16(index + 1), table: table)
      offset += length
      _ = memory.allocate(3 * index + 8)
    }
    if indirect {
      memory.describe(
        7, address: memory.address(table), length: UInt32(16 * layout.cuts.count), flags: 6)
    }
    memory.offer(indirect ? 7 : 0)
    var pieces = 0
    var copy = queue
    let taken = copy.takeShort(bench.burst, from: 0, to: 1, pieces: &pieces)
    #expect(taken == (layout.isShort ? 1 : 0), "\(layout)")
    #expect(copy.nextAvail == UInt16(taken) && copy.nextUsed == UInt16(taken))
    try check(&queue, bench, layout)
    queue.publish()
    #expect(memory.usedIndex == 1 && memory.usedEntry(0) == (indirect ? 7 : 0, 0))
  }

  @Test("A packed ring's, in a row and in tables", arguments: layouts.indices, [false, true])
  func packed(_ number: Int, _ indirect: Bool) throws {
    let layout = ShortChainTests.layouts[number]
    let driver = try PackedDriver(size: 9, start: 7)
    let bench = try Bench()
    var queue = try bench.queue(driver)
    let sent = bytes(layout.cuts)
    var offset = 0
    let parts = layout.cuts.enumerated().map { index, length in
      let place = driver.memory.allocate(length + 5 * index + 8, alignment: 1) + 5 * index
      driver.memory.write(Array(sent[offset..<(offset + length)]), at: place)
      offset += length
      return PackedDriver.Part(offset: place, length: length)
    }
    if indirect {
      driver.offerIndirect(parts, id: 77)
    } else {
      driver.offer(parts, id: 77)
    }
    var pieces = 0
    var copy = queue
    let taken = copy.takeShort(bench.burst, from: 0, to: 1, pieces: &pieces)
    #expect(taken == (layout.isShort ? 1 : 0), "\(layout)")
    #expect(copy.next.word == driver.word(taken == 1 ? driver.made : 7))
    try check(&queue, bench, layout)
    queue.publish()
    #expect(driver.used == .init(id: 77, length: 0, isWritten: false))
  }

  @Test("Plain frames, short chains and others between each other keep their order")
  func mixed() throws {
    let layouts: [[Int]] = [
      [112], [12, 100], [12, 54, 46], [6, 6, 100], [12, 100], [112], [12 + 4000], [12, 20, 80],
    ]
    for size in [64, 96] {
      let driver = try PackedDriver(size: size, start: 11)
      let bench = try Bench()
      var queue = try bench.queue(driver)
      let place = driver.memory.allocate(8192)
      var shapes: [Int] = []
      while true {
        let cuts = layouts[shapes.count % layouts.count]
        if driver.made - 11 + cuts.count > size { break }
        let at = place + shapes.count
        var offset = at
        driver.offer(
          cuts.map { cut in
            defer { offset += cut }
            return PackedDriver.Part(offset: offset, length: cut)
          }, id: UInt16(shapes.count))
        shapes.append(cuts.reduce(0, +) - 12)
      }
      #expect(bench.gather(&queue).frames == shapes.count)
      for (index, length) in shapes.enumerated() {
        #expect(bench.burst.lengths[index] == length)
        #expect(bench.bytes(index) == driver.memory.read(place + index + 12, length))
      }
      #expect(bench.counters.sample.drops == [:])
    }
  }

  @Test("Pieces in two regions are as short as in one; one that lies in both is for the long way")
  func regions() throws {
    let next = try RingMemory()
    let base = RingMemory.guestBase + 1 << 20
    let memory = try RingMemory(
      extra: [
        MappedRegion(guestAddress: base, userAddress: 0x9000_0000, mapping: next.mapping)
      ])
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let place = memory.allocate(12)
    let bytes = frame(length: 100)
    next.write(bytes, at: 500)
    memory.describe(0, address: memory.address(place), length: 12, flags: 1, next: 1)
    memory.describe(1, address: base + 500, length: 60, flags: 1, next: 2)
    memory.describe(2, address: base + 560, length: 40)
    memory.offer(0)
    let end = (1 << 20) - 30
    memory.write(Array(bytes.prefix(30)), at: end)
    next.write(Array(bytes.dropFirst(30)), at: 0)
    memory.describe(3, address: memory.address(place), length: 12, flags: 1, next: 4)
    memory.describe(4, address: memory.address(end), length: 100)
    memory.offer(3)
    var copy = queue
    var pieces = 0
    #expect(copy.takeShort(bench.burst, from: 0, to: 1, pieces: &pieces) == 1)
    #expect(bench.gather(&queue) == (2, 200))
    #expect(bench.bytes(0) == bytes && bench.bytes(1) == bytes)
  }

  @Test("Short in everything but one rule: left to the walk, which names the drop")
  func wrong() throws {
    let corruptions: [(String, (RingMemory, Int) -> Void)] = [
      ("writable", { $0.describe(1, address: $0.address(8192), length: 64, flags: 2, table: $1) }),
      ("outside", { $0.describe(1, address: 0x10, length: 64, table: $1) }),
      (
        "end outside",
        { $0.describe(1, address: $0.address(1 << 20) - 63, length: 64, table: $1) }
      ),
      ("wraps", { $0.describe(1, address: .max - 3, length: 64, table: $1) }),
      (
        "beyond the table",
        { $0.describe(0, address: $0.address(8192), length: 12, flags: 1, next: 8, table: $1) }
      ),
      (
        "a loop",
        { $0.describe(1, address: $0.address(8192), length: 64, flags: 1, next: 0, table: $1) }
      ),
      (
        "a table in a table",
        { $0.describe(1, address: $0.address(8192), length: 16, flags: $1 == 0 ? 5 : 4, table: $1) }
      ),
    ]
    for (name, corrupt) in corruptions {
      for indirect in [false, true] {
        let memory = try RingMemory(size: 8)
        let bench = try Bench()
        var queue = try bench.queue(memory)
        let table = indirect ? memory.allocate(32) : 0
        memory.describe(
          0, address: memory.address(8192), length: 12, flags: 1, next: 1, table: table)
        memory.describe(1, address: memory.address(8204), length: 64, table: table)
        if indirect { memory.describe(5, address: memory.address(table), length: 32, flags: 4) }
        corrupt(memory, table)
        memory.offer(indirect ? 5 : 0)
        var copy = queue
        var pieces = 0
        #expect(copy.takeShort(bench.burst, from: 0, to: 1, pieces: &pieces) == 0, "\(name)")
        #expect(copy.nextAvail == 0 && memory.usedEntry(0) == (0, 0))
        #expect(bench.gather(&queue).frames == 1 && bench.isDropped(0), "\(name)")
        let drops = bench.counters.sample.drops
        #expect(
          drops == [.malformedDescriptor: 1] || (name == "a loop" && drops == [.chainTooLong: 1]),
          "\(name): \(drops)")
      }
    }
  }
}
