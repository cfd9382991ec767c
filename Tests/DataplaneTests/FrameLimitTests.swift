import Testing

@testable import Dataplane

/// An MTU is of the frame without its tags.
@Suite struct FrameLimitTests {
  private func tagged(_ types: [UInt16], length: Int) -> [UInt8] {
    let tags = types.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF), 0, 100] }
    let plain = frame(length: length - tags.count)
    return Array(plain.prefix(12)) + tags + Array(plain.dropFirst(12))
  }

  @Test(
    "A VLAN tag, or two, is on top of the MTU; a third, or what only looks like one, is not",
    arguments: [
      ([], 1514), ([0x8100], 1518), ([0x88A8], 1518), ([0x88A8, 0x8100], 1522),
      ([0x8100, 0x8100], 1522), ([0x88A8, 0x88A8], 1522), ([0x8100, 0x8100, 0x8100], 1522),
      ([0x9100, 0x8100], 1514), ([0x8100, 0x0800], 1518),
    ] as [([UInt16], Int)])
  func tags(_ types: [UInt16], _ longest: Int) throws {
    for length in [64, longest - 1, longest, longest + 1] {
      for pieces in [1, 2] {
        let memory = try RingMemory(size: 8)
        let bench = try Bench()
        let whole = [UInt8](repeating: 0, count: 12) + tagged(types, length: length)
        let place = memory.allocate(2048)
        memory.write(whole, at: place)
        let first = pieces == 1 ? whole.count : 12 + 16
        memory.describe(
          0, address: memory.address(place), length: UInt32(first), flags: pieces == 1 ? 0 : 1,
          next: 1)
        memory.describe(
          1, address: memory.address(place + first), length: UInt32(whole.count - first))
        memory.offer(0)
        var transmitq = try bench.queue(memory)
        #expect(bench.gather(&transmitq) == (1, length))
        let guest = try RingMemory(size: 8)
        let buffer = guest.allocate(4096)
        guest.describe(0, address: guest.address(buffer), length: 4096, flags: 2)
        guest.offer(0)
        var receiveq = try bench.queue(guest)
        let delivered = bench.deliver(&receiveq, limit: 1514)
        #expect(
          delivered.frames == (length <= longest ? 1 : 0), "\(types) \(length) in \(pieces)")
        #expect(bench.counters.load(.exceedsMTU) == (length <= longest ? 0 : 1))
      }
    }
  }
}
