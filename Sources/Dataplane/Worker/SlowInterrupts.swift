internal import CLinux
internal import Glibc
public import Linux
internal import Synchronization

/// The thread that signals what no worker should: the eventfds of drivers whose front-ends have made that dear
/// (`Interrupts`), and those by which front-ends are told of errors.
///
/// It asks the data plane for a queue's eventfd each time, and keeps it open until it has been signalled; so nobody has to wait
/// for this thread before he closes one.
final class SlowInterrupts: Sendable {
  /// A queue, as control knows it.
  struct Place: Hashable {
    var port: Int
    var queue: Int
  }

  private struct State {
    /// Queues whose drivers are interrupted here.
    var convicts: [Place] = []
    /// Convictions by all workers when they were last looked for.
    var convictions: UInt64 = 0
    /// Other eventfds to be signalled: one for a queue at most.
    var errors: [Place: OwnedFD] = [:]
    var isStopping = false
    /// Microseconds that a signal may take here (`measure`).
    var dear = 0
  }

  /// By which workers and control call.
  let wake: EventFD
  private let notifier: Notifier
  private let state = Lock(State())
  private let thread = Lock<Linux.Thread?>(nil)

  /// Microseconds between two rounds, which bound what the looking costs.
  private static let pause: UInt32 = 50
  /// Microseconds that a signal may take, at the most, on a machine however slow: watched by five thousand it takes more.
  private static let mostDear = 120

  init() throws {
    wake = try EventFD()
    notifier = try Notifier()
  }

  /// - Parameter plane: told to go before this is stopped.
  func start(_ plane: Dataplane) throws {
    let started = try Linux.Thread(name: "interrupts") { [self, unowned plane] in
      while true {
        // An error of poll(2) is as good as a reason to look.
        _ = try? Poller.wait([(wake.descriptor.raw, .read)])
        wake.drain()
        if state.withLock({ $0.isStopping }) { return }
        serve(plane)
        usleep(SlowInterrupts.pause)
      }
    }
    thread.withLock { $0 = started }
    measure(plane)
  }

  /// Finds out what it costs here to signal an eventfd whose reader sleeps, by the thread's own. Of a machine whose processors wake each
  /// other by way of a hypervisor that is many times what it is elsewhere, and no front-end's doing. Four times that is dear.
  private func measure(_ plane: Dataplane) {
    var costs: [Int64] = []
    for _ in 0..<15 {
      // So that it sleeps again.
      usleep(500)
      let before = clx_thread_time()
      wake.signal()
      costs.append(clx_thread_time() - before)
    }
    let microseconds = min(SlowInterrupts.mostDear, 4 * Int(costs.sorted()[7]) / 1000)
    state.withLock { $0.dear = microseconds }
    for worker in plane.workers { tell(worker) }
  }

  /// Has a worker know what a signal may take.
  func tell(_ worker: WorkerThread) { worker.state.dear = UInt64(state.withLock { $0.dear }) }

  func stop() {
    state.withLock { $0.isStopping = true }
    wake.signal()
    thread.withLock { thread in
      thread?.join()
      thread = nil
    }
  }

  /// Has an eventfd be signalled soon.
  func signal(_ stranger: OwnedFD, port: Int, queue: Int) {
    state.withLock { $0.errors[Place(port: port, queue: queue)] = stranger }
    wake.signal()
  }

  /// Signals everything that is to be signalled now.
  func serve(_ plane: Dataplane) {
    let errors = state.withLock { state in
      defer { state.errors = [:] }
      return state.errors
    }
    for descriptor in errors.values { notifier.signal([descriptor]) }
    look(plane)
    for place in state.withLock({ $0.convicts }) {
      guard let call = plane.takeSlowCall(place) else { continue }
      let before = clx_thread_time()
      notifier.signal([call])
      // Half of what convicts.
      let cheap = 500 * max(Interrupts.dearMicroseconds, state.withLock { $0.dear })
      let wasCheap = Int(clx_thread_time() - before) < cheap
      if plane.serveSlow(place, wasCheap: wasCheap) {
        state.withLock { state in state.convicts.removeAll { $0 == place } }
      }
    }
  }

  /// Looks for queues that were convicted since the last time.
  private func look(_ plane: Dataplane) {
    let convictions = plane.convictions
    if state.withLock({ $0.convictions == convictions }) { return }
    let convicts = plane.slowQueues
    state.withLock { state in
      state.convictions = convictions
      state.convicts = convicts
    }
  }
}

/// SAFETY: a port's state is looked at while its record is there, under the lock.
extension Dataplane {
  /// Has an eventfd that a front-end holds too be signalled by a thread that nobody waits for, however long it takes.
  ///
  /// - Parameters: the queue that it is of; of several such for one queue the last one is signalled.
  public func signalLater(_ stranger: OwnedFD, port: Int, queue: Int) {
    interrupts.signal(stranger, port: port, queue: queue)
  }

  /// Whether a queue's driver is interrupted by a thread of its own kind, as that takes too long for a worker.
  public func isInterruptedSlowly(port number: Int, queue index: Int) -> Bool {
    state.withLock { state in
      port(number, state).map { $0.state.queue(index).lane.isSlow } ?? false
    }
  }

  /// Queues whose drivers workers do not interrupt.
  var slowQueues: [SlowInterrupts.Place] {
    state.withLock { state in
      state.ports.indices.flatMap { number -> [SlowInterrupts.Place] in
        guard let port = port(number, state) else { return [] }
        return (0..<(2 * port.pairs)).filter { port.state.queue($0).lane.isSlow }.map {
          SlowInterrupts.Place(port: number, queue: $0)
        }
      }
    }
  }

  /// The eventfd of such a queue, if a worker has asked for an interrupt since the last time.
  func takeSlowCall(_ place: SlowInterrupts.Place) -> OwnedFD? {
    state.withLock { state in
      guard let port = port(place.port, state), place.queue < 2 * port.pairs,
        port.state.queue(place.queue).lane.takeAsked()
      else { return nil }
      return port.queues[place.queue]?.call
    }
  }

  /// Such a queue's eventfd was signalled. Returns whether workers do that again.
  func serveSlow(_ place: SlowInterrupts.Place, wasCheap: Bool) -> Bool {
    state.withLock { state in
      guard let port = port(place.port, state), place.queue < 2 * port.pairs else { return true }
      let lane = port.state.queue(place.queue).lane
      return !lane.isSlow || lane.serve(wasCheap: wasCheap)
    }
  }
}
