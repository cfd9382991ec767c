import Linux
import Testing

@testable import Dataplane

@Suite struct PackedTransmitqTests {
  @Test(
    "E10, E27, E28, E29: any arrangement of header and frame over descriptors gives the same frame")
  func anyLayout() throws {
    let whole = [UInt8](repeating: 0, count: 12) + frame(length: 100)
    let layouts: [[Int]] = [
      [112], [12, 100], [11, 101], [1, 111], [6, 6, 100], [12, 14, 86], [12, 1, 99],
      [20, 92], [27, 85], [28, 84], [12] + [Int](repeating: 10, count: 10),
      [Int](repeating: 1, count: 28) + [84], [0, 12, 0, 100, 0],
    ]
    for layout in layouts {
      for indirect in [false, true] {
        // The chain passes the end of the ring.
        let driver = try PackedDriver(size: 33, start: 31)
        let bench = try Bench()
        var queue = try bench.queue(driver)
        var offset = 0
        var parts: [PackedDriver.Part] = []
        for length in layout {
          let place = driver.memory.allocate(max(length, 1))
          driver.memory.write(Array(whole[offset..<(offset + length)]), at: place)
          parts.append(.init(offset: place, length: length))
          offset += length
        }
        if indirect {
          driver.offerIndirect(parts, id: 77)
        } else {
          driver.offer(parts, id: 77)
        }
        let (frames, bytes) = bench.gather(&queue)
        #expect(frames == 1 && bytes == 100, "layout \(layout), indirect \(indirect)")
        #expect(bench.bytes(0) == frame(length: 100), "layout \(layout), indirect \(indirect)")
        #expect(bench.burst.headers[0].source == MACAddress([2, 0, 0, 0, 0, 1]))
        #expect(driver.used == nil, "nothing is shown before the burst ends")
        queue.publish()
        #expect(driver.used == .init(id: 77, length: 0, isWritten: false), "E29")
        #expect(queue.next.word == driver.word(driver.made), "the whole chain is passed")
      }
    }
  }

  @Test(
    "E24, E25, E31: frames in order over many laps, whatever the size",
    arguments: [1, 2, 3, 5, 8, 13, 64, 100])
  func laps(_ size: Int) throws {
    for start in [0, size - 1, size, 2 * size - 1] {
      let driver = try PackedDriver(size: size, start: start)
      let bench = try Bench()
      var queue = try bench.queue(driver)
      let place = driver.memory.allocate(12 + 64)
      for round in 0..<(4 * size + 10) {
        driver.memory.write(
          [UInt8](repeating: 0, count: 12) + frame(seed: UInt8(truncatingIfNeeded: round)),
          at: place)
        let count = 1 + round % size
        for index in 0..<count {
          driver.offer([.init(offset: place, length: 76)], id: UInt16(round + index))
        }
        var taken = 0
        while taken < count {
          let (frames, bytes) = bench.gather(&queue)
          #expect(frames == min(count - taken, 64) && bytes == 64 * frames)
          #expect(bench.bytes(0) == frame(seed: UInt8(truncatingIfNeeded: round)))
          #expect(driver.used(at: driver.passed + taken) == nil)
          queue.publish()
          taken += frames
        }
        for index in 0..<count {
          #expect(driver.used == .init(id: UInt16(round + index), length: 0, isWritten: false))
          driver.pass(1)
        }
        #expect(driver.used == nil)
      }
      #expect(bench.counters.sample.fault == nil)
    }
  }

  @Test("E18, E08 2.8.8: in order, one used element stands for a burst of chains of all shapes")
  func batches() throws {
    let driver = try PackedDriver(size: 61, start: 50)
    let bench = try Bench()
    var queue = try bench.queue(driver, driver.setup(inOrder: true))
    let place = driver.memory.allocate(12 + 64)
    driver.memory.write([UInt8](repeating: 0, count: 12) + frame(), at: place)
    for round in 0..<500 {
      let first = driver.made
      let shapes = (0..<(1 + round % 7)).map { 1 + ($0 + round) % 4 }
      for (index, shape) in shapes.enumerated() {
        let cuts = (0..<shape).map { part in
          PackedDriver.Part(
            offset: place + 19 * part, length: part == shape - 1 ? 76 - 19 * part : 19)
        }
        driver.offer(cuts, id: UInt16(1000 + index))
      }
      #expect(bench.gather(&queue) == (shapes.count, 64 * shapes.count))
      #expect(driver.used == nil)
      queue.publish()
      #expect(
        driver.used == .init(id: UInt16(1000 + shapes.count - 1), length: 0, isWritten: false))
      // The others are left as the driver wrote them.
      for other in (first + 1)..<driver.made { #expect(driver.used(at: other) == nil) }
      driver.pass(driver.made - first)
      #expect(driver.used == nil)
    }
  }

  /// What is wrong, and the drop it must be: one chain, as long as it pleases.
  static let malformed: [(String, DropReason, @Sendable (PackedDriver) -> Void)] = [
    (
      "HG-01 address outside memory", .malformedDescriptor,
      { $0.write(address: 0x1000, length: 76) }
    ),
    (
      "HG-01 end outside memory", .malformedDescriptor,
      { $0.write(address: $0.memory.address(1 << 20) - 40, length: 76) }
    ),
    (
      "HG-02 address plus length wraps", .malformedDescriptor,
      { $0.write(address: UInt64.max - 10, length: 76) }
    ),
    ("HG-03 length 0", .headerTooShort, { $0.write(address: $0.memory.address(4096), length: 0) }),
    ("HG-03 nowhere, length 0", .headerTooShort, { $0.write(address: 0, length: 0) }),
    (
      "HG-03 length 0xffffffff", .malformedDescriptor,
      { $0.write(address: $0.memory.address(4096), length: 0xFFFF_FFFF) }
    ),
    (
      "HG-07 indirect length 0", .malformedDescriptor,
      { $0.write(address: $0.memory.address(4096), length: 0, flags: 4) }
    ),
    (
      "HG-07 indirect length not a multiple of 16", .malformedDescriptor,
      { $0.write(address: $0.memory.address(4096), length: 17, flags: 4) }
    ),
    (
      "HG-07, E28 indirect in a chain", .malformedDescriptor,
      {
        $0.write(address: $0.memory.address(4096), length: 12, flags: 1)
        $0.write(address: $0.memory.address(4096), length: 16, flags: 4)
      }
    ),
    (
      "HG-07, E28 indirect and next", .malformedDescriptor,
      {
        $0.write(address: $0.memory.address(4096), length: 16, flags: 5)
        $0.write(address: $0.memory.address(8192), length: 76)
      }
    ),
    (
      "HG-07 indirect outside memory", .malformedDescriptor,
      { $0.write(address: 0x10, length: 16, flags: 4) }
    ),
    (
      "HG-07 indirect straddles the end", .malformedDescriptor,
      { $0.write(address: $0.memory.address((1 << 20) - 16), length: 32, flags: 4) }
    ),
    (
      "HG-03, HG-06 thousands of empty entries", .chainTooLong,
      { $0.write(address: $0.memory.address(8192), length: 16 * 2048, flags: 4) }
    ),
    (
      "HG-08 shorter than the header", .headerTooShort,
      { $0.write(address: $0.memory.address(4096), length: 11) }
    ),
    (
      "HG-09 device-writable", .malformedDescriptor,
      { $0.write(address: $0.memory.address(4096), length: 76, flags: 2) }
    ),
    (
      "HG-09 the second device-writable", .malformedDescriptor,
      {
        $0.write(address: $0.memory.address(4096), length: 76, flags: 1)
        $0.write(address: $0.memory.address(4096), length: 76, flags: 3)
        $0.write(address: $0.memory.address(4096), length: 76)
      }
    ),
    ("HG-19 no frame", .runt, { $0.write(address: $0.memory.address(4096), length: 12) }),
    ("HG-19 frame of 13", .runt, { $0.write(address: $0.memory.address(4096), length: 25) }),
    (
      "HG-19 frame of 65,559", .oversize,
      { $0.write(address: $0.memory.address(8192), length: 65_571) }
    ),
    (
      "HG-18 checksum asked, not negotiated", .offloadNotNegotiated,
      {
        $0.memory.write([1], at: 8192)
        $0.write(address: $0.memory.address(8192), length: 76)
      }
    ),
  ]

  @Test(
    "A malformed chain is a named drop, goes back to the driver, and the next frame goes on",
    arguments: malformed.indices)
  func malformedChain(_ index: Int) throws {
    let (name, reason, corrupt) = PackedTransmitqTests.malformed[index]
    for start in 0..<9 {
      let driver = try PackedDriver(size: 9, start: start)
      let bench = try Bench()
      var queue = try bench.queue(driver)
      corrupt(driver)
      let slots = driver.made - start
      let place = 900_000
      driver.memory.write([UInt8](repeating: 0, count: 12) + frame(seed: 9), at: place)
      driver.offer([.init(offset: place, length: 76)], id: 6)
      let (frames, bytes) = bench.gather(&queue)
      #expect(frames == 2 && bytes == 64, "\(name)")
      #expect(bench.counters.load(reason) == 1, "\(name): \(bench.counters.sample.drops)")
      #expect(bench.isDropped(0) && bench.bytes(1) == frame(seed: 9), "\(name)")
      queue.publish()
      #expect(driver.used == .init(id: 0, length: 0, isWritten: false))
      driver.pass(slots)
      #expect(driver.used == .init(id: 6, length: 0, isWritten: false))
      #expect(bench.counters.sample.fault == nil)
    }
  }

  @Test("HG-07 indirect, not negotiated")
  func indirectNotNegotiated() throws {
    let driver = try PackedDriver(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(driver, driver.setup(indirect: false))
    driver.write(address: driver.memory.address(4096), length: 16, flags: 4)
    #expect(bench.gather(&queue).frames == 1)
    #expect(bench.counters.load(.malformedDescriptor) == 1)
  }

  @Test("HG-05, HG-16: a chain without an end breaks the ring; what came before it is kept")
  func withoutEnd() throws {
    for links in [3, 7, 8] {
      let driver = try PackedDriver(size: 8)
      let bench = try Bench()
      var queue = try bench.queue(driver)
      // Before a chain of the whole ring there is no room.
      if links < 8 { driver.send(frame()) }
      let before = driver.made
      let place = driver.memory.allocate(64)
      for _ in 0..<links {
        driver.write(address: driver.memory.address(place), length: 12, flags: 1)
      }
      #expect(bench.gather(&queue) == (before, 64 * before))
      queue.publish()
      if before > 0 { #expect(driver.used?.id == 0) }
      #expect(driver.used(at: before) == nil)
      #expect(bench.counters.sample.fault == .chainWithoutEnd)
      // Putting it right again does not make it trusted.
      driver.writeRaw(
        before, address: driver.memory.address(place), length: 64, flags: 0x80)
      #expect(bench.gather(&queue).frames == 0)
    }
  }

  @Test("HG-06: a chain longer than is looked at is dropped whole, and the next begins behind it")
  func longChain() throws {
    let driver = try PackedDriver(size: 5000)
    let bench = try Bench()
    var queue = try bench.queue(driver)
    let place = driver.memory.allocate(64)
    for index in 0..<3000 {
      driver.write(
        address: driver.memory.address(place), length: index % 2 == 0 ? 0 : 1, id: 5,
        flags: index == 2999 ? 0 : 1)
    }
    driver.send(frame(), id: 6)
    #expect(bench.gather(&queue) == (2, 64))
    #expect(bench.counters.load(.chainTooLong) == 1)
    queue.publish()
    #expect(driver.used?.id == 5)
    driver.pass(3000)
    #expect(driver.used?.id == 6)
  }

  @Test("E26, HG-16: flags that do not say available are none, whatever else they say")
  func flags() throws {
    for start in [0, 8] {
      let driver = try PackedDriver(size: 8, start: start)
      let bench = try Bench()
      var queue = try bench.queue(driver)
      let place = driver.memory.allocate(76)
      let available: UInt16 = start == 0 ? 0x80 : 0x8000
      for flags in 0...UInt16.max where flags & 0x8080 != available {
        driver.writeRaw(0, address: driver.memory.address(place), length: 76, flags: flags)
        #expect(queue.gather(bench.burst).frames == 0)
      }
      // Every other bit that a driver may set, it may: they are reserved.
      for extra: UInt16 in [0x08, 0x10, 0x7F78] {
        driver.write(
          address: driver.memory.address(place), length: 76, id: 0xFFFF, flags: extra)
        let gathered = queue.gather(bench.burst)
        #expect(gathered.frames == 1 && gathered.dropped == 0)
        queue.publish()
        #expect(driver.used == .init(id: 0xFFFF, length: 0, isWritten: false), "any id is good")
        driver.pass(1)
      }
      #expect(bench.counters.sample.fault == nil)
    }
  }

  @Test(
    "A burst takes no more descriptors than the ring has, however fast the driver makes them anew")
  func overrun() throws {
    let driver = try PackedDriver(size: 3)
    let bench = try Bench()
    var queue = try bench.queue(driver)
    for _ in 0..<3 { driver.send(frame()) }
    #expect(bench.gather(&queue) == (3, 192))
    for _ in 0..<3 { driver.send(frame()) }
    #expect(bench.gather(&queue).frames == 0)
  }

  @Test("E22, E31, E79, E80: what no packed ring may be is refused with a reason")
  func refused() throws {
    let driver = try PackedDriver(size: 8)
    let bench = try Bench()
    let changes: [(inout RingSetup) -> Void] = [
      { $0.size = 0 }, { $0.size = 32_769 }, { $0.descriptors += 8 }, { $0.avail += 2 },
      { $0.used += 2 }, { $0.descriptors = 0 }, { $0.avail = RingMemory.userBase + (1 << 20) - 2 },
      { $0.used = .max - 3 }, { $0.base = 8 }, { $0.base = 0xFFFF },
    ]
    for change in changes {
      var setup = driver.setup()
      change(&setup)
      #expect(throws: DataplaneError.self) { _ = try bench.queue(driver, setup) }
    }
    var setup = driver.setup()
    setup.base = 0x8003
    #expect(try bench.queue(driver, setup).next.word == 0x8003, "E79, E80")
  }
}
