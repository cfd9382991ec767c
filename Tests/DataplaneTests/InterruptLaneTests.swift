import Linux
import Synchronization
import Testing

@testable import Dataplane

/// Who is interrupted by whom, as signalling him costs.
@Suite struct InterruptLaneTests {
  private func lane() throws -> (InterruptLane, Arena) {
    let arena = Arena(node: 0, allowHuge: false)
    let state = QueueState(try arena.allocate(bytes: QueueState.byteCount))
    state.begin()
    return (state.lane, arena)
  }

  private func judge(_ lane: InterruptLane, _ cost: Int) -> Bool {
    lane.judge(nanoseconds: cost, dear: 8000)
  }

  @Test("Who was signalled beside an offender is let go when he alone is cheap")
  func innocent() throws {
    let (lane, arena) = try lane()
    defer { withExtendedLifetime(arena) {} }
    #expect(lane.isFast)
    lane.suspect()
    for place in 0..<8 {
      #expect(!lane.isFast && !lane.isSlow)
      // One that is dear by accident is no reason, however dear: a hypervisor had other things to do.
      #expect(!judge(lane, place == 3 ? 30_000_000 : 1000))
    }
    #expect(lane.isFast)
  }

  @Test("Who is dear on average is convicted, who is monstrous by his second signal")
  func convicted() throws {
    let (lane, arena) = try lane()
    defer { withExtendedLifetime(arena) {} }
    lane.suspect()
    for _ in 0..<7 { #expect(!judge(lane, 9000)) }
    #expect(judge(lane, 9000))
    #expect(lane.isSlow)
    let (other, arena2) = try self.lane()
    defer { withExtendedLifetime(arena2) {} }
    other.suspect()
    #expect(!judge(other, 28_000_000))
    #expect(judge(other, 28_000_000))
    #expect(other.isSlow)
    // Nobody is convicted twice.
    other.suspect()
    #expect(other.isSlow && !judge(other, 28_000_000))
  }

  @Test("A convict is let go after as many cheap signals in a row, twice as many each time")
  func terms() throws {
    let (lane, arena) = try lane()
    defer { withExtendedLifetime(arena) {} }
    for term in [64, 128, 256] {
      lane.suspect()
      _ = judge(lane, 200_000)
      #expect(judge(lane, 200_000))
      #expect(lane.ask())
      #expect(!lane.ask(), "the thread is told once")
      #expect(lane.takeAsked())
      #expect(!lane.takeAsked())
      for _ in 0..<(term - 1) { #expect(!lane.serve(wasCheap: true)) }
      #expect(!lane.serve(wasCheap: false))
      for _ in 0..<(term - 1) { #expect(!lane.serve(wasCheap: true)) }
      #expect(lane.serve(wasCheap: true))
      #expect(lane.isFast)
    }
  }

  @Test("The thread signals what workers don't, and what control gives it")
  func thread() throws {
    let plane = try Dataplane(
      .init(workers: [.init(cpu: nil, node: 0)], hugepages: false, threads: false))
    defer { plane.stop() }
    let port = try plane.addPort(pairs: 1)
    let ring = try RingMemory()
    let call = try EventFD()
    try plane.startRing(
      0, of: port, ring.setup(call: call.descriptor), memory: ring.memory, worker: 0)
    let lane = plane.state.withLock { $0.ports[port]!.state.queue(0).lane }
    lane.suspect()
    _ = judge(lane, 200_000)
    #expect(judge(lane, 200_000))
    plane.workers[0].state.add(.convictions)
    #expect(plane.isInterruptedSlowly(port: port, queue: 0))
    #expect(!plane.isInterruptedSlowly(port: port, queue: 1))
    plane.interrupts.serve(plane)
    #expect(call.drain() == 0)
    _ = lane.ask()
    plane.interrupts.serve(plane)
    plane.interrupts.serve(plane)
    #expect(call.drain() == 1)
    // Of several of one queue the last one.
    let errors = try (0..<3).map { _ in try EventFD() }
    plane.signalLater(errors[0].descriptor, port: port, queue: 0)
    plane.signalLater(errors[1].descriptor, port: port, queue: 0)
    plane.signalLater(errors[2].descriptor, port: port, queue: 1)
    plane.interrupts.serve(plane)
    #expect(errors.map { $0.drain() } == [0, 1, 1])
    _ = lane.ask()
    #expect(plane.stopRing(0, of: port) == 0)
    plane.removePort(port)
    plane.interrupts.serve(plane)
  }
}
