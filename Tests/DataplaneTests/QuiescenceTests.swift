import Linux
import Synchronization
import Testing

@testable import Dataplane

/// Control frees what a plan named only when no worker can hold that plan any more.
@Suite struct QuiescenceTests {
  private func worker(_ poll: PollMode = .busy) throws -> WorkerThread {
    let arena = Arena(node: 0, allowHuge: false)
    let table = try ForwardingTable.make(arena, entries: 64, secret: 1)
    // The table's memory must outlive the worker; a test may leave it.
    _ = Unmanaged.passRetained(arena)
    return try WorkerThread(
      .init(index: 0, cpu: nil, node: 0, poll: poll), of: 1,
      ports: Ports(try arena.allocate(bytes: Ports.byteCount)), table: table,
      slow: try EventFD(), fences: !Quiescence.hasBarrier, allowHuge: false, isThread: true)
  }

  private func eventually(_ condition: () -> Bool) -> Bool {
    let end = ContinuousClock.now + .seconds(20)
    while !condition() {
      if ContinuousClock.now > end { return false }
      _ = try? Poller.wait([], milliseconds: 1)
    }
    return true
  }

  /// Waits on a thread of its own.
  private final class Waiter: Sendable {
    private let done = Atomic<Bool>(false)
    private let thread = Lock<Linux.Thread?>(nil)

    init(for workers: [WorkerThread]) throws {
      let started = try Linux.Thread(name: "waiter") { [self] in
        Quiescence.wait(for: workers)
        done.store(true, ordering: .releasing)
      }
      thread.withLock { $0 = started }
    }

    var isDone: Bool { done.load(ordering: .acquiring) }

    func join() { thread.withLock { $0 }?.join() }
  }

  @Test("It waits for each worker that is awake to end a turn")
  func waits() throws {
    // Workers without threads: their turns end when the test says so.
    let workers = [try worker(), try worker(), try worker()]
    workers[1].state.epoch |= 1
    let waiter = try Waiter(for: workers)
    // It could not be done sooner than allowed, however long it is given.
    _ = try Poller.wait([], milliseconds: 30)
    #expect(!waiter.isDone)
    workers[0].state.epoch += 2
    _ = try Poller.wait([], milliseconds: 30)
    #expect(!waiter.isDone)
    // Turn after turn, as the waiter may only now have begun.
    #expect(
      eventually {
        workers[0].state.epoch += 2
        workers[2].state.epoch += 2
        return waiter.isDone
      })
    waiter.join()
  }

  @Test("A worker that goes to sleep meanwhile has ended its turn")
  func sleeps() throws {
    let workers = [try worker()]
    let waiter = try Waiter(for: workers)
    workers[0].state.epoch |= 1
    #expect(eventually { waiter.isDone })
    waiter.join()
    // And one that sleeps already is not waited for.
    Quiescence.wait(for: workers)
  }

  @Test(
    "A running worker, busy or asleep, or one that has ended, keeps nobody waiting",
    arguments: [PollMode.busy, .adaptive])
  func running(_ poll: PollMode) throws {
    let worker = try worker(poll)
    try worker.start()
    if poll == .adaptive { #expect(eventually { worker.state.epoch & 1 == 1 }) }
    for _ in 0..<200 {
      if poll == .adaptive { worker.wake.signal() }
      Quiescence.wait(for: [worker])
    }
    worker.stop()
    #expect(worker.state.epoch & 1 == 1)
    Quiescence.wait(for: [worker])
  }

  @Test(
    "Plans are replaced under a running worker, each freed as soon as that is allowed",
    arguments: [PollMode.busy, .adaptive])
  func replacement(_ poll: PollMode) throws {
    let worker = try worker(poll)
    try worker.start()
    let arena = Arena(node: 0, allowHuge: false)
    var old: Block?
    for round in 0..<2000 {
      let plan = try Plan.make([], version: round + 1, arena)
      worker.state.post(plan)
      if round % 7 == 0 { worker.wake.signal() }
      Quiescence.wait(for: [worker])
      if let old {
        // Whoever still looked at it would poll a source that there is not.
        old.base.storeBytes(of: 0, as: Int.self)
        old.base.storeBytes(of: 1 << 40, toByteOffset: 8, as: Int.self)
        old.free(arena)
      }
      old = plan
    }
    worker.stop()
    worker.state.post(nil)
  }

  @Test("On return from stopRing the ring's memory may go", arguments: [PollMode.busy, .adaptive])
  func rings(_ poll: PollMode) throws {
    let dataplane = try Dataplane(
      .init(
        workers: [.init(cpu: nil, node: 0), .init(cpu: nil, node: 0)], poll: poll, macEntries: 64,
        hugepages: false))
    let port = try dataplane.addPort(pairs: 1)
    for round in 0..<200 {
      let ring = try RingMemory(size: 8, bytes: 1 << 16)
      ring.availIndex = 7
      ring.usedIndex = 7
      for index in 0...1 {
        try dataplane.startRing(
          index, of: port, ring.setup(base: 7), memory: ring.memory, worker: round % 2)
      }
      #expect(dataplane.stopRing(1, of: port) == 7)
      #expect(dataplane.stopRing(0, of: port) == 7)
      #expect(dataplane.stopRing(0, of: port) == nil)
      // Poisoned: a worker that still looked at the ring would follow this index and break the ring.
      ring.availIndex = 5000
      #expect(dataplane.counters(port: port, queue: 1)?.fault == nil)
    }
    dataplane.removePort(port)
    dataplane.stop()
    // Once more, and everything else, without workers: it does nothing, and waits for nobody.
    dataplane.stop()
    dataplane.removePort(port)
    dataplane.setMTU(1500, port: port)
    #expect(dataplane.counters(port: port, queue: 0) == nil)
  }
}
