import Testing

@testable import Dataplane

/// How long a chain may be: as long as the ring, as far as a frame may have so many pieces. How one that is too
/// long ends, the tests of the transmitqs say.
@Suite struct ChainLengthTests {
  /// A header and a frame in `count` descriptors, all but the last of one byte.
  private func cut(_ count: Int) -> (bytes: [UInt8], lengths: [Int]) {
    let bytes = [UInt8](repeating: 0, count: 12) + frame(length: count + 100)
    return (bytes, [Int](repeating: 1, count: count - 1) + [bytes.count - count + 1])
  }

  @Test("E11: a chain of as many descriptors as a split ring has", arguments: [8, 64, 256, 512])
  func split(_ size: Int) throws {
    let memory = try RingMemory(size: size)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let (bytes, lengths) = cut(size)
    let place = memory.allocate(bytes.count)
    memory.write(bytes, at: place)
    for (index, length) in lengths.enumerated() {
      memory.describe(
        index, address: memory.address(place + index), length: UInt32(length),
        flags: index == size - 1 ? 0 : 1, next: UInt16(index + 1))
    }
    memory.offer(0)
    #expect(bench.gather(&queue) == (1, bytes.count - 12))
    #expect(bench.bytes(0) == Array(bytes.dropFirst(12)))
  }

  @Test("E11: a chain of as many descriptors as a packed ring has", arguments: [3, 64, 255, 512])
  func packed(_ size: Int) throws {
    let driver = try PackedDriver(size: size, start: size / 2)
    let bench = try Bench()
    var queue = try bench.queue(driver)
    let (bytes, lengths) = cut(size)
    let place = driver.memory.allocate(bytes.count)
    driver.memory.write(bytes, at: place)
    driver.offer(
      lengths.enumerated().map { .init(offset: place + $0.offset, length: $0.element) }, id: 5)
    #expect(bench.gather(&queue) == (1, bytes.count - 12))
    #expect(bench.bytes(0) == Array(bytes.dropFirst(12)))
    queue.publish()
    #expect(driver.used?.id == 5)
  }

  @Test("E11: a table of 1000 descriptors, however small the ring", arguments: [false, true])
  func tables(_ packed: Bool) throws {
    let bench = try Bench()
    let (bytes, lengths) = cut(1000)
    if packed {
      let driver = try PackedDriver(size: 1)
      var queue = try bench.queue(driver)
      let place = driver.memory.allocate(bytes.count)
      driver.memory.write(bytes, at: place)
      driver.offerIndirect(
        lengths.enumerated().map { .init(offset: place + $0.offset, length: $0.element) }, id: 5)
      #expect(bench.gather(&queue) == (1, bytes.count - 12))
      #expect(bench.bytes(0) == Array(bytes.dropFirst(12)))
    } else {
      let memory = try RingMemory(size: 1)
      var queue = try bench.queue(memory)
      let place = memory.allocate(bytes.count)
      memory.write(bytes, at: place)
      let table = memory.allocate(16 * 1000)
      for (index, length) in lengths.enumerated() {
        memory.describe(
          index, address: memory.address(place + index), length: UInt32(length),
          flags: index == 999 ? 0 : 1, next: UInt16(index + 1), table: table)
      }
      memory.describe(0, address: memory.address(table), length: 16_000, flags: 4)
      memory.offer(0)
      #expect(bench.gather(&queue) == (1, bytes.count - 12))
      #expect(bench.bytes(0) == Array(bytes.dropFirst(12)))
    }
  }
}
