import Testing

@testable import Dataplane

@Suite struct TransmitqTests {
  @Test(
    "E10, E13, E17 2.7.4.1: any arrangement of header and frame over descriptors gives the same frame"
  )
  func anyLayout() throws {
    let whole = [UInt8](repeating: 0, count: 12) + frame(length: 100)
    // Cuts of the 112 bytes into descriptors: in one, header apart, header split, single bytes, …
    let layouts: [[Int]] = [
      [112], [12, 100], [11, 101], [1, 111], [6, 6, 100], [12, 14, 86], [12, 1, 99],
      [20, 92], [27, 85], [28, 84], [12] + [Int](repeating: 10, count: 10),
      [Int](repeating: 1, count: 28) + [84], [0, 12, 0, 100, 0],
    ]
    for (number, layout) in layouts.enumerated() {
      for indirect in [false, true] {
        let memory = try RingMemory(size: 32)
        let bench = try Bench()
        var queue = try bench.queue(memory)
        let table = indirect ? memory.allocate(16 * layout.count) : 0
        var offset = 0
        for (index, length) in layout.enumerated() {
          let place = memory.allocate(max(length, 1))
          memory.write(Array(whole[offset..<(offset + length)]), at: place)
          let isLast = index == layout.count - 1
          memory.describe(
            index, address: memory.address(place), length: UInt32(length),
            flags: isLast ? 0 : 1, next: UInt16(index + 1), table: table)
          offset += length
        }
        if indirect {
          // E13: the WRITE flag of a descriptor that refers to a table is ignored.
          memory.describe(
            31, address: memory.address(table), length: UInt32(16 * layout.count),
            flags: 4 | (number % 2 == 0 ? 2 : 0))
        }
        memory.offer(indirect ? 31 : 0)
        let (frames, bytes) = bench.gather(&queue)
        #expect(frames == 1 && bytes == 100, "layout \(layout), indirect \(indirect)")
        #expect(bench.bytes(0) == frame(length: 100), "layout \(layout), indirect \(indirect)")
        #expect(bench.burst.headers[0].destination == MACAddress([2, 0, 0, 0, 0, 2]))
        #expect(bench.burst.headers[0].source == MACAddress([2, 0, 0, 0, 0, 1]))
        #expect(memory.usedIndex == 0, "nothing is shown before the burst ends")
        queue.publish()
        #expect(memory.usedIndex == 1)
        #expect(memory.usedEntry(0).id == (indirect ? 31 : 0))
        #expect(memory.usedEntry(0).length == 0, "E17: nothing was written")
      }
    }
  }

  @Test("E14 2.7.5.3.2: normal descriptors before an indirect one")
  func normalThenIndirect() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let header = memory.allocate(12)
    let data = memory.allocate(64)
    let table = memory.allocate(16)
    memory.write(frame(), at: data)
    memory.describe(0, address: memory.address(header), length: 12, flags: 1, next: 5)
    memory.describe(5, address: memory.address(table), length: 16, flags: 4)
    memory.describe(0, address: memory.address(data), length: 64, table: table)
    memory.offer(0)
    #expect(bench.gather(&queue) == (1, 64))
    #expect(bench.bytes(0) == frame())
  }

  /// What is wrong, and the drop it must be.
  static let malformed: [(String, DropReason, @Sendable (RingMemory) -> Void)] = [
    (
      "HG-01 address outside memory", .malformedDescriptor,
      { $0.describe(0, address: 0x1000, length: 76) }
    ),
    (
      "HG-01 end outside memory", .malformedDescriptor,
      { $0.describe(0, address: $0.address(1 << 20) - 40, length: 76) }
    ),
    (
      "HG-02 address plus length wraps", .malformedDescriptor,
      { $0.describe(0, address: UInt64.max - 10, length: 76) }
    ),
    ("HG-03 length 0", .headerTooShort, { $0.describe(0, address: $0.address(4096), length: 0) }),
    (
      "HG-03 length 0xffffffff", .malformedDescriptor,
      { $0.describe(0, address: $0.address(4096), length: 0xFFFF_FFFF) }
    ),
    (
      "HG-04 next beyond the table", .malformedDescriptor,
      { $0.describe(0, address: $0.address(4096), length: 12, flags: 1, next: 8) }
    ),
    (
      "HG-05 loop", .chainTooLong,
      { $0.describe(0, address: $0.address(4096), length: 12, flags: 1, next: 0) }
    ),
    (
      "HG-05 loop of empty descriptors", .chainTooLong,
      { $0.describe(0, address: $0.address(4096), length: 0, flags: 1, next: 0) }
    ),
    (
      "HG-07 indirect length 0", .malformedDescriptor,
      { $0.describe(0, address: $0.address(4096), length: 0, flags: 4) }
    ),
    (
      "HG-07 indirect length not a multiple of 16", .malformedDescriptor,
      { $0.describe(0, address: $0.address(4096), length: 17, flags: 4) }
    ),
    (
      "HG-07 indirect and next", .malformedDescriptor,
      { $0.describe(0, address: $0.address(4096), length: 16, flags: 5, next: 1) }
    ),
    (
      "HG-07 indirect outside memory", .malformedDescriptor,
      { $0.describe(0, address: 0x10, length: 16, flags: 4) }
    ),
    (
      "HG-07 indirect straddles the end", .malformedDescriptor,
      { $0.describe(0, address: $0.address((1 << 20) - 16), length: 32, flags: 4) }
    ),
    (
      "HG-07 indirect in indirect", .malformedDescriptor,
      {
        $0.describe(0, address: $0.address(4096), length: 16, flags: 4)
        $0.describe(0, address: $0.address(8192), length: 16, flags: 4, table: 4096)
      }
    ),
    (
      "HG-07 loop in an indirect table", .chainTooLong,
      {
        $0.describe(0, address: $0.address(4096), length: 32, flags: 4)
        $0.describe(0, address: $0.address(8192), length: 4, flags: 1, next: 1, table: 4096)
        $0.describe(1, address: $0.address(8192), length: 4, flags: 1, next: 0, table: 4096)
      }
    ),
    (
      "HG-07 next beyond the indirect table", .malformedDescriptor,
      {
        $0.describe(0, address: $0.address(4096), length: 16, flags: 4)
        $0.describe(0, address: $0.address(8192), length: 12, flags: 1, next: 1, table: 4096)
      }
    ),
    (
      "HG-08 shorter than the header", .headerTooShort,
      { $0.describe(0, address: $0.address(4096), length: 11) }
    ),
    (
      "HG-09 device-writable", .malformedDescriptor,
      { $0.describe(0, address: $0.address(4096), length: 76, flags: 2) }
    ),
    (
      "HG-19 no frame", .runt, { $0.describe(0, address: $0.address(4096), length: 12) }
    ),
    (
      "HG-19 frame of 13", .runt, { $0.describe(0, address: $0.address(4096), length: 25) }
    ),
    (
      "HG-19 frame of 65,559", .oversize,
      { $0.describe(0, address: $0.address(8192), length: 65_571) }
    ),
    (
      "HG-19 frame of 65,559 in two", .oversize,
      {
        $0.describe(0, address: $0.address(8192), length: 12, flags: 1, next: 1)
        $0.describe(1, address: $0.address(8192), length: 65_559)
      }
    ),
    (
      "HG-18 checksum asked, not negotiated", .offloadNotNegotiated,
      {
        $0.write([1], at: 8192)
        $0.describe(0, address: $0.address(8192), length: 76)
      }
    ),
    (
      "HG-18 segmentation asked, not negotiated", .offloadNotNegotiated,
      {
        $0.write([0, 1], at: 8192)
        $0.describe(0, address: $0.address(8192), length: 76)
      }
    ),
    (
      "E48 unknown gso_type", .offloadNotNegotiated,
      {
        $0.write([0, 0x7F], at: 8192)
        $0.describe(0, address: $0.address(8192), length: 12, flags: 1, next: 1)
        $0.describe(1, address: $0.address(8300), length: 64)
      }
    ),
  ]

  @Test(
    "A malformed chain is a named drop, goes back to the driver, and the next frame goes on",
    arguments: malformed.indices)
  func malformedChain(_ index: Int) throws {
    let (name, reason, corrupt) = TransmitqTests.malformed[index]
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    corrupt(memory)
    memory.offer(0)
    let place = 600_000
    memory.write([UInt8](repeating: 0, count: 12) + frame(seed: 9), at: place)
    memory.describe(6, address: memory.address(place), length: 76)
    memory.offer(6)
    let (frames, bytes) = bench.gather(&queue)
    #expect(frames == 2 && bytes == 64, "\(name)")
    #expect(bench.counters.load(reason) == 1, "\(name): \(bench.counters.sample.drops)")
    #expect(bench.isDropped(0))
    #expect(bench.bytes(1) == frame(seed: 9), "\(name)")
    queue.publish()
    #expect(memory.usedIndex == 2 && memory.usedEntry(0).id == 0 && memory.usedEntry(1).id == 6)
    #expect(bench.counters.sample.fault == nil)
  }

  @Test("HG-03, HG-06 a chain of thousands of empty descriptors is given up, not walked to its end")
  func emptyDescriptors() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let table = memory.allocate(16 * 2048, alignment: 16)
    for index in 0..<2048 {
      memory.describe(
        index, address: memory.address(4096), length: index == 2047 ? 76 : 0,
        flags: index == 2047 ? 0 : 1, next: UInt16(index + 1), table: table)
    }
    memory.describe(0, address: memory.address(table), length: 16 * 2048, flags: 4)
    memory.offer(0)
    memory.send(frame(), descriptor: 3)
    #expect(bench.gather(&queue) == (2, 64))
    #expect(bench.counters.load(.chainTooLong) == 1)
  }

  @Test("HG-06 a burst ends after a few chains of thousands of descriptors, the rest come later")
  func manyEmptyDescriptors() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let table = memory.allocate(16 * 2048, alignment: 16)
    for index in 0..<2048 {
      memory.describe(
        index, address: memory.address(4096), length: 0, flags: 1, next: UInt16(index + 1),
        table: table)
    }
    for index in 0..<16 {
      memory.describe(index, address: memory.address(table), length: 16 * 2048, flags: 4)
      memory.offer(UInt16(index))
    }
    // Of each 1,024 are looked at.
    for taken in [5, 10, 15, 16] {
      _ = bench.gather(&queue)
      #expect(bench.counters.load(.chainTooLong) == taken)
    }
  }

  @Test("HG-07 indirect, not negotiated")
  func indirectNotNegotiated() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory, memory.setup(indirect: false))
    memory.describe(0, address: memory.address(4096), length: 16, flags: 4)
    memory.offer(0)
    #expect(bench.gather(&queue).frames == 1)
    #expect(bench.counters.load(.malformedDescriptor) == 1)
  }

  @Test("HG-10 a jump of avail.idx breaks the ring", arguments: [9, 100, 0x8000, 0xFFFF])
  func availJump(_ jump: Int) throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    memory.availIndex = UInt16(jump)
    #expect(bench.gather(&queue).frames == 0)
    #expect(bench.counters.sample.fault == .availIndexJump)
    // Putting it right again does not make it trusted.
    memory.availIndex = 0
    memory.send(frame())
    #expect(bench.gather(&queue).frames == 0)
  }

  @Test("HG-11 a head beyond the table breaks the ring; what came before it is kept")
  func headOutOfRange() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    memory.send(frame())
    memory.offer(8)
    #expect(bench.gather(&queue).frames == 1)
    #expect(bench.counters.sample.fault == .headOutOfRange)
  }

  @Test("HG-12 the same head twice is two frames, whatever the guest makes of it")
  func sameHeadTwice() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    memory.send(frame())
    memory.offer(0)
    #expect(bench.gather(&queue) == (2, 128))
  }

  @Test("E46: without VERSION_1 and mergeable buffers the header has 10 bytes")
  func legacyHeader() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory, memory.setup(mergeable: false, version1: false))
    memory.send(frame(length: 60), header: [UInt8](repeating: 0, count: 10))
    #expect(bench.gather(&queue) == (1, 60))
    #expect(bench.bytes(0) == frame(length: 60))
  }

  @Test("HG-01 a buffer that runs from one region into the next is one frame")
  func straddle() throws {
    let next = try RingMemory()
    let memory = try RingMemory(
      extra: [
        MappedRegion(
          guestAddress: RingMemory.guestBase + 1 << 20, userAddress: 0x9000_0000,
          mapping: next.mapping)
      ])
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let bytes = [UInt8](repeating: 0, count: 12) + frame(length: 200)
    let start = (1 << 20) - 100
    memory.write(Array(bytes.prefix(100)), at: start)
    next.write(Array(bytes.dropFirst(100)), at: 0)
    memory.describe(0, address: memory.address(start), length: 212)
    memory.offer(0)
    #expect(bench.gather(&queue) == (1, 200))
    #expect(bench.bytes(0) == frame(length: 200))
  }

  @Test(
    "E13: an indirect table lies at any address, also across regions that adjoin for the guest",
    arguments: [0, 1, 4, 7, 8, 13, 16, 20])
  func tableAnywhere(_ back: Int) throws {
    for packed in [false, true] {
      // One end of the table, of 48 bytes, is in the next region, or all of it in the first, at an odd place.
      for start in [(1 << 20) - 32 + back, 8192 + back] {
        let next = try RingMemory()
        let region = MappedRegion(
          guestAddress: RingMemory.guestBase + 1 << 20, userAddress: 0x9000_0000,
          mapping: next.mapping)
        let driver = try PackedDriver(size: 8, extra: [region])
        let memory = driver.memory
        let whole = [UInt8](repeating: 0, count: 12) + frame(length: 100)
        memory.write(whole, at: 16384)
        let parts = [(16384, 12), (16396, 50), (16446, 50)]
        var table: [UInt8] = []
        for (index, part) in parts.enumerated() {
          table += bytes(memory.address(part.0), 8) + bytes(UInt64(part.1), 4)
          // In a packed ring's the last word is the flags, of which WRITE alone counts.
          table +=
            packed ? bytes(0, 4) : bytes(index < 2 ? 1 : 0, 2) + bytes(UInt64(index + 1), 2)
        }
        let here = min(48, (1 << 20) - start)
        memory.write(Array(table.prefix(here)), at: start)
        next.write(Array(table.dropFirst(here)), at: 0)
        let bench = try Bench()
        if packed {
          var queue = try bench.queue(driver)
          driver.write(address: memory.address(start), length: 48, id: 5, flags: 4)
          #expect(bench.gather(&queue) == (1, 100), "\(start)")
        } else {
          memory.describe(5, address: memory.address(start), length: 48, flags: 4)
          memory.offer(5)
          var queue = try bench.queue(memory)
          #expect(bench.gather(&queue) == (1, 100), "\(start)")
        }
        #expect(bench.bytes(0) == frame(length: 100), "\(start), packed \(packed)")
      }
    }
  }

  @Test("HG-07 a table over more regions than any driver's is refused", arguments: [8, 9])
  func tableOfManyRegions(_ regions: Int) throws {
    // Of the table, as long as one may be, the first entry is in the ring's own memory, and all others in regions of a page.
    let others = try (0..<(regions - 1)).map { _ in try RingMemory(bytes: 4096) }
    let start = RingMemory.guestBase + 1 << 20
    let memory = try RingMemory(
      extra: others.enumerated().map { place, other in
        MappedRegion(
          guestAddress: start + UInt64(4096 * place),
          userAddress: 0x9000_0000 + UInt64(4096 * place),
          mapping: other.mapping)
      })
    let place = memory.allocate(112)
    memory.write([UInt8](repeating: 0, count: 12) + frame(length: 100), at: place)
    let table = (1 << 20) - 16
    memory.describe(0, address: memory.address(place), length: 112, table: table)
    let length = UInt32(16 + 4096 * (regions - 1))
    memory.describe(0, address: memory.address(table), length: length, flags: 4)
    memory.offer(0)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let isTaken = regions <= IndirectTable.mostRegions
    #expect(bench.gather(&queue) == (1, isTaken ? 100 : 0))
    #expect(bench.counters.load(.malformedDescriptor) == (isTaken ? 0 : 1))
  }

  private func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
  }

  @Test("E23: indices wrap at 65,536, at every size", arguments: [1, 2, 8, 64, 256])
  func wrapAround(_ size: Int) throws {
    let memory = try RingMemory(size: size)
    let bench = try Bench()
    memory.availIndex = 65_530
    memory.usedIndex = 65_530
    var queue = try bench.queue(memory, memory.setup(base: 65_530))
    let place = memory.allocate(76)
    for round in 0..<20 {
      memory.write([UInt8](repeating: 0, count: 12) + frame(seed: UInt8(round)), at: place)
      memory.describe(round % size, address: memory.address(place), length: 76)
      memory.offer(UInt16(round % size))
      #expect(bench.gather(&queue) == (1, 64))
      #expect(bench.bytes(0) == frame(seed: UInt8(round)))
      queue.publish()
      #expect(memory.usedIndex == memory.availIndex)
      #expect(memory.usedEntry(Int(memory.usedIndex &- 1)).id == UInt32(round % size))
    }
  }

  @Test("A burst of long chains ends before the table of pieces does, and the rest comes next")
  func longChains() throws {
    let memory = try RingMemory(size: 1024)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let place = memory.allocate(64 * 1024)
    let table = memory.allocate(16 * 1000, alignment: 16)
    for index in 0..<1000 {
      memory.describe(
        index, address: memory.address(place + index), length: 1, flags: index == 999 ? 0 : 1,
        next: UInt16(index + 1), table: table)
    }
    for index in 0..<64 {
      memory.describe(index, address: memory.address(table), length: 16_000, flags: 4)
      memory.offer(UInt16(index))
    }
    var seen = 0
    var turns = 0
    while seen < 64, turns < 64 {
      let (frames, bytes) = bench.gather(&queue)
      #expect(bytes == frames * 988)
      queue.publish()
      seen += frames
      turns += 1
    }
    #expect(seen == 64)
    #expect(turns > 1)
  }
}
