import CVector
import Glibc
import Linux
import Testing

@testable import Dataplane

/// The vector code beside the plain one: what both make of the same rings must be the same to the byte.
@Suite(.enabled(if: cvx_available() != 0, "the processor has no AVX-512"))
struct VectorTests {
  /// A small generator, so that a failing round can be made again.
  struct Random: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return state
    }
  }

  /// Fills a ring with descriptors, most of them plain and good, some wrong in one way.
  private func fill(_ memory: RingMemory, writable: Bool, _ random: inout Random, wrong: Int) {
    let last = UInt64(memory.mapping.length)
    for index in 0..<memory.size {
      var address = memory.address(
        memory.buffers
          + Int.random(in: 0..<(memory.mapping.length - memory.buffers - 2100), using: &random))
      var length = UInt32.random(in: 28...1600, using: &random)
      var flags: UInt16 = writable ? 2 : 0
      if Int.random(in: 0..<100, using: &random) < wrong {
        switch Int.random(in: 0..<9, using: &random) {
        case 0: flags ^= 2
        case 1: flags |= 1
        case 2: flags |= 4
        case 3: length = UInt32.random(in: 0...30, using: &random)
        case 4: length = .random(in: 65_000...(.max), using: &random)
        case 5: address = .random(in: 0...(.max), using: &random)
        case 6: address = RingMemory.guestBase + last - UInt64(length) / 2
        case 7: address = RingMemory.guestBase + last - UInt64(length)
        default: address = UInt64.max - 20
        }
      }
      memory.describe(
        index, address: address, length: length, flags: flags,
        next: UInt16.random(in: 0..<UInt16(memory.size), using: &random))
    }
  }

  private func offer(_ memory: RingMemory, _ count: Int, _ random: inout Random, wrong: Int) {
    for _ in 0..<count {
      let bad = Int.random(in: 0..<1000, using: &random) < wrong
      memory.offer(UInt16.random(in: 0..<UInt16(memory.size + (bad ? 100 : 0)), using: &random))
    }
  }

  private func copy(_ from: RingMemory, to: RingMemory) {
    to.mapping.base.copyMemory(from: from.mapping.base, byteCount: from.mapping.length)
  }

  private func same(_ a: RingMemory, _ b: RingMemory) -> Bool {
    memcmp(a.mapping.base, b.mapping.base, a.mapping.length) == 0
  }

  @Test("Transmitqs", arguments: [0, 2, 30], [1, 4, 8, 64, 256])
  func transmitq(wrong: Int, size: Int) throws {
    var random = Random(state: UInt64(wrong * 1000 + size + 1))
    for round in 0..<40 {
      let base = UInt16.random(in: 0...(.max), using: &random)
      let memories = try [
        RingMemory(size: size, bytes: 1 << 17), RingMemory(size: size, bytes: 1 << 17),
      ]
      let benches = try [Bench(vectors: true), Bench(vectors: false)]
      for at in stride(from: 0, to: 1 << 17, by: 8) where at >= memories[0].buffers {
        memories[0].mapping.base.storeBytes(
          of: random.next() & ~0xFFFF, toByteOffset: at, as: UInt64.self)
      }
      memories[0].availIndex = base
      memories[0].usedIndex = base &+ 7
      fill(memories[0], writable: false, &random, wrong: wrong)
      offer(memories[0], min(size, 100), &random, wrong: wrong)
      copy(memories[0], to: memories[1])
      var results: [[String]] = []
      for (memory, bench) in zip(memories, benches) {
        var queue = try bench.queue(memory, memory.setup(base: UInt32(base)))
        var result: [String] = []
        for _ in 0..<3 {
          let gathered = bench.gather(&queue)
          result.append("\(gathered) \(bench.gathered)")
          for index in 0..<gathered.frames where !bench.isDropped(index) {
            let start = bench.burst.addresses[index] &- UInt(bitPattern: memory.mapping.base)
            result.append(
              "\(bench.burst.addresses[index] == 0 ? 0 : start) \(bench.burst.lengths[index]) \(bench.burst.headers[index])"
            )
          }
          queue.publish()
        }
        results.append(result)
      }
      #expect(results[0] == results[1], "round \(round)")
      #expect(benches[0].counters.sample == benches[1].counters.sample, "round \(round)")
      #expect(same(memories[0], memories[1]), "round \(round)")
    }
  }

  @Test("Receiveqs", arguments: [0, 2, 30], [1, 4, 8, 64, 256])
  func receiveq(wrong: Int, size: Int) throws {
    var random = Random(state: UInt64(wrong * 1000 + size + 1))
    for round in 0..<40 {
      let base = UInt16.random(in: 0...(.max), using: &random)
      let legacy = Bool.random(using: &random)
      let memories = try [
        RingMemory(size: size, bytes: 1 << 17), RingMemory(size: size, bytes: 1 << 17),
      ]
      let benches = try [Bench(vectors: true), Bench(vectors: false)]
      memories[0].availIndex = base
      memories[0].usedIndex = base &- 9
      fill(memories[0], writable: true, &random, wrong: wrong)
      offer(memories[0], min(size, 100), &random, wrong: wrong)
      copy(memories[0], to: memories[1])
      var frames: [[UInt8]] = []
      for index in 0..<40 {
        let longest = round % 2 == 0 ? 150 : 1800
        frames.append(
          frame(length: Int.random(in: 16...longest, using: &random), seed: UInt8(index)))
      }
      var order = Array(UInt16(0)..<40)
      if round % 3 == 0 { order = order.filter { _ in Bool.random(using: &random) } }
      let limit = UInt32(round % 5 == 0 ? 120 : 65_550)
      var results: [[String]] = []
      for (memory, bench) in zip(memories, benches) {
        var queue = try bench.queue(
          memory, memory.setup(base: UInt32(base), mergeable: !legacy, version1: !legacy))
        for (index, bytes) in frames.enumerated() { bench.hold(bytes, at: index) }
        for (position, index) in order.enumerated() { bench.burst.order[position] = index }
        var result: [String] = []
        for _ in 0..<2 {
          let delivered = queue.deliver(bench.burst, bench.burst.order, order.count, limit: limit)
          result.append("\(delivered)")
          queue.publish()
        }
        results.append(result)
      }
      #expect(results[0] == results[1], "round \(round)")
      #expect(benches[0].counters.sample == benches[1].counters.sample, "round \(round)")
      #expect(same(memories[0], memories[1]), "round \(round)")
    }
  }

  /// Makes `count` descriptors available, most of them plain and good, some wrong in one way.
  private func fill(
    _ driver: PackedDriver, _ count: Int, writable: Bool, _ random: inout Random, wrong: Int
  ) {
    for number in 0..<count {
      let offset = Int.random(in: driver.memory.buffers..<(100_000), using: &random)
      var address = driver.memory.address(offset)
      var length = UInt32.random(in: 28...1600, using: &random)
      var flags: UInt16 = writable ? 2 : 0
      if Int.random(in: 0..<100, using: &random) < wrong {
        switch Int.random(in: 0..<6, using: &random) {
        case 0: flags ^= 2
        case 1: flags |= 1
        case 2: flags |= 4
        case 3: length = UInt32.random(in: 0...30, using: &random)
        case 4: length = .random(in: 65_000...(.max), using: &random)
        default: address = .random(in: 0...(.max), using: &random)
        }
      }
      driver.write(address: address, length: length, id: UInt16(number), flags: flags)
    }
  }

  @Test("Packed transmitqs", arguments: [0, 2, 30], [1, 3, 8, 100, 256])
  func packedTransmitq(wrong: Int, size: Int) throws {
    var random = Random(state: UInt64(wrong * 1000 + size + 1))
    for round in 0..<40 {
      let start = Int.random(in: 0..<(2 * size), using: &random)
      let drivers = try (0..<2).map { _ in
        try PackedDriver(size: size, start: start, bytes: 1 << 17)
      }
      let setup = drivers[0].setup(inOrder: round % 3 == 0)
      let benches = try [Bench(vectors: true), Bench(vectors: false)]
      let count = min(size, Int.random(in: 1...100, using: &random))
      fill(drivers[0], count, writable: false, &random, wrong: wrong)
      copy(drivers[0].memory, to: drivers[1].memory)
      var results: [[String]] = []
      for (driver, bench) in zip(drivers, benches) {
        var queue = try bench.queue(driver, setup)
        var result: [String] = []
        for _ in 0..<3 {
          var gathered = queue.gather(bench.burst)
          if gathered.frames > 0 {
            _ = bench.burst.judge(
              &gathered, headerSize: queue.headerSize, allowed: .none, bench.counters)
          }
          result.append("\(gathered) \(queue.next)")
          for index in 0..<gathered.frames where gathered.dropped >> UInt64(index) & 1 == 0 {
            let address = bench.burst.addresses[index]
            let place = address == 0 ? 0 : address &- UInt(bitPattern: driver.memory.mapping.base)
            result.append("\(place) \(bench.burst.lengths[index]) \(bench.burst.headers[index])")
          }
          queue.publish()
        }
        results.append(result)
      }
      #expect(results[0] == results[1], "round \(round)")
      #expect(benches[0].counters.sample == benches[1].counters.sample, "round \(round)")
      #expect(same(drivers[0].memory, drivers[1].memory), "round \(round)")
    }
  }

  @Test("Packed receiveqs", arguments: [0, 2, 30], [1, 3, 8, 100, 256])
  func packedReceiveq(wrong: Int, size: Int) throws {
    var random = Random(state: UInt64(wrong * 1000 + size + 1))
    for round in 0..<40 {
      let start = Int.random(in: 0..<(2 * size), using: &random)
      let drivers = try (0..<2).map { _ in
        try PackedDriver(size: size, start: start, bytes: 1 << 17)
      }
      let setup = drivers[0].setup(inOrder: round % 3 == 0)
      let benches = try [Bench(vectors: true), Bench(vectors: false)]
      let count = min(size, Int.random(in: 1...100, using: &random))
      fill(drivers[0], count, writable: true, &random, wrong: wrong)
      copy(drivers[0].memory, to: drivers[1].memory)
      let longest = round % 2 == 0 ? 150 : 1800
      let frames = (0..<40).map { index in
        frame(length: Int.random(in: 16...longest, using: &random), seed: UInt8(index))
      }
      var results: [[String]] = []
      for (driver, bench) in zip(drivers, benches) {
        var queue = try bench.queue(driver, setup, isTransmitq: false)
        for (index, bytes) in frames.enumerated() { bench.hold(bytes, at: index) }
        var result: [String] = []
        for _ in 0..<2 {
          let delivered = queue.deliver(
            bench.burst, bench.burst.natural, frames.count, limit: round % 5 == 0 ? 120 : 65_550)
          result.append("\(delivered) \(queue.next)")
          queue.publish()
        }
        results.append(result)
      }
      #expect(results[0] == results[1], "round \(round)")
      #expect(benches[0].counters.sample == benches[1].counters.sample, "round \(round)")
      #expect(same(drivers[0].memory, drivers[1].memory), "round \(round)")
    }
  }
}
