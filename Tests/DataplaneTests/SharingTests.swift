import Linux
import Synchronization
import Testing

@testable import Dataplane

/// Which receiveqs of a port are each worker's own, and how two of them keep out of each other's way.
@Suite struct SharingTests {
  /// A port of `pairs` queue pairs whose receiveqs `running` run, and which of them each worker has as its own: told
  /// apart by their locks.
  private func shares(pairs: Int, running: [Int], workers: Int) throws -> [[Int]] {
    let arena = Arena(node: 0, allowHuge: false)
    let record = PortRecord(
      pairs: pairs, state: try PortState(arena, pairs: pairs, addresses: nil))
    for pair in running {
      let ring = try RingMemory()
      record.queues[2 * pair] = try QueueSetup.ring(ring.setup(), memory: ring.memory).make(
        QueuePlace(arena: arena, state: record.state.queue(2 * pair), isTransmitq: false))
    }
    guard let block = try record.makeOutput(of: 0, arena) else {
      return (0..<workers).map { _ in [] }
    }
    let output = UnsafePointer(block.base.assumingMemoryBound(to: Output.self))
    let all = (0..<Int(output.pointee.count)).map { place in
      (0..<pairs).first { record.state.queue(2 * $0).lock == output.sinks[place].state.lock }!
    }
    // Every worker can reach each of them, and none that is closed.
    #expect(all.sorted() == running)
    for pair in 0..<pairs {
      let place = all.firstIndex(of: pair).map { UInt16($0) }
      #expect(output.place(of: pair) == place ?? Output.closed)
    }
    return (0..<workers).map { worker in
      let share = output.share(of: worker, of: workers)
      return (0..<share.count).map { all[share.first + $0 * share.step] }
    }
  }

  @Test("As many pairs as workers: each has receiveqs of its own")
  func enough() throws {
    #expect(try shares(pairs: 4, running: [0, 1, 2, 3], workers: 4) == [[0], [1], [2], [3]])
    #expect(try shares(pairs: 4, running: [0, 1, 2, 3], workers: 2) == [[0, 2], [1, 3]])
    #expect(try shares(pairs: 5, running: [0, 1, 2, 3, 4], workers: 2) == [[0, 2, 4], [1, 3]])
    #expect(try shares(pairs: 4, running: [0, 1, 2, 3], workers: 1) == [[0, 1, 2, 3]])
  }

  @Test("Fewer pairs than workers: they share, evenly")
  func tooFew() throws {
    #expect(try shares(pairs: 1, running: [0], workers: 3) == [[0], [0], [0]])
    #expect(try shares(pairs: 2, running: [0, 1], workers: 5) == [[0], [1], [0], [1], [0]])
  }

  @Test("Only queues that run are filled (E34)")
  func stopped() throws {
    #expect(try shares(pairs: 4, running: [1, 3], workers: 2) == [[1], [3]])
    #expect(try shares(pairs: 4, running: [2], workers: 3) == [[2], [2], [2]])
    #expect(try shares(pairs: 2, running: [], workers: 2) == [[], []])
  }

  @Test("A receiveq is held by one worker at a time")
  func lock() throws {
    let lock = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)
    lock.initialize(to: Atomic(0))
    defer { lock.deallocate() }
    #expect(Worker.take(lock))
    #expect(!Worker.take(lock))
    lock.pointee.store(0, ordering: .releasing)
    #expect(Worker.take(lock))
  }

  /// A word that only the lock's holder touches.
  @safe private final class Shared: @unchecked Sendable {
    let lock = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)
    var count = 0
    let gaveUp = Atomic<Int>(0)

    init() { lock.initialize(to: Atomic(0)) }
    deinit { lock.deallocate() }
  }

  @Test("What one holder wrote the next one sees")
  func exclusion() throws {
    let shared = Shared()
    let rounds = 20_000
    let threads = try (0..<3).map { _ in
      try Linux.Thread(name: "holder") {
        for _ in 0..<rounds {
          if Worker.take(shared.lock) {
            shared.count += 1
            shared.lock.pointee.store(0, ordering: .releasing)
          } else {
            shared.gaveUp.add(1, ordering: .relaxed)
          }
        }
      }
    }
    for thread in threads { thread.join() }
    #expect(shared.count + shared.gaveUp.load(ordering: .relaxed) == 3 * rounds)
    #expect(shared.count > 0)
  }
}
