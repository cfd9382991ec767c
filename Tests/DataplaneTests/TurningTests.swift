import Testing

@testable import Dataplane

/// A data plane without threads does what it does when it is told to, and nothing else.
@Suite struct TurningTests {
  /// Two ports, each with its memory, a receiveq of one posted buffer and an empty transmitq.
  private struct Bed {
    let plane: Dataplane
    let ports: [Int]
    let receive: [RingMemory]
    let transmit: [RingMemory]

    init() throws {
      plane = try Dataplane(
        .init(workers: [.init(cpu: nil, node: 0)], hugepages: false, threads: false))
      ports = [try plane.addPort(pairs: 1), try plane.addPort(pairs: 1)]
      receive = [try RingMemory(), try RingMemory()]
      transmit = [try RingMemory(), try RingMemory()]
      for (index, port) in ports.enumerated() {
        let ring = receive[index]
        ring.describe(0, address: ring.address(ring.allocate(2048)), length: 2048, flags: 2)
        ring.offer(0)
        try plane.startRing(0, of: port, ring.setup(), memory: ring.memory, worker: 0)
        let other = transmit[index]
        try plane.startRing(1, of: port, other.setup(), memory: other.memory, worker: 0)
      }
    }
  }

  @Test("One turn carries a frame from port to port, and nothing moves without it")
  func carries() throws {
    let bed = try Bed()
    bed.transmit[0].send(frame())
    #expect(bed.receive[1].usedIndex == 0)
    #expect(bed.plane.turn() == 1)
    #expect(bed.receive[1].usedIndex == 1)
    #expect(bed.receive[1].usedEntry(0).length == 12 + 64)
    #expect(bed.receive[1].read(bed.receive[1].buffers + 12, 64) == frame())
    #expect(bed.transmit[0].usedIndex == 1)
    #expect(bed.plane.turn() == 0)
    bed.plane.stop()
  }

  @Test("Changes wait for no turn, and the next turn knows of them")
  func changes() throws {
    let bed = try Bed()
    bed.transmit[0].send(frame())
    #expect(bed.plane.stopRing(0, of: bed.ports[1]) == 0)
    #expect(bed.plane.turn() == 1)
    #expect(bed.receive[1].usedIndex == 0)
    #expect(bed.plane.counters(port: bed.ports[0], queue: 1)?.drops[.noDestination] == 1)
    #expect(bed.plane.stopRing(1, of: bed.ports[0]) == 1)
    bed.transmit[0].send(frame(), descriptor: 1)
    #expect(bed.plane.turn() == 0)
    bed.plane.removePort(bed.ports[0])
    bed.plane.stop()
    #expect(bed.plane.turn() == 0)
  }

  @Test("A worker rests between turns")
  func rests() throws {
    let bed = try Bed()
    for _ in 0..<3 {
      #expect(bed.plane.workerSamples()[0].sleeping)
      _ = bed.plane.turn()
    }
    #expect(bed.plane.workerSamples()[0].sleeping)
    bed.plane.stop()
  }
}
