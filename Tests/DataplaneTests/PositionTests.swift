import Testing

@testable import Dataplane

/// Where a ring goes on whose front-end does not know, or knows something else than its memory says.
@Suite struct PositionTests {
  @Test("A split ring goes on where its used ring ends, whatever base was told (E80)")
  func usedIndex() throws {
    for base in [0, 3, 5, 7] as [UInt32] {
      let memory = try RingMemory(size: 8)
      let bench = try Bench()
      memory.availIndex = 5
      memory.usedIndex = 5
      // Two buffers that a back-end which is gone had not used.
      memory.send(frame(seed: 1), descriptor: 1)
      memory.send(frame(seed: 2), descriptor: 2)
      var queue = try bench.queue(memory, memory.setup(base: base))
      #expect(queue.nextAvail == 5, "base \(base)")
      #expect(bench.gather(&queue) == (2, 128), "base \(base)")
      #expect(bench.bytes(0) == frame(seed: 1) && bench.bytes(1) == frame(seed: 2))
      queue.publish()
      #expect(memory.usedIndex == 7)
      #expect(memory.usedEntry(5).id == 1 && memory.usedEntry(6).id == 2)
    }
  }

  @Test("Of a used index that can't be, a split ring goes on at its base")
  func implausible() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    memory.usedIndex = 9000
    memory.availIndex = 20
    memory.send(frame(seed: 3), descriptor: 3)
    var queue = try bench.queue(memory, memory.setup(base: 20))
    #expect(bench.gather(&queue) == (1, 64))
    #expect(bench.bytes(0) == frame(seed: 3))
    // What the driver will compare with is what it has put there.
    queue.publish()
    #expect(memory.usedIndex == 9001)
  }

  @Test(
    "What a driver clears after its ring was started and before its first buffer counts (E74)",
    arguments: [5, 200, 40_000, 65_530])
  func cleared(_ old: UInt16) throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    // Another driver's leavings.
    memory.availIndex = old
    memory.usedIndex = old
    var queue = try bench.queue(memory, memory.setup(base: UInt32(old)))
    #expect(bench.gather(&queue) == (0, 0))
    memory.availIndex = 0
    memory.usedIndex = 0
    for number in 0..<7 as Range<UInt8> {
      memory.send(frame(seed: number), descriptor: Int(number))
    }
    #expect(bench.gather(&queue) == (7, 7 * 64), "\(old)")
    for number in 0..<7 { #expect(bench.bytes(number) == frame(seed: UInt8(number))) }
    queue.publish()
    #expect(memory.usedIndex == 7)
    #expect((0..<7).map { memory.usedEntry($0).id } == Array(0..<7))
    #expect(!bench.counters.isBroken)
  }

  @Test("Once a buffer was taken, an index that jumps breaks the ring (HG-11)")
  func jump() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    memory.send(frame())
    #expect(bench.gather(&queue) == (1, 64))
    queue.publish()
    memory.availIndex = 40
    memory.usedIndex = 38
    #expect(bench.gather(&queue) == (0, 0))
    #expect(bench.counters.fault == .availIndexJump)
  }

  @Test("A split ring whose first look finds a jump is broken")
  func firstJump() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    memory.availIndex = 9
    #expect(bench.gather(&queue) == (0, 0))
    #expect(bench.counters.fault == .availIndexJump)
  }

  @Test("A receiveq that is started with its base behind its buffers receives")
  func receiveq() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    let place = memory.allocate(8 * 256)
    for index in 0..<8 {
      memory.describe(index, address: memory.address(place + 256 * index), length: 256, flags: 2)
      memory.offer(UInt16(index))
    }
    var queue = try bench.queue(memory, memory.setup(base: 8))
    bench.hold(frame(), at: 0)
    #expect(bench.deliver(&queue).frames == 1)
    queue.publish()
    #expect(memory.usedIndex == 1 && memory.usedEntry(0).id == 0)
  }

  @Test(
    "A packed ring goes on where the used half of its base is, and without one at the other (E80)")
  func packed() throws {
    let driver = try PackedDriver(size: 8, start: 5)
    let bench = try Bench()
    driver.send(frame(seed: 1), id: 1)
    driver.send(frame(seed: 2), id: 2)
    var setup = driver.setup()
    setup.base = UInt32(driver.word(5)) << 16 | UInt32(driver.word(7))
    var queue = try bench.queue(driver, setup)
    #expect(bench.gather(&queue) == (2, 128))
    #expect(bench.bytes(0) == frame(seed: 1))
    let late = try PackedDriver(size: 8, start: 6)
    var other = try bench.queue(late)
    late.send(frame(seed: 2), id: 2)
    #expect(late.setup().base >> 16 == 0)
    #expect(bench.gather(&other) == (1, 64))
    #expect(bench.bytes(0) == frame(seed: 2))
  }
}
