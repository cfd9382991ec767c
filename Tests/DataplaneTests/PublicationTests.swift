import Linux
import Testing

@testable import Dataplane

/// What a change costs: a plan for each worker concerned, and nothing for the others.
@Suite struct PublicationTests {
  /// A data plane without threads, and one port of 16 pairs.
  private struct Bed {
    static let pairs = 16
    let plane: Dataplane
    let port: Int
    let rings: [RingMemory]

    /// - Parameter workers: four of them; the port's transmitqs go to the first two.
    init() throws {
      plane = try Dataplane(
        .init(
          workers: (0..<4).map { _ in .init(cpu: nil, node: 0) }, hugepages: false, threads: false))
      port = try plane.addPort(pairs: Bed.pairs)
      rings = try (0..<(2 * Bed.pairs)).map { _ in try RingMemory(size: 8, bytes: 1 << 16) }
    }

    func start(_ index: Int) -> QueueStart {
      QueueStart(
        index, .ring(rings[index].setup(), memory: rings[index].memory), worker: index / 2 % 2)
    }

    /// Plans each worker gets while `body` runs.
    func publications(_ body: () throws -> Void) rethrows -> [Int] {
      let before = plane.workerSamples().map(\.publications)
      try body()
      return zip(plane.workerSamples(), before).map { $0.publications - $1 }
    }

    /// Which workers have been woken since the last time.
    func woken() throws -> [Bool] {
      try plane.workers.map { worker in
        let isSignalled = try Poller.wait([(worker.wake.descriptor.raw, .read)], milliseconds: 0)[0]
        worker.wake.drain()
        return isSignalled
      }
    }
  }

  @Test("A front-end of 16 pairs that comes or goes is one plan for each worker concerned")
  func frontEnd() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    let all = Array(0..<(2 * Bed.pairs))
    for _ in 0..<3 {
      var errors: [(any Error)?] = []
      let coming = bed.publications {
        errors = bed.plane.startQueues(all.map(bed.start), of: bed.port)
      }
      #expect(errors.allSatisfy { $0 == nil })
      #expect(coming == [1, 1, 0, 0])
      #expect(try bed.woken() == [true, true, false, false])
      var bases: [UInt32?] = []
      let going = bed.publications { bases = bed.plane.stopQueues(all, of: bed.port) }
      #expect(bases.allSatisfy { $0 == 0 })
      #expect(going == [1, 1, 0, 0])
      // There is nothing to wake them for.
      #expect(try bed.woken() == [false, false, false, false])
    }
  }

  @Test("A ring's change concerns its worker alone, a receiveq's no one's plan")
  func oneRing() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    let (plane, port) = (bed.plane, bed.port)
    #expect(bed.publications { _ = plane.startQueues([bed.start(0)], of: port) } == [0, 0, 0, 0])
    #expect(try bed.woken() == [false, false, false, false])
    #expect(bed.publications { _ = plane.startQueues([bed.start(3)], of: port) } == [0, 1, 0, 0])
    #expect(try bed.woken() == [false, true, false, false])
    // A second open receiveq has the flows recorded that come from the port.
    #expect(bed.publications { _ = plane.startQueues([bed.start(2)], of: port) } == [0, 1, 0, 0])
    #expect(bed.publications { plane.setEnabled(false, queue: 3, of: port) } == [0, 1, 0, 0])
    #expect(bed.publications { plane.setEnabled(false, queue: 3, of: port) } == [0, 0, 0, 0])
    #expect(
      try bed.publications {
        let event = try EventFD().descriptor
        plane.setCall(event, queue: 3, of: port)
        plane.setCall(event, queue: 0, of: port)
      } == [0, 0, 0, 0])
    #expect(
      try bed.publications {
        try plane.setKick(try EventFD().descriptor, queue: 3, of: port)
      } == [0, 1, 0, 0])
    #expect(bed.publications { plane.setMTU(1500, port: port) } == [0, 0, 0, 0])
    #expect(bed.publications { plane.removePort(port) } == [0, 1, 0, 0])
    #expect(bed.publications { plane.removePort(port) } == [0, 0, 0, 0])
  }

  @Test("What was replaced is not kept for long")
  func retired() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    _ = bed.plane.startQueues([bed.start(0), bed.start(1)], of: bed.port)
    for mtu in 1..<500 {
      bed.plane.setMTU(500 + mtu, port: bed.port)
      #expect(bed.plane.state.withLock { $0.retired.count } <= 40)
    }
  }

  @Test("A queue that can't be made keeps no other of its batch from starting")
  func partly() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    var wrong = bed.rings[5].setup()
    wrong.size = 3
    let results = bed.plane.startQueues(
      [bed.start(4), QueueStart(5, .ring(wrong, memory: bed.rings[5].memory)), bed.start(7)],
      of: bed.port)
    #expect(results.map { $0 == nil } == [true, false, true])
    #expect(bed.plane.stopQueues([4, 5, 7, 9], of: bed.port) == [0, nil, 0, nil])
  }
}
