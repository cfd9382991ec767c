import Linux
import Testing

@testable import Dataplane

@Suite struct PackedReceiveqTests {
  /// Posts a writable chain of buffers of the given lengths, filled with 0xAA; returns its parts.
  @discardableResult
  private func post(
    _ driver: PackedDriver, _ lengths: [Int], id: UInt16 = 0, indirect: Bool = false
  ) -> [PackedDriver.Part] {
    let parts = lengths.map { length in
      let place = driver.memory.allocate(max(length, 1) + 64)
      driver.memory.write([UInt8](repeating: 0xAA, count: length + 16), at: place)
      return PackedDriver.Part(offset: place, length: length, writable: true)
    }
    if indirect {
      driver.offerIndirect(parts, id: id)
    } else {
      driver.offer(parts, id: id)
    }
    return parts
  }

  private func collect(
    _ driver: PackedDriver, _ parts: [PackedDriver.Part], _ total: Int
  ) -> [UInt8] {
    Array(parts.flatMap { driver.memory.read($0.offset, $0.length) }.prefix(total))
  }

  private func header(buffers: UInt8) -> [UInt8] {
    [UInt8](repeating: 0, count: 10) + [buffers, 0]
  }

  @Test("E10, E28, E61: a frame lands whole in any layout, behind a header of zeroes")
  func layouts() throws {
    for lengths in [
      [112], [200], [12, 100], [12, 200], [1, 111], [11, 1, 100], [5, 7, 16, 84], [0, 112],
      [28, 84], [29, 83], [Int](repeating: 16, count: 7),
    ] {
      for indirect in [false, true] {
        let driver = try PackedDriver(size: 15, start: 12)
        let bench = try Bench()
        var queue = try bench.queue(driver, isTransmitq: false)
        let parts = post(driver, lengths, id: 9, indirect: indirect)
        bench.hold(frame(length: 100), at: 0)
        let delivered = bench.deliver(&queue)
        #expect(delivered.frames == 1 && delivered.bytes == 100, "\(lengths)")
        #expect(driver.used == nil)
        queue.publish()
        #expect(driver.used == .init(id: 9, length: 112, isWritten: true), "E29 \(lengths)")
        #expect(
          collect(driver, parts, 112) == header(buffers: 1) + frame(length: 100), "\(lengths)")
        // Nothing is written beyond what is reported.
        let end = parts[parts.count - 1]
        #expect(driver.memory.read(end.offset + end.length, 4) == [0xAA, 0xAA, 0xAA, 0xAA])
        #expect(queue.next.word == driver.word(driver.made))
      }
    }
  }

  @Test(
    "E49, E51, E52: a frame over several buffers, all shown by the first", arguments: [false, true])
  func mergeable(inOrder: Bool) throws {
    let driver = try PackedDriver(size: 7, start: 4)
    let bench = try Bench()
    var queue = try bench.queue(driver, driver.setup(inOrder: inOrder), isTransmitq: false)
    let chains = [[100], [20, 30], [30], [200]]
    let parts = chains.enumerated().flatMap { post(driver, $1, id: UInt16(40 + $0)) }
    bench.hold(frame(length: 300), at: 0)
    #expect(bench.deliver(&queue).frames == 1)
    #expect(driver.used == nil, "nothing of it is visible yet")
    queue.publish()
    for (index, chain) in chains.enumerated() {
      let length: UInt32 = index == 3 ? 132 : UInt32(chain.reduce(0, +))
      #expect(driver.used == .init(id: UInt16(40 + index), length: length, isWritten: true))
      driver.pass(chain.count)
    }
    #expect(collect(driver, parts, 312) == header(buffers: 4) + frame(length: 300))
  }

  @Test(
    "E24, E26: bursts over many laps; what finds no buffer is a named drop",
    arguments: [1, 2, 3, 5, 8, 61, 64, 100])
  func laps(_ size: Int) throws {
    let driver = try PackedDriver(size: size)
    let bench = try Bench()
    var queue = try bench.queue(driver, isTransmitq: false)
    let place = driver.memory.allocate(100 * 128)
    for index in 0..<64 { bench.hold(frame(length: 60, seed: UInt8(index)), at: index) }
    var dropped: UInt64 = 0
    for round in 0..<(4 * size + 10) {
      let count = min(1 + round % size, 60)
      for index in 0..<count {
        driver.offer(
          [.init(offset: place + 128 * index, length: 128, writable: true)], id: UInt16(index))
      }
      let delivered = bench.deliver(&queue, count: count + 3)
      #expect(delivered.frames == count && delivered.bytes == 60 * count)
      dropped += 3
      #expect(driver.used == nil)
      queue.publish()
      for index in 0..<count {
        #expect(driver.used == .init(id: UInt16(index), length: 72, isWritten: true))
        #expect(
          driver.memory.read(place + 128 * index, 72)
            == header(buffers: 1) + frame(length: 60, seed: UInt8(index)))
        driver.pass(1)
      }
      #expect(driver.used == nil)
    }
    #expect(bench.counters.sample.drops == [.noReceiveBuffer: dropped])
  }

  @Test("E49: without merging a frame has one buffer, which is kept for one that fits")
  func tooSmall() throws {
    let driver = try PackedDriver(size: 5)
    let bench = try Bench()
    var queue = try bench.queue(driver, driver.setup(mergeable: false), isTransmitq: false)
    post(driver, [80])
    post(driver, [200], id: 1)
    bench.hold(frame(length: 100), at: 0)
    #expect(bench.deliver(&queue).frames == 0)
    #expect(bench.counters.sample.drops == [.receiveBufferTooSmall: 1])
    bench.hold(frame(length: 60), at: 0)
    #expect(bench.deliver(&queue).frames == 1)
    queue.publish()
    #expect(driver.used == .init(id: 0, length: 72, isWritten: true))
  }

  @Test(
    "HG-09, HG-20: a buffer that is no good goes back empty, with those set aside for the frame")
  func malformed() throws {
    let bad: [@Sendable (PackedDriver) -> Void] = [
      { $0.write(address: 0x1000, length: 200, id: 5, flags: 2) },
      { $0.write(address: $0.memory.address(8192), length: 200, id: 5) },
      { $0.write(address: $0.memory.address(8192), length: 0, id: 5, flags: 2) },
      { $0.write(address: $0.memory.address(8192), length: 17, id: 5, flags: 6) },
      {
        $0.write(address: $0.memory.address(8192), length: 20, id: 4, flags: 3)
        $0.write(address: $0.memory.address(8192), length: 20, id: 5)
      },
    ]
    for corrupt in bad {
      let driver = try PackedDriver(size: 5, start: 3)
      let bench = try Bench()
      var queue = try bench.queue(driver, isTransmitq: false)
      post(driver, [50], id: 1)
      corrupt(driver)
      let slots = driver.made - 4
      bench.hold(frame(length: 100), at: 0)
      #expect(bench.deliver(&queue).frames == 0)
      #expect(bench.counters.sample.drops == [.malformedReceiveBuffer: 1])
      queue.publish()
      #expect(driver.used == .init(id: 1, length: 0, isWritten: false))
      driver.pass(1)
      #expect(driver.used == .init(id: 5, length: 0, isWritten: false))
      driver.pass(slots)
      post(driver, [200], id: 2)
      #expect(bench.deliver(&queue).frames == 1)
      queue.publish()
      #expect(driver.used == .init(id: 2, length: 112, isWritten: true))
    }
  }

  @Test("HG-16: a receive chain without an end breaks the ring")
  func withoutEnd() throws {
    let driver = try PackedDriver(size: 5)
    let bench = try Bench()
    var queue = try bench.queue(driver, isTransmitq: false)
    post(driver, [200])
    driver.write(address: driver.memory.address(8192), length: 50, flags: 3)
    for index in 0..<4 { bench.hold(frame(length: 100), at: index) }
    #expect(bench.deliver(&queue, count: 4).frames == 1)
    #expect(bench.counters.sample.fault == .chainWithoutEnd)
    #expect(bench.counters.sample.drops == [.queueBroken: 3])
    // What the ring says from now on is not believed.
    post(driver, [200])
    #expect(bench.deliver(&queue, count: 1).frames == 0)
  }
}
