import Testing

@testable import Dataplane

@Suite struct ReceiveqTests {
  /// Posts a writable chain of buffers of the given lengths, filled with 0xAA; returns their offsets.
  private func post(_ memory: RingMemory, _ lengths: [Int], first: Int = 0) -> [Int] {
    var places: [Int] = []
    for (index, length) in lengths.enumerated() {
      let place = memory.allocate(max(length, 1) + 64)
      memory.write([UInt8](repeating: 0xAA, count: length + 16), at: place)
      places.append(place)
      memory.describe(
        first + index, address: memory.address(place), length: UInt32(length),
        flags: index == lengths.count - 1 ? 2 : 3, next: UInt16(first + index + 1))
    }
    memory.offer(UInt16(first))
    return places
  }

  private func collect(_ memory: RingMemory, _ places: [Int], _ lengths: [Int], _ total: Int)
    -> [UInt8]
  {
    Array(zip(places, lengths).flatMap { memory.read($0, $1) }.prefix(total))
  }

  private func header(buffers: UInt8) -> [UInt8] {
    [UInt8](repeating: 0, count: 10) + [buffers, 0]
  }

  @Test("E10, E17, E61: a frame lands whole in any layout, behind a header of zeroes")
  func layouts() throws {
    for lengths in [
      [112], [200], [12, 100], [12, 200], [1, 111], [11, 1, 100], [5, 7, 16, 84], [0, 112],
      [28, 84], [29, 83], [Int](repeating: 16, count: 7),
    ] {
      let memory = try RingMemory(size: 16)
      let bench = try Bench()
      var queue = try bench.queue(memory)
      let places = post(memory, lengths)
      bench.hold(frame(length: 100), at: 0)
      let delivered = bench.deliver(&queue)
      #expect(delivered.frames == 1 && delivered.bytes == 100, "\(lengths)")
      #expect(memory.usedIndex == 0)
      queue.publish()
      #expect(memory.usedIndex == 1)
      #expect(memory.usedEntry(0).length == 112, "E17 \(lengths)")
      let got = collect(memory, places, lengths, 112)
      #expect(got == header(buffers: 1) + frame(length: 100), "\(lengths)")
      // Nothing is written beyond what is reported.
      let last = memory.read(places.last! + lengths.last!, 4)
      #expect(last == [0xAA, 0xAA, 0xAA, 0xAA])
    }
  }

  @Test("E49, E51, E52: a frame over several buffers fills each but the last")
  func mergeable() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let lengths = [100, 50, 30, 200]
    var places: [Int] = []
    for (index, length) in lengths.enumerated() {
      places += post(memory, [length], first: index)
    }
    bench.hold(frame(length: 300), at: 0)
    #expect(bench.deliver(&queue).frames == 1)
    #expect(memory.usedIndex == 0, "nothing of it is visible yet")
    queue.publish()
    #expect(memory.usedIndex == 4)
    #expect((0..<4).map { memory.usedEntry($0).length } == [100, 50, 30, 132])
    #expect((0..<4).map { memory.usedEntry($0).id } == [0, 1, 2, 3])
    #expect(collect(memory, places, lengths, 312) == header(buffers: 4) + frame(length: 300))
  }

  @Test("E10: a frame in pieces is joined on the way")
  func gatheredFrame() throws {
    let source = try RingMemory(size: 16)
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    let other = try Bench()
    var transmitq = try other.queue(source)
    var receiveq = try bench.queue(memory)
    let whole = [UInt8](repeating: 0, count: 12) + frame(length: 90)
    for index in 0..<6 {
      let place = source.allocate(17)
      source.write(Array(whole[(17 * index)..<(17 * index + 17)]), at: place)
      source.describe(
        index, address: source.address(place), length: 17, flags: index == 5 ? 0 : 1,
        next: UInt16(index + 1))
    }
    source.offer(0)
    #expect(bench.gather(&transmitq) == (1, 90))
    let places = post(memory, [40, 100])
    #expect(bench.deliver(&receiveq).frames == 1)
    #expect(collect(memory, places, [40, 100], 102) == header(buffers: 1) + frame(length: 90))
  }

  @Test(
    "Frames of 14 and 15 bytes, shorter than what is held of a frame", arguments: [14, 15, 16, 17])
  func shortest(_ length: Int) throws {
    let source = try RingMemory(size: 16)
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    let other = try Bench()
    var transmitq = try other.queue(source)
    var receiveq = try bench.queue(memory)
    source.send(frame(length: length))
    #expect(bench.gather(&transmitq) == (1, length))
    let places = post(memory, [100])
    #expect(bench.deliver(&receiveq).frames == 1)
    receiveq.publish()
    #expect(memory.usedEntry(0).length == UInt32(12 + length))
    #expect(memory.read(places[0] + 12, length + 2) == frame(length: length) + [0xAA, 0xAA])
  }

  @Test("E46: the legacy header has 10 bytes")
  func legacy() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory, memory.setup(mergeable: false, version1: false))
    let places = post(memory, [10, 100])
    bench.hold(frame(length: 60), at: 0)
    #expect(bench.deliver(&queue).frames == 1)
    queue.publish()
    #expect(memory.usedEntry(0).length == 70)
    #expect(memory.read(places[0], 10) == [UInt8](repeating: 0, count: 10))
    #expect(memory.read(places[1], 60) == frame(length: 60))
  }

  @Test("No buffer, and not enough buffers to merge: dropped by name, and the buffers stay")
  func noBuffer() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    bench.hold(frame(length: 300), at: 0)
    #expect(bench.deliver(&queue).frames == 0)
    #expect(bench.counters.load(.noReceiveBuffer) == 1)
    _ = post(memory, [100], first: 0)
    _ = post(memory, [100], first: 1)
    #expect(bench.deliver(&queue).frames == 0)
    #expect(bench.counters.load(.noReceiveBuffer) == 2)
    // What stayed serves the next frame.
    bench.hold(frame(length: 150), at: 0)
    #expect(bench.deliver(&queue).frames == 1)
    queue.publish()
    #expect(memory.usedIndex == 2)
  }

  @Test(
    "E49, E50: without merging a frame has one buffer; one too small is kept for a smaller frame")
  func tooSmall() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory, memory.setup(mergeable: false))
    let kept = post(memory, [100], first: 0)
    _ = post(memory, [100], first: 1)
    bench.hold(frame(length: 150), at: 0)
    bench.hold(frame(length: 80), at: 1)
    #expect(bench.deliver(&queue, count: 2).frames == 1)
    #expect(bench.counters.load(.receiveBufferTooSmall) == 1)
    queue.publish()
    #expect(memory.usedIndex == 1 && memory.usedEntry(0).length == 92)
    #expect(memory.read(kept[0], 92) == header(buffers: 1) + frame(length: 80))
  }

  @Test(
    "E49: a frame that its one buffer can't hold is too large, even when no further buffer is there"
  )
  func tooSmallAndAlone() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory, memory.setup(mergeable: false))
    _ = post(memory, [100], first: 0)
    bench.hold(frame(length: 150), at: 0)
    #expect(bench.deliver(&queue).frames == 0)
    #expect(bench.counters.load(.receiveBufferTooSmall) == 1)
  }

  @Test("E39: what exceeds the MTU is dropped; a VLAN tag does not count")
  func mtu() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    _ = post(memory, [2000], first: 0)
    _ = post(memory, [2000], first: 1)
    var tagged = frame(length: 1518)
    tagged[12] = 0x81
    tagged[13] = 0
    bench.hold(frame(length: 1515), at: 0)
    bench.hold(frame(length: 1514), at: 1)
    bench.hold(tagged, at: 2)
    #expect(bench.deliver(&queue, count: 3, limit: 1514).frames == 2)
    #expect(bench.counters.load(.exceedsMTU) == 1)
  }

  static let malformed: [(String, @Sendable (RingMemory) -> Void)] = [
    ("HG-09 device-readable", { $0.describe(0, address: $0.address(8192), length: 200) }),
    ("HG-01 outside", { $0.describe(0, address: 0x10, length: 200, flags: 2) }),
    ("HG-02 wraps", { $0.describe(0, address: .max - 4, length: 200, flags: 2) }),
    ("HG-05 loop", { $0.describe(0, address: $0.address(8192), length: 0, flags: 3, next: 0) }),
    ("HG-20 no room", { $0.describe(0, address: $0.address(8192), length: 0, flags: 2) }),
    ("HG-20 11 bytes", { $0.describe(0, address: $0.address(8192), length: 11, flags: 2) }),
    (
      "HG-09 directions mixed",
      {
        $0.describe(0, address: $0.address(8192), length: 50, flags: 3, next: 1)
        $0.describe(1, address: $0.address(8300), length: 200)
      }
    ),
  ]

  @Test(
    "A malformed buffer costs its guest one frame and goes back empty", arguments: malformed.indices
  )
  func malformedBuffer(_ index: Int) throws {
    let (name, corrupt) = ReceiveqTests.malformed[index]
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    corrupt(memory)
    memory.offer(0)
    let places = post(memory, [200], first: 5)
    bench.hold(frame(length: 80), at: 0)
    bench.hold(frame(length: 90), at: 1)
    #expect(bench.deliver(&queue, count: 2).frames == 1, "\(name)")
    #expect(bench.counters.load(.malformedReceiveBuffer) == 1, "\(name)")
    queue.publish()
    #expect(memory.usedIndex == 2)
    #expect(memory.usedEntry(0) == (0, 0))
    #expect(memory.usedEntry(1) == (5, 102))
    #expect(memory.read(places[0] + 12, 90) == frame(length: 90))
  }

  @Test("HG-20 a bad buffer among those to be merged: all go back empty")
  func malformedAmongMerged() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let places = post(memory, [100], first: 0)
    memory.describe(1, address: 0x10, length: 100, flags: 2)
    memory.offer(1)
    bench.hold(frame(length: 150), at: 0)
    #expect(bench.deliver(&queue).frames == 0)
    queue.publish()
    #expect(memory.usedIndex == 2)
    #expect(memory.usedEntry(0) == (0, 0) && memory.usedEntry(1) == (1, 0))
    #expect(memory.read(places[0], 4) == [0xAA, 0xAA, 0xAA, 0xAA])
  }

  @Test("HG-06 buffers of thousands of descriptors cost a burst so much, and their guest frames")
  func manyDescriptors() throws {
    let memory = try RingMemory(size: 64)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    let table = memory.allocate(16 * 3000, alignment: 16)
    for index in 0..<3000 {
      memory.describe(
        index, address: memory.address(600_000), length: index == 2999 ? 200 : 0,
        flags: index == 2999 ? 2 : 3, next: UInt16(index + 1), table: table)
    }
    for index in 0..<8 {
      memory.describe(index, address: memory.address(table), length: 16 * 3000, flags: 4)
      memory.offer(UInt16(index))
      bench.hold(frame(length: 80), at: index)
    }
    #expect(bench.deliver(&queue, count: 8).frames == 3)
    #expect(bench.counters.sample.drops == [.malformedReceiveBuffer: 5])
    // Those are there for the next burst.
    #expect(bench.deliver(&queue, count: 5).frames == 3)
    queue.publish()
    #expect(memory.usedIndex == 6 && memory.usedEntry(5) == (5, 92))
  }

  @Test("HG-10, HG-11 a broken receiveq drops by name")
  func broken() throws {
    let memory = try RingMemory(size: 16)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    memory.offer(99)
    bench.hold(frame(), at: 0)
    bench.hold(frame(), at: 1)
    #expect(bench.deliver(&queue, count: 2).frames == 0)
    #expect(bench.counters.load(.queueBroken) == 2)
    #expect(bench.counters.sample.fault == .headOutOfRange)
  }
}
