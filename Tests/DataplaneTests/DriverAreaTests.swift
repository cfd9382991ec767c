import Linux
import Testing

@testable import Dataplane

/// What is the driver's to write, and stays as the driver wrote it: descriptors and tables, the avail ring, the
/// frames it sends.
@Suite struct DriverAreaTests {
  /// All of the guest's memory, with zeroes where the device may write.
  private func contents(_ memory: RingMemory, but writable: [Range<Int>]) -> [UInt8] {
    var bytes = Array(
      UnsafeRawBufferPointer(start: memory.mapping.base, count: memory.mapping.length))
    for range in writable {
      bytes.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
    }
    return bytes
  }

  private func usedRing(_ memory: RingMemory) -> Range<Int> {
    memory.used..<memory.used + 6 + 8 * memory.size
  }

  @Test("E12: of a split transmitq's memory only the used ring is written")
  func transmitq() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    // Plain, in pieces, in a table, and one that is no good.
    memory.send(frame(), descriptor: 0)
    let place = memory.allocate(200)
    memory.write([UInt8](repeating: 0, count: 12) + frame(length: 100), at: place)
    for (index, length) in [12, 50, 50].enumerated() {
      let at = memory.address(place + [0, 12, 62][index])
      memory.describe(
        1 + index, address: at, length: UInt32(length), flags: index == 2 ? 0 : 1,
        next: UInt16(2 + index))
    }
    let table = memory.allocate(16)
    memory.describe(0, address: memory.address(place), length: 112, table: table)
    memory.describe(4, address: memory.address(table), length: 16, flags: 4)
    memory.describe(5, address: memory.address(place), length: 112, flags: 2)
    memory.offer(1, 4, 5)
    let before = contents(memory, but: [usedRing(memory)])
    #expect(bench.gather(&queue).frames == 4)
    queue.publish()
    queue.suppressKicks()
    _ = queue.requestKicks()
    #expect(memory.usedIndex == 4)
    #expect(contents(memory, but: [usedRing(memory)]) == before)
  }

  @Test("E12: of a split receiveq's memory only the used ring and the buffers are written")
  func receiveq() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let buffers = memory.allocate(300)
    memory.describe(0, address: memory.address(buffers), length: 100, flags: 3, next: 1)
    memory.describe(1, address: memory.address(buffers + 100), length: 100, flags: 2)
    // For the device to read, in a place where it should write.
    let readable = memory.allocate(100)
    memory.describe(2, address: memory.address(readable), length: 100)
    memory.offer(2, 0)
    let writable = [usedRing(memory), buffers..<buffers + 112]
    let before = contents(memory, but: writable)
    bench.hold(frame(length: 100), at: 0)
    #expect(bench.deliver(&queue).frames == 0)
    #expect(bench.deliver(&queue).frames == 1)
    queue.publish()
    #expect(memory.usedIndex == 2)
    #expect(memory.usedEntry(0).length == 0 && memory.usedEntry(1).length == 112)
    #expect(contents(memory, but: writable) == before)
  }

  @Test(
    "E12, E26: of a packed ring's memory only the ring, the device's area and receive buffers are")
  func packed() throws {
    let driver = try PackedDriver(size: 5, start: 3)
    let memory = driver.memory
    let bench = try Bench()
    var queue = try bench.queue(driver)
    let place = memory.allocate(200)
    memory.write([UInt8](repeating: 0, count: 12) + frame(length: 100), at: place)
    driver.offer([.init(offset: place, length: 12), .init(offset: place + 12, length: 100)], id: 1)
    driver.offerIndirect([.init(offset: place, length: 112)], id: 2)
    let ring = [0..<16 * 5, memory.used..<memory.used + 4]
    let before = contents(memory, but: ring)
    #expect(bench.gather(&queue).frames == 2)
    queue.publish()
    queue.suppressKicks()
    _ = queue.requestKicks()
    #expect(driver.used?.id == 1)
    #expect(contents(memory, but: ring) == before)

    let other = try PackedDriver(size: 5)
    var receiveq = try bench.queue(other)
    let buffer = other.memory.allocate(200)
    other.offerIndirect([.init(offset: buffer, length: 200, writable: true)], id: 3)
    let writable = [
      0..<16 * 5, other.memory.used..<other.memory.used + 4, buffer..<buffer + 112,
    ]
    let untouched = contents(other.memory, but: writable)
    bench.hold(frame(length: 100), at: 0)
    #expect(bench.deliver(&receiveq).frames == 1)
    receiveq.publish()
    #expect(other.used?.length == 112)
    #expect(contents(other.memory, but: writable) == untouched)
  }
}
