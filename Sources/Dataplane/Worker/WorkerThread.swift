internal import CLinux
internal import Linux
internal import Synchronization

/// The thread that turns a worker, pinned to one CPU: polls while there is work, and otherwise sleeps in the
/// kernel until a guest kicks, a TAP has something, or control calls.
@safe final class WorkerThread: @unchecked Sendable {
  /// Where a worker runs and how it waits.
  struct Placement: Sendable {
    var index: Int
    /// `nil`: wherever the process may run (tests).
    var cpu: Int?
    var node: Int
    var poll: PollMode
  }

  /// Microseconds without work before a worker looks for sleep.
  private static let patience = 100

  let placement: Placement
  let state: WorkerState
  /// Its own memory; on its own node.
  let arena: Arena
  let wake: EventFD
  let epoll: OwnedFD
  let notifier: Notifier
  private let worker: UnsafeMutablePointer<Worker>
  private let thread = Lock<Linux.Thread?>(nil)
  /// The running thread's number in the kernel.
  let threadID = Lock<Int?>(nil)

  init(
    _ placement: Placement, of workers: Int, ports: Ports, table: ForwardingTable, slow: EventFD,
    fences: Bool, allowHuge: Bool, isThread: Bool
  ) throws {
    self.placement = placement
    let arena = Arena(node: placement.node, allowHuge: allowHuge)
    let state = unsafe WorkerState(try arena.allocate(bytes: WorkerState.byteCount))
    let wake = try EventFD()
    let epoll = OwnedFD(taking: try SystemError.check(clx_epoll_create(), "make an epoll set"))
    try SystemError.check(
      clx_epoll_add(epoll.raw, wake.descriptor.raw, 0, UInt64(Worker.wakeSlot)), "watch an eventfd")
    let notifier = try Notifier()
    let value = try Worker(
      state: state, index: placement.index, of: workers, ports: ports, table: table, arena: arena,
      notifier: notifier, slow: slow, epoll: epoll.raw, wake: wake.descriptor.raw, fences: fences,
      ticks: isThread)
    let worker = UnsafeMutablePointer<Worker>.allocate(capacity: 1)
    unsafe worker.initialize(to: value)
    self.arena = arena
    self.state = state
    self.wake = wake
    self.epoll = epoll
    self.notifier = notifier
    unsafe self.worker = unsafe worker
  }

  deinit {
    unsafe worker.deinitialize(count: 1)
    unsafe worker.deallocate()
  }

  /// Starts the thread and waits until it runs where it should.
  func start() throws {
    let ready = try EventFD()
    let failure = Lock<SystemError?>(nil)
    let box = Box(failure)
    let started = try Linux.Thread(name: "worker/\(placement.index)") { [self] in
      do throws(SystemError) {
        if let cpu = placement.cpu { try Affinity.confine(to: [cpu]) }
      } catch {
        box.failure.withLock { $0 = error }
        ready.signal()
        return
      }
      threadID.withLock { $0 = Affinity.threadID }
      // SAFETY: this thread is the worker's only user from here to its end.
      unsafe worker.pointee.noteWaits()
      ready.signal()
      run()
    }
    thread.withLock { $0 = started }
    _ = try Poller.wait([(ready.descriptor.raw, .read)])
    if let error = box.failure.withLock({ $0 }) {
      join()
      throw error
    }
  }

  /// Ends the loop and waits for the thread.
  func stop() {
    threadID.withLock { $0 = nil }
    state.stop()
    wake.signal()
    join()
  }

  /// Whoever comes second waits as well.
  private func join() {
    thread.withLock { thread in
      thread?.join()
      thread = nil
    }
  }

  /// The CPU that the thread runs on now, or ran on last: whoever may can move it elsewhere.
  var cpu: Int? { threadID.withLock { $0 }.flatMap { Affinity.cpu(ofThread: $0) } }

  // ---- Without a thread ----

  /// In place of `start`, and after a turn: from here on the worker counts as asleep.
  func rest() { state.epoch |= 1 }

  /// Runs one turn in the caller's thread; returns the frames taken. The worker rests before and after, and looks at
  /// every queue.
  func turn() -> Int {
    precondition(
      thread.withLock { $0 == nil } && state.epoch & 1 != 0,
      "the worker has a thread, or is turning")
    wakeUp()
    // SAFETY: there is no thread, and the caller has promised that no other is here.
    unsafe worker.pointee.hearAll()
    let moved = unsafe worker.pointee.turn()
    rest()
    return moved
  }

  private final class Box: Sendable {
    let failure: Lock<SystemError?>
    init(_ failure: Lock<SystemError?>) { self.failure = failure }
  }

  /// Adds a descriptor whose readiness ends a sleep, and tells of the queue in `slot`.
  ///
  /// A front-end can make this take long, and its reverse, as it can have others watch the same descriptor, who are all told of
  /// a kick while the kernel holds a lock: so neither is called under a lock.
  func watch(_ doorbell: Doorbell, slot: Int) throws(SystemError) {
    try SystemError.check(
      clx_epoll_add(
        epoll.raw, doorbell.descriptor.raw, doorbell.isEdge ? 1 : 0, UInt64(slot)),
      "watch a queue's descriptor")
  }

  func unwatch(_ doorbell: Doorbell) {
    _ = clx_epoll_remove(epoll.raw, doorbell.descriptor.raw)
  }

  // ---- The loop ----

  private func run() {
    let patience = TickClock.counts(microseconds: WorkerThread.patience)
    // The time-stamp counter when work ended; 0: it has not.
    var idleSince: UInt64 = 0
    var turns = 0
    while !state.isStopping {
      // SAFETY: this thread is the worker's only user from start to stop.
      if unsafe worker.pointee.turn() > 0 {
        idleSince = 0
        continue
      }
      clx_pause()
      turns &+= 1
      if turns & 15 != 0 || placement.poll != .adaptive { continue }
      let now = clx_ticks()
      if idleSince == 0 {
        idleSince = now
      } else if now &- idleSince > patience {
        sleep()
        idleSince = 0
      }
    }
    // Nobody need wait for a worker that has ended either.
    rest()
  }

  /// Sleeps until there is something to do. Every queue is asked to ring first, then looked at once more: what came in
  /// between would otherwise wait for the next frame.
  private func sleep() {
    if unsafe !worker.pointee.arm() {
      // A queue without a doorbell never rings: look at it a thousand times a second. Neither does a receiveq for which frames
      // wait: control calls when it has learned of addresses, but nobody when there are buffers, or the time is over.
      let limit = unsafe state.plan?.pointee.mustPoll == true || state.waits ? 1 : 1000
      state.add(.sleeps)
      rest()
      let count = unsafe worker.pointee.wait(milliseconds: limit)
      unsafe worker.pointee.noteWaits()
      wakeUp()
      unsafe worker.pointee.hear(count)
      wake.drain()
    }
    unsafe worker.pointee.disarm()
  }

  /// Awake, and visibly so, before the next look at the mailbox: see `Quiescence`.
  private func wakeUp() {
    state.epoch = state.epoch &+ 1
    if unsafe worker.pointee.fences { atomicMemoryFence(ordering: .sequentiallyConsistent) }
  }
}

/// How a worker without work waits.
public enum PollMode: String, Sendable {
  /// Sleeps when there is nothing to do for a while.
  case adaptive
  /// Never sleeps.
  case busy
}
