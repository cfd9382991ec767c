@testable import Dataplane

/// A driver's hands on a split ring (virtio v1.4, 2.7) in a `RingMemory`: descriptors in any order, tables in any
/// order, indices that begin anywhere.
final class SplitDriver: ModelDriver {
  let memory: RingMemory
  let size: Int
  let start: UInt16
  private(set) var made = 0
  /// Chains whose used elements were taken.
  private(set) var passed = 0
  private var free: [UInt16]
  private var chains: [UInt16: [UInt16]] = [:]

  init(size: Int, start: UInt16 = 0, bytes: Int = 1 << 23) throws {
    memory = try RingMemory(size: size, bytes: bytes)
    self.size = size
    self.start = start
    free = (0..<UInt16(size)).map { $0 }
    memory.availIndex = start
    memory.usedIndex = start
  }

  func queue(_ bench: Bench, isTransmitq: Bool, inOrder: Bool) throws -> SplitQueue {
    try bench.queue(memory, memory.setup(base: UInt32(start)))
  }

  var room: Int { free.count }

  func offer(_ parts: [PackedDriver.Part], id: UInt16, table: Int?) -> UInt16 {
    var random = SplitMix(state: UInt64(id))
    let count = table == nil ? parts.count : 1
    let chain = (0..<count).map { _ in
      free.remove(at: Int(random.next() % UInt64(free.count)))
    }
    if let table {
      // The first entry is where a table begins; the others lie anywhere in it.
      var places = Array(1..<parts.count)
      for index in places.indices {
        places.swapAt(index, Int(random.next() % UInt64(places.count)))
      }
      link(parts, [0] + places, table: table)
      // WRITE means nothing here (2.7.5.3.2).
      memory.describe(
        Int(chain[0]), address: memory.address(table), length: UInt32(16 * parts.count),
        flags: 4 | (random.next() % 2 == 0 ? 2 : 0), next: UInt16(truncatingIfNeeded: random.next())
      )
    } else {
      link(parts, chain.map(Int.init), table: 0)
    }
    chains[chain[0]] = chain
    memory.offer(chain[0])
    made += 1
    return chain[0]
  }

  private func link(_ parts: [PackedDriver.Part], _ places: [Int], table: Int) {
    for (index, part) in parts.enumerated() {
      let isLast = index == parts.count - 1
      memory.describe(
        places[index], address: memory.address(part.offset), length: UInt32(part.length),
        flags: (part.writable ? 2 : 0) | (isLast ? 0 : 1),
        next: isLast ? 0xFFFF : UInt16(places[index + 1]), table: table)
    }
  }

  private var place: UInt16 { start &+ UInt16(truncatingIfNeeded: passed) }

  var used: PackedDriver.Used? {
    guard memory.usedIndex != place else { return nil }
    let entry = memory.usedEntry(Int(place))
    guard let id = UInt16(exactly: entry.id), chains[id] != nil else { return nil }
    return .init(id: id, length: entry.length, isWritten: entry.length > 0)
  }

  func pass(_ slots: Int) {
    guard let id = used?.id, let chain = chains.removeValue(forKey: id) else { return }
    precondition(chain.count == slots)
    free += chain
    passed += 1
  }
}
