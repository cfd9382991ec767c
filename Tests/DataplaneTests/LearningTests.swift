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

  /// What a front-end may do to a ring as often as it likes.
  enum Toggle: CaseIterable { case enable, restart, kick, call, otherPort }

  @Test(
    "Whatever a front-end does to its rings gives no credit back, neither its own nor another's",
    arguments: Toggle.allCases)
  func noRefill(_ toggle: Toggle) throws {
    let bed = try Bed(limit: 32)
    defer { bed.plane.stop() }
    #expect(bed.send(0..<64) == LearningCounts(learned: 64, limited: 32))
    for burst in 1..<10 {
      let (plane, port) = (bed.plane, bed.ports[0])
      switch toggle {
      case .enable:
        for isEnabled in [false, true] { plane.setEnabled(isEnabled, queue: 1, of: port) }
      case .restart:
        let base = try #require(plane.stopRing(1, of: port))
        try plane.startRing(
          1, of: port, bed.rings[0].setup(base: base), memory: bed.rings[0].memory, worker: 0)
      case .kick: try plane.setKick(try EventFD().descriptor, queue: 1, of: port)
      case .call: plane.setCall(try EventFD().descriptor, queue: 1, of: port)
      case .otherPort:
        for isEnabled in [false, true] { plane.setEnabled(isEnabled, queue: 1, of: bed.ports[1]) }
        plane.removePort(try plane.addPort(pairs: 4))
      }
      #expect(
        bed.send(64 * burst..<64 * (burst + 1))
          == LearningCounts(learned: 1, limited: 1, deferred: 63), "burst \(burst)")
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

  @Test(
    "What control has pinned stays where it is, and who claims it is bounded like who invents addresses"
  )
  func pinned() throws {
    let bed = try Bed(limit: 4)
    defer { bed.plane.stop() }
    for station in 0..<64 {
      try bed.plane.pin(MACAddress([2, 0, 0, 0, 0, UInt8(station)]), port: bed.ports[1])
    }
    // 64 at once, then one a burst, like new ones; but nothing is learned.
    #expect(bed.send(0..<64) == LearningCounts())
    #expect(bed.send(0..<64) == LearningCounts(deferred: 63))
    #expect(bed.plane.addresses().allSatisfy { $0.port == bed.ports[1] && $0.age == 0 })
    #expect(bed.plane.addressCount(port: bed.ports[0]) == 0)
    #expect(bed.plane.addressCount(port: bed.ports[1]) == 64)
    // Their own port's frames are nothing new.
    for _ in 0..<3 { #expect(bed.send(0..<64, port: 1) == LearningCounts()) }
    bed.plane.flush(port: bed.ports[1])
    #expect(bed.plane.addressCount(port: bed.ports[1]) == 64)
    #expect(bed.plane.forget(MACAddress([2, 0, 0, 0, 0, 0])))
    #expect(!bed.plane.forget(MACAddress([2, 0, 0, 0, 0, 0])))
    #expect(bed.send(0..<1) == LearningCounts(learned: 1))
    #expect(throws: DataplaneError.self) {
      try bed.plane.pin(MACAddress([3, 0, 0, 0, 0, 0]), port: bed.ports[0])
    }
    #expect(throws: DataplaneError.self) {
      try bed.plane.pin(MACAddress([2, 0, 0, 0, 0, 0]), port: 500)
    }
    // They go with their port.
    bed.plane.removePort(bed.ports[1])
    #expect(bed.plane.addresses().map(\.port) == [bed.ports[0]])
    #expect(bed.plane.addressCount(port: bed.ports[1]) == 0)
  }

  @Test("Frames of a source belong to its domain: their stations are not those of another one")
  func domains() throws {
    let bed = try Bed(limit: nil)
    defer { bed.plane.stop() }
    let other = MACAddress([2, 0, 0, 0, 0, 2])
    bed.plane.learn(other, port: bed.ports[0])
    // To a station of its own port.
    #expect(bed.send(1..<2) == LearningCounts(learned: 1))
    func drops() -> CounterSample? { bed.plane.counters(port: bed.ports[0], queue: 1) }
    #expect(drops()?.drops[.hairpin] == 1)
    bed.plane.change(bed.ports[0]) { port, _, made in
      port?.domain = 7
      made.workers = [0]
    }
    for _ in 0..<2 { _ = bed.send(1..<2) }
    #expect(drops()?.drops[.hairpin] == 1)
    // There is no other port in its place to flood them to.
    #expect(drops()?.drops[.noDestination] == 2)
    let known = bed.plane.table.entries().filter { $0.mac == MACAddress([2, 0, 0, 0, 0, 1]) }
    #expect(Set(known.map(\.domain)) == [0, 7])
    #expect(bed.plane.forget(MACAddress([2, 0, 0, 0, 0, 1]), domain: 7))
  }
}
