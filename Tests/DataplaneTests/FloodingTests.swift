import Linux
import Testing

@testable import Dataplane

/// Floods to more ports than a turn may reach.
@Suite struct FloodingTests {
  /// A sender and receivers with one ring of posted buffers each, turned by hand.
  private struct Bed {
    let plane: Dataplane
    let sender: RingMemory
    let port: Int
    let receivers: [(port: Int, ring: RingMemory)]

    /// - Parameters:
    ///   - uplinks: places of receivers that are uplinks.
    ///   - buffer: bytes of each receiver's one buffer.
    init(_ count: Int, uplinks: Set<Int> = [], buffer: Int) throws {
      plane = try Dataplane(
        .init(workers: [.init(cpu: nil, node: 0)], hugepages: false, threads: false))
      let plane = plane
      port = try plane.addPort(pairs: 1)
      sender = try RingMemory(size: 64, bytes: 1 << 20)
      receivers = try (0..<count).map { place in
        let port = try plane.addPort(pairs: 1, isUplink: uplinks.contains(place))
        let ring = try RingMemory(size: 64, bytes: 1 << 18)
        let at = ring.address(ring.allocate(buffer))
        // All of them the same memory, which nobody reads here.
        for index in 0..<64 { ring.describe(index, address: at, length: UInt32(buffer), flags: 2) }
        try plane.startRing(0, of: port, ring.setup(), memory: ring.memory, worker: 0)
        return (port, ring)
      }
      try plane.startRing(1, of: port, sender.setup(), memory: sender.memory, worker: 0)
    }

    /// Makes `count` buffers of each receiver available.
    func post(_ count: Int) {
      for (_, ring) in receivers { for index in 0..<count { ring.offer(UInt16(index)) } }
    }

    var drops: [DropReason: UInt64] {
      plane.counters(port: port, queue: 1)?.drops ?? [:]
    }

    /// Frames that each receiver has got since the last time.
    func taken(_ before: inout [UInt16]) -> [Int] {
      let now = receivers.map { $0.ring.usedIndex }
      defer { before = now }
      return zip(now, before).map { Int($0 &- $1) }
    }
  }

  private func broadcast(_ length: Int) -> [UInt8] {
    [UInt8](repeating: 0xFF, count: 6) + [0x52, 0x54, 0, 0, 0, 9]
      + [UInt8](repeating: 7, count: length - 12)
  }

  @Test("Twenty short broadcasts reach each of five hundred ports, in one turn of several slices")
  func whole() throws {
    let bed = try Bed(500, buffer: 128)
    defer { bed.plane.stop() }
    bed.post(20)
    let place = bed.sender.send(broadcast(64))
    for _ in 1..<20 { bed.sender.offer(0) }
    #expect(bed.sender.availIndex == 20 && place > 0)
    #expect(bed.plane.turn() == 20)
    #expect(bed.receivers.allSatisfy { $0.ring.usedIndex == 20 })
    #expect(bed.sender.usedIndex == 20)
    #expect(bed.drops.isEmpty)
  }

  @Test("A burst that costs too much leaves ports out, never uplinks, and others the next time")
  func rotation() throws {
    // 600 copies of 32 KiB would be 19 MB; 16 MiB are allowed.
    let bed = try Bed(600, uplinks: [17, 599], buffer: 1 << 16)
    defer { bed.plane.stop() }
    var before = bed.receivers.map { $0.ring.usedIndex }
    var reached = [Int](repeating: 0, count: 600)
    bed.sender.describe(
      0, address: bed.sender.address(bed.sender.allocate(12 + 32768)), length: 12 + 32768)
    bed.sender.write(broadcast(64), at: bed.sender.buffers + 12)
    for _ in 0..<6 {
      bed.post(1)
      bed.sender.offer(0)
      let dropped = bed.drops[.floodLimit] ?? 0
      #expect(bed.plane.turn() == 1)
      let taken = bed.taken(&before)
      let count = taken.reduce(0, +)
      #expect((480..<520).contains(count))
      #expect(Int((bed.drops[.floodLimit] ?? 0) - dropped) == 600 - count)
      #expect(taken[17] == 1 && taken[599] == 1)
      for (place, frames) in taken.enumerated() { reached[place] += frames }
    }
    // Nobody has been left out twice in a row.
    #expect(reached.allSatisfy { $0 >= 4 })
    #expect(bed.sender.usedIndex == 6)
  }
}
