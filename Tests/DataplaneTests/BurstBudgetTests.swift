import Testing

@testable import Dataplane

/// How many bytes a turn may bring: `Burst.size` × `Burst.share`, and one frame. What is not taken stays in the ring, and
/// nothing is lost.
@Suite struct BurstBudgetTests {
  /// Most bytes of a burst whose longest frame is so long.
  private static func most(_ longest: Int) -> Int { 128 << 10 + longest }

  /// Lengths of frames, which a guest sends again and again.
  static let lengths: [[Int]] = [
    [65_550], [60_000, 64], [64, 64, 64, 65_550], [2048, 65_550], [2049], [2049, 2048],
    [4096, 1514], [9014],
    [16, 65_550, 2048, 2049, 1514], [32_768, 14],
  ]

  /// How the header and the frame lie in descriptors; the last takes what is left.
  enum Layout: CaseIterable {
    case whole, header, parts, many

    func cut(_ length: Int) -> [Int] {
      switch self {
      case .whole: [12 + length]
      case .header: [12, length]
      case .parts: [12, 10, length - 10]
      case .many: [5, 7] + [Int](repeating: 1, count: 12) + [length - 12]
      }
    }
  }

  private let place = 1 << 17
  private let whole = [UInt8](repeating: 0, count: 12) + frame(length: 65_550)

  /// Gathers until `count` frames have come. Returns the lengths, a burst each.
  private func gather(_ queue: inout some Virtqueue, _ bench: Bench, _ count: Int) -> [[Int]] {
    var bursts: [[Int]] = []
    while bursts.joined().count < count {
      let (frames, bytes) = bench.gather(&queue)
      if frames == 0 { break }
      bursts.append((0..<frames).map { Int(bench.burst.lengths[$0]) })
      #expect(bursts.last?.reduce(0, +) == bytes)
      queue.publish()
    }
    return bursts
  }

  private func check(_ bursts: [[Int]], _ sent: [Int]) {
    #expect(Array(bursts.joined()) == sent, "nothing is lost, and nothing overtakes")
    for (number, burst) in bursts.enumerated() {
      // Without the last frame it was not full yet.
      let before = burst.dropLast().reduce(0, +)
      #expect(before < 128 << 10)
      #expect(burst.reduce(0, +) <= BurstBudgetTests.most(burst.max() ?? 0))
      if number < bursts.count - 1 {
        let shares = burst.reduce(0) { $0 + ($1 + 2047) / 2048 }
        #expect(shares >= 64, "a burst is as large as it may be")
      }
    }
  }

  @Test("A split ring's", arguments: lengths, Layout.allCases)
  func split(_ lengths: [Int], _ layout: Layout) throws {
    for indirect in [false, true] where !indirect || layout != .whole {
      let memory = try RingMemory(size: 2048)
      let bench = try Bench()
      var queue = try bench.queue(memory)
      memory.write(whole, at: place)
      var sent: [Int] = []
      var descriptor = 0
      while sent.count < 130 {
        let length = lengths[sent.count % lengths.count]
        let cuts = layout.cut(length)
        let table = indirect ? memory.allocate(16 * cuts.count, alignment: 16) : 0
        precondition(table + 16 * cuts.count < place)
        var offset = place
        for (index, cut) in cuts.enumerated() {
          let number = (indirect ? 0 : descriptor) + index
          memory.describe(
            number, address: memory.address(offset), length: UInt32(cut),
            flags: index == cuts.count - 1 ? 0 : 1, next: UInt16(number + 1), table: table)
          offset += cut
        }
        if indirect {
          memory.describe(
            descriptor, address: memory.address(table), length: UInt32(16 * cuts.count), flags: 4)
        }
        memory.offer(UInt16(descriptor))
        descriptor += indirect ? 1 : cuts.count
        sent.append(length)
      }
      check(gather(&queue, bench, sent.count), sent)
      #expect(memory.usedIndex == sent.count)
    }
  }

  @Test("A packed ring's", arguments: lengths, Layout.allCases)
  func packed(_ lengths: [Int], _ layout: Layout) throws {
    for indirect in [false, true] where !indirect || layout != .whole {
      let driver = try PackedDriver(size: 2048, start: 2000)
      let bench = try Bench()
      var queue = try bench.queue(driver)
      driver.memory.write(whole, at: place)
      var sent: [Int] = []
      while sent.count < 130 {
        let length = lengths[sent.count % lengths.count]
        var offset = place
        let parts = layout.cut(length).map { cut in
          defer { offset += cut }
          return PackedDriver.Part(offset: offset, length: cut)
        }
        if indirect {
          driver.offerIndirect(parts, id: 1)
        } else {
          driver.offer(parts, id: 1)
        }
        sent.append(length)
      }
      check(gather(&queue, bench, sent.count), sent)
      #expect(queue.next.word == driver.word(driver.made))
    }
  }

  @Test(
    "64 frames of up to 2 KiB are one burst, in any layout", arguments: [64, 1514, 2048],
    Layout.allCases)
  func ordinary(_ length: Int, _ layout: Layout) throws {
    let driver = try PackedDriver(size: 2048)
    let bench = try Bench()
    var queue = try bench.queue(driver)
    driver.memory.write(whole, at: place)
    for _ in 0..<70 {
      var offset = place
      driver.offer(
        layout.cut(length).map { cut in
          defer { offset += cut }
          return PackedDriver.Part(offset: offset, length: cut)
        }, id: 1)
    }
    #expect(gather(&queue, bench, 70).map(\.count) == [64, 6])
  }

  @Test("Chains that are dropped count as one frame each, whatever they say of their length")
  func dropped() throws {
    let memory = try RingMemory(size: 64)
    let bench = try Bench()
    var queue = try bench.queue(memory)
    for index in 0..<64 {
      memory.describe(index, address: memory.address(place), length: index == 63 ? 76 : 0xFFFF_FFFF)
      memory.offer(UInt16(index))
    }
    #expect(bench.gather(&queue) == (64, 64))
    #expect(bench.counters.load(.malformedDescriptor) == 63)
  }
}
