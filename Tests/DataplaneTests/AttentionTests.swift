import CLinux
import Linux
import Testing

@testable import Dataplane

/// Which queues a worker looks at, as the clock says.
@Suite struct AttentionTests {
  /// Some transmitqs in one plan, and the attention of a worker whose clock the test moves.
  private final class Bed {
    let arena = Arena(node: 0, allowHuge: false)
    let rings: [RingMemory]
    let queues: [RunningQueue]
    var plan: Block
    var slots: [Plan.Source?]
    var attention: Attention
    var now: UInt64 = 0
    private var version = 1

    /// - Parameters:
    ///   - count: of queues.
    ///   - silent: the places of those without a doorbell.
    init(_ count: Int, silent: Set<Int> = []) throws {
      let arena = arena
      rings = try (0..<count).map { _ in try RingMemory(bytes: 1 << 14) }
      let state = try PortState(arena, pairs: count, addresses: nil)
      queues = try rings.enumerated().map { place, ring in
        var setup = ring.setup()
        if !silent.contains(place) { setup.kick = try EventFD().descriptor }
        return try QueueSetup.ring(setup, memory: ring.memory).make(
          QueuePlace(arena: arena, state: state.queue(2 * place + 1), isTransmitq: true))
      }
      slots = queues.enumerated().map { place, queue in
        queue.serial = UInt32(place + 1)
        return Bed.source(queue, state.queue(2 * place + 1))
      }
      attention = try Attention(arena: arena, ticks: true)
      plan = try Plan.make(slots, version: version, arena)
      adopt()
      // One reading of the clock for both: between two this thread may lose its CPU.
      now = clx_ticks()
      let tick = UInt32(truncatingIfNeeded: now >> TickClock.shift)
      for slot in slots.indices { attention.heard[slot] = tick }
    }

    private static func source(_ queue: RunningQueue, _ state: QueueState) -> Plan.Source {
      Plan.Source(
        queue: queue.queue, state: state, serial: queue.serial, port: 0, pair: 0, domain: 0,
        headerSize: 12, offloads: .none, discards: false, mustPoll: queue.doorbell == nil,
        flows: nil, roll: nil)
    }

    var sources: UnsafePointer<Plan.Source> {
      Plan.sources(plan.base.assumingMemoryBound(to: Plan.self))
    }

    func adopt() { attention.adopt(plan.base.assumingMemoryBound(to: Plan.self)) }

    /// Another plan, of `slots`.
    func replace() throws {
      version += 1
      plan = try Plan.make(slots, version: version, arena)
      adopt()
    }

    /// Lets so many ticks pass, each of which begins in time.
    func pass(_ ticks: Int) {
      for _ in 0..<ticks {
        now = max(now, attention.due)
        attention.begin(now, sources)
        now = attention.due
      }
    }

    func count(_ state: UInt8) -> Int {
      slots.indices.count { attention.states[$0] == state }
    }

    var hot: Set<Int> {
      Set((0..<attention.hotCount).map { Int(attention.hot[$0]) })
    }

    /// Queues whose drivers were asked to kick (2.7.10).
    var asked: Set<Int> { Set(rings.indices.filter { rings[$0].usedFlags == 0 }) }
  }

  @Test("Whoever is silent is looked at by the clock; of few none is asked to kick")
  func few() throws {
    let bed = try Bed(Attention.warmPlaces)
    #expect(bed.hot == Set(0..<Attention.warmPlaces))
    bed.pass(1)
    bed.attention.heard[7] = bed.attention.tick
    #expect(bed.hot.count == Attention.warmPlaces)
    bed.pass(15)
    bed.attention.heard[7] = bed.attention.tick
    bed.pass(4)
    #expect(bed.hot == [7])
    #expect(bed.attention.warmCount == Attention.warmPlaces - 1)
    #expect(bed.asked.isEmpty && bed.attention.coldCount == 0)
    // Each has its turn within a few ticks.
    var looked: Set<Int> = []
    for _ in 0..<8 {
      bed.pass(1)
      for _ in 0..<bed.attention.warmLooks() { looked.insert(bed.attention.nextWarm()) }
    }
    #expect(looked == Set(0..<Attention.warmPlaces).subtracting([7]))
    let asks = bed.attention.mustAsk()
    #expect(!asks)
  }

  @Test("Of many silent ones most are asked to kick, and the kernel now and then who has")
  func many() throws {
    let bed = try Bed(300)
    // Not all of them in one tick.
    bed.pass(18)
    #expect(bed.hot.count > 100)
    bed.pass(12)
    #expect(bed.hot.isEmpty)
    #expect(bed.attention.warmCount == Attention.warmPlaces)
    #expect(bed.attention.coldCount == 300 - Attention.warmPlaces)
    #expect(bed.asked.count == bed.attention.coldCount)
    #expect(bed.asked.allSatisfy { bed.attention.states[$0] == Attention.State.cold })
    var questions = 0
    for _ in 0..<80 {
      bed.pass(1)
      if bed.attention.mustAsk() { questions += 1 }
    }
    #expect((18...21).contains(questions))
    // Who rings is looked at again in every turn.
    let rung = bed.asked.min()!
    bed.attention.hear(rung)
    #expect(bed.hot == [rung])
    #expect(bed.attention.coldCount == 299 - Attention.warmPlaces)
    bed.pass(20)
    #expect(bed.hot.isEmpty)
  }

  @Test("Whoever has something when he is asked to kick is not forgotten")
  func race() throws {
    let bed = try Bed(100)
    for ring in bed.rings { ring.send(frame()) }
    bed.pass(40)
    #expect(bed.attention.coldCount == 0)
    #expect(bed.attention.warmCount == 100)
    #expect(bed.asked.isEmpty)
  }

  @Test("Without a doorbell a queue is looked at by the clock, however many there are")
  func withoutDoorbell() throws {
    let silent = Set(0..<100)
    let bed = try Bed(200, silent: silent)
    bed.pass(60)
    #expect(bed.hot.isEmpty)
    #expect(bed.attention.warmCount >= 100)
    #expect(silent.allSatisfy { bed.attention.states[$0] == Attention.State.warm })
    #expect(bed.asked.isDisjoint(with: silent))
    #expect(bed.attention.coldCount > 0)
  }

  @Test("After a sleep all that were asked to kick are looked at, and need kick no more")
  func sleep() throws {
    let bed = try Bed(10)
    bed.pass(30)
    #expect(!bed.attention.arm(bed.sources))
    #expect(bed.asked == Set(0..<10))
    bed.attention.hear(3)
    bed.attention.disarm(bed.sources)
    #expect(bed.asked.isEmpty)
    #expect(bed.hot == [3])
    bed.now += 1
    bed.attention.begin(bed.now, bed.sources)
    let looks = (0..<2).map { _ in bed.attention.warmLooks() }
    #expect(looks == [9, 4])
    bed.rings[5].send(frame())
    #expect(bed.attention.arm(bed.sources))
  }

  @Test("A queue that goes is in no list; another one in its slot is looked at")
  func plans() throws {
    let bed = try Bed(200)
    bed.attention.heard[0] = .max
    bed.pass(40)
    let cold = bed.asked.min()!
    let warm = (1..<200).first { bed.attention.states[$0] == Attention.State.warm }!
    let (coldSource, warmSource) = (bed.slots[cold], bed.slots[warm])
    let before = bed.attention.coldCount
    bed.slots[cold] = nil
    bed.slots[warm] = nil
    try bed.replace()
    #expect(bed.attention.coldCount == before - 1)
    #expect(bed.attention.warmCount == Attention.warmPlaces - 1)
    #expect(!bed.hot.contains(cold) && !bed.hot.contains(warm))
    bed.slots[cold] = coldSource
    bed.slots[warm] = warmSource
    bed.slots[warm]?.serial = 1000
    try bed.replace()
    #expect(bed.hot.isSuperset(of: [cold, warm]))
    // The same plan once more changes nothing.
    let hot = bed.hot
    try bed.replace()
    #expect(bed.hot == hot)
    bed.slots = []
    try bed.replace()
    #expect(bed.attention.hotCount + bed.attention.warmCount + bed.attention.coldCount == 0)
  }

  @Test("A tick is some two microseconds")
  func clock() {
    let microseconds = Double(UInt64(1) << TickClock.shift) / TickClock.perMicrosecond
    #expect((2.0..<4.1).contains(microseconds))
  }
}
