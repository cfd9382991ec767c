import Linux
import Testing

@testable import Dataplane

@Suite struct NotificationTests {
  @Test("E15 2.7.7.2: without EVENT_IDX the flag decides")
  func flags() throws {
    let call = try EventFD()
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var queue = try bench.queue(memory, memory.setup(call: call.descriptor))
    queue.notify()
    #expect(call.drain() == 0, "nothing new, nothing said")
    queue.use(0, span: 1, written: 0)
    queue.publish()
    queue.notify()
    #expect(call.drain() == 1)
    queue.notify()
    #expect(call.drain() == 0, "said once")
    memory.write([1, 0], at: memory.avail)
    queue.use(0, span: 1, written: 0)
    queue.publish()
    queue.notify()
    #expect(call.drain() == 0)
    #expect(bench.counters.load(.notifications) == 1)
  }

  @Test(
    "A burst that is set aside is shown at its end, though its driver was told of the one before meanwhile",
    arguments: [false, true])
  func setAside(packed: Bool) throws {
    func run(
      _ queue: inout some Virtqueue, _ call: EventFD, _ used: () -> Int
    ) {
      queue.use(0, span: 1, written: 0)
      queue.publish()
      // The next is taken in the same turn, and waits for a receiver.
      queue.use(1, span: 1, written: 0)
      let descriptor = queue.interrupt()
      #expect(descriptor == call.descriptor.raw)
      #expect(used() == 1)
      queue.publish()
      #expect(used() == 2)
      #expect(queue.interrupt() == call.descriptor.raw, "it is news too")
      #expect(queue.interrupt() == -1)
    }
    let call = try EventFD()
    let bench = try Bench()
    if packed {
      let driver = try PackedDriver(size: 8)
      var queue = try bench.queue(driver, driver.setup(call: call.descriptor))
      run(&queue, call) { (0..<8).count { driver.used(at: $0) != nil } }
    } else {
      let memory = try RingMemory(size: 8)
      var queue = try bench.queue(memory, memory.setup(call: call.descriptor))
      run(&queue, call) { Int(memory.usedIndex) }
    }
  }

  @Test(
    "E16 2.7.7.2: with EVENT_IDX the event index decides, over the wrap, and the flag is ignored")
  func eventIndex() throws {
    // used_event, used.idx before and after, whether to notify.
    let cases: [(UInt16, UInt16, UInt16, Bool)] = [
      (0, 0, 1, true), (1, 0, 1, false), (1, 0, 2, true), (5, 0, 5, false), (4, 0, 5, true),
      (65_535, 65_534, 0, true), (0, 65_534, 0, false), (0, 65_534, 1, true),
      (65_533, 65_534, 2, false), (0x8000, 0, 8, false),
    ]
    for (event, old, new, wanted) in cases {
      let call = try EventFD()
      let memory = try RingMemory(size: 8)
      let bench = try Bench()
      memory.usedIndex = old
      memory.availIndex = old
      memory.write([1, 0], at: memory.avail)
      memory.write(
        [UInt8(event & 0xFF), UInt8(event >> 8)], at: memory.avail + 4 + 2 * memory.size)
      var queue = try bench.queue(
        memory, memory.setup(base: UInt32(old), eventIndex: true, call: call.descriptor))
      for _ in 0..<(new &- old) { queue.use(0, span: 1, written: 0) }
      queue.publish()
      queue.notify()
      #expect(call.drain() == (wanted ? 1 : 0), "event \(event), \(old) → \(new)")
    }
  }

  @Test("E19, E20 2.7.10.2: kicks are unwanted while polling, wanted before sleep")
  func kicks() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    let queue = try bench.queue(memory)
    queue.suppressKicks()
    #expect(memory.usedFlags == 1)
    #expect(!queue.requestKicks())
    #expect(memory.usedFlags == 0)
    memory.send(frame())
    #expect(queue.requestKicks(), "what came meanwhile is seen")

    let other = try RingMemory(size: 8)
    let evented = try bench.queue(other, other.setup(eventIndex: true))
    evented.suppressKicks()
    #expect(other.usedFlags == 0, "E20: must be 0 with EVENT_IDX")
    #expect(!evented.requestKicks())
    #expect(other.read(other.used + 4 + 8 * 8, 2) == [0, 0], "avail_event is the next index")
  }

  @Test("E22: sizes and alignments that no split ring may have", arguments: [0, 3, 12, 65_536])
  func badSizes(_ size: Int) throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    var setup = memory.setup()
    setup.size = size
    #expect(throws: DataplaneError.self) { _ = try bench.queue(memory, setup) }
  }

  @Test("E22, HG-15: misaligned or outside parts are refused with a reason")
  func badPlaces() throws {
    let memory = try RingMemory(size: 8)
    let bench = try Bench()
    let changes: [(inout RingSetup) -> Void] = [
      { $0.descriptors += 8 }, { $0.avail += 1 }, { $0.used += 2 }, { $0.descriptors = 0 },
      { $0.avail = RingMemory.userBase + (1 << 20) - 2 }, { $0.used = .max - 3 },
    ]
    for change in changes {
      var setup = memory.setup()
      change(&setup)
      #expect(throws: DataplaneError.self) { _ = try bench.queue(memory, setup) }
    }
  }
}
