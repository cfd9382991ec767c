import Linux
import Testing

@testable import Dataplane

/// What the frames of a burst teach, through the whole of a turn.
@Suite struct LearningTests {
  /// A data plane without threads, and two ports that send.
  private struct Bed {
    let plane: Dataplane
    let ports: [Int]
    let rings: [RingMemory]

    init(limit: Int?) throws {
      plane = try Dataplane(
        .init(workers: [.init(cpu: nil, node: 0)], hugepages: false, threads: false))
      ports = [try plane.addPort(pairs: 1, addresses: limit), try plane.addPort(pairs: 1)]
      rings = [try RingMemory(size: 64, bytes: 1 << 24), try RingMemory(size: 64)]
      for (port, ring) in zip(ports, rings) {
        try plane.startRing(1, of: port, ring.setup(), memory: ring.memory, worker: 0)
      }
    }

    /// One burst of frames from as many stations. Returns what it has taught.
    func send(_ stations: Range<Int>, port: Int = 0) -> LearningCounts {
      let before = plane.learning(port: ports[port]).counts
      for (index, station) in stations.enumerated() {
        let source = [
          2, 0, 0, UInt8(station >> 16), UInt8(station >> 8 & 255), UInt8(station & 255),
        ]
        rings[port].send(frame(from: source), descriptor: index)
      }
      #expect(plane.turn() == stations.count)
      let after = plane.learning(port: ports[port]).counts
      return LearningCounts(
        learned: after.learned - before.learned, moved: after.moved - before.moved,
        limited: after.limited - before.limited, evicted: after.evicted - before.evicted,
        deferred: after.deferred - before.deferred)
    }
  }

  @Test("A few new addresses at once, then one a burst; the rest is counted")
  func credit() throws {
    let bed = try Bed(limit: 32)
    defer { bed.plane.stop() }
    #expect(bed.plane.learning(port: bed.ports[0]).limit == 32)
    #expect(bed.plane.learning(port: bed.ports[1]).limit == nil)
    #expect(bed.send(0..<64) == LearningCounts(learned: 64, limited: 32))
    for burst in 1..<20 {
      #expect(
        bed.send(64 * burst..<64 * (burst + 1))
          == LearningCounts(learned: 1, limited: 1, deferred: 63), "burst \(burst)")
    }
    #expect(bed.plane.addresses().count == 32)
    // Known ones cost nothing.
    let known = bed.plane.addresses().map(\.mac)
    #expect(known.count { $0 == MACAddress([2, 0, 0, 0, 4, 0xC0]) } == 1)
    for _ in 0..<10 { #expect(bed.send(19 * 64..<19 * 64 + 1) == LearningCounts()) }
    // So that ten more may come.
    #expect(bed.send(5000..<5064) == LearningCounts(learned: 11, limited: 11, deferred: 53))
  }

  @Test("Who sends a frame now and then is always heard, and moves at once")
  func single() throws {
    let bed = try Bed(limit: nil)
    defer { bed.plane.stop() }
    for station in 0..<200 {
      #expect(bed.send(station..<station + 1) == LearningCounts(learned: 1))
    }
    for station in 0..<200 {
      #expect(bed.send(station..<station + 1, port: 1) == LearningCounts(moved: 1))
    }
    let counts = bed.plane.addressCounts.learning
    #expect(counts == LearningCounts(learned: 200, moved: 200))
  }

  @Test("What control learns is under the limit too, and is counted; counts outlive the port")
  func control() throws {
    let bed = try Bed(limit: 4)
    defer { bed.plane.stop() }
    for number in 0..<10 {
      bed.plane.learn(MACAddress([2, 9, 0, 0, 0, UInt8(number)]), port: bed.ports[0])
    }
    #expect(
      bed.plane.learning(port: bed.ports[0]).counts == LearningCounts(learned: 10, limited: 6))
    #expect(bed.plane.addresses().count == 4)
    bed.plane.removePort(bed.ports[0])
    #expect(bed.plane.addressCounts.learning == LearningCounts(learned: 10, limited: 6))
    bed.plane.learn(MACAddress([2, 9, 0, 0, 0, 1]), port: bed.ports[0])
    #expect(bed.plane.addresses().isEmpty)
  }
}
