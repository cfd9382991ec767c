internal import Linux
internal import Synchronization

/// Control's record of a port: what its rings are and where they are polled. Guarded by the data plane's
/// lock; workers see only the plans built from it.
///
/// SAFETY: queue memory and ring blocks belong to the arena until the data plane gives them back, after a
/// quiescent state.
@safe final class PortRecord {
  /// A queue's own memory, which outlives its rings: a lock, the counters, and a view of an IOTLB.
  @safe struct Queue {
    private static let viewOffset = (Arena.line + Counters.byteCount + 63) / 64 * 64
    static let byteCount = viewOffset + IOTLBView.byteCount

    let memory: UnsafeMutableRawPointer
    var ring: RingRecord?

    var lock: UnsafeMutablePointer<Atomic<UInt32>> {
      unsafe memory.assumingMemoryBound(to: Atomic<UInt32>.self)
    }
    var counters: Counters { unsafe Counters(memory + Arena.line) }
    var view: IOTLBView { unsafe IOTLBView(memory + Queue.viewOffset) }

    /// Why the queue is broken. What is to be said of a ring in memory that has vanished is that, and workers are told.
    func inspect() -> QueueFault? {
      // Before the look at the memory: then a fault that came of the loss is not taken for another.
      let fault = counters.fault
      guard ring?.memory.hasVanished == true else { return fault }
      counters.setFault(.memoryVanished)
      return .memoryVanished
    }
  }

  /// A running ring, and what must stay alive for as long as it runs.
  @safe final class RingRecord {
    let queue: VirtqueuePointer
    let setup: RingSetup
    let memory: any RingSpace
    /// Worker that polls it; for a receiveq the one its memory was chosen by.
    let worker: Int

    init(queue: VirtqueuePointer, setup: RingSetup, memory: any RingSpace, worker: Int) {
      self.queue = queue
      self.setup = setup
      self.memory = memory
      self.worker = worker
    }
  }

  /// A TAP port's descriptors, one a queue, and the worker that polls each.
  struct Tap {
    var descriptors: [OwnedFD]
    var headerSize: Int
    /// What the kernel takes over.
    var offloads: Offloads
    var workers: [Int]
  }

  let pairs: Int
  /// Receiveq n at 2n, transmitq n at 2n + 1, as vhost-user numbers them.
  var queues: [Queue]
  let tap: Tap?
  /// Bytes of the longest untagged frame the port takes.
  var frameLimit = Burst.maximumLength

  /// Where the flows of a port with several pairs are recorded; the port's own, of the arena's memory.
  let flows: FlowTable?
  /// The addresses of a port that may have so many and no more; the port's own, of the arena's memory.
  let roll: AddressRoll?
  /// What control has learned on the port (`Dataplane.learn`); a worker's are with its queues' counters.
  var learned = LearningCounts()
  /// Whether a plan was posted with which workers record.
  private var recordsFlows = false

  /// - Parameters:
  ///   - flows: empty; `nil` for a port of one pair.
  ///   - roll: empty; `nil` for a port without a limit.
  init(
    pairs: Int, queues: [Queue], tap: Tap?, flows: FlowTable? = nil, roll: AddressRoll? = nil
  ) {
    self.pairs = pairs
    self.queues = queues
    self.tap = tap
    self.flows = flows
    self.roll = roll
  }

  /// What was learned on the port since it was made.
  var learning: LearningCounts {
    queues.reduce(into: learned) { $0 += $1.counters.learning }
  }

  /// Whether receiveq `pair` may be filled: it is started and enabled.
  private func isOpen(_ pair: Int) -> Bool {
    tap != nil || queues[2 * pair].ring?.setup.enabled == true
  }

  /// The table of flows while frames have more than one receiveq to go to, else `nil`.
  private var activeFlows: FlowTable? {
    (0..<pairs).count(where: isOpen) > 1 ? flows : nil
  }

  /// Forgets the flows when no plan that records them is in use any more: what a pair was used for before it was
  /// disabled is not what it is used for when it is enabled again. To be called when workers have taken the
  /// present plan.
  func forgetFlows() {
    if activeFlows != nil {
      recordsFlows = true
    } else if recordsFlows {
      recordsFlows = false
      flows?.clear()
    }
  }

  /// Where this port's frames come from, as worker `worker` polls them.
  func sources(port: Int, worker: Int) -> [Plan.Source] {
    let flows = activeFlows
    return (0..<pairs).compactMap { pair in
      let queue = queues[2 * pair + 1]
      if let tap {
        guard tap.workers[pair] == worker else { return nil }
        return Plan.Source(
          ring: nil, tap: tapQueue(tap, pair), counters: queue.counters, port: UInt16(port),
          pair: UInt16(pair), offloads: .all, discards: false, flows: flows, roll: roll)
      }
      guard let ring = queue.ring, ring.worker == worker else { return nil }
      return Plan.Source(
        ring: ring.queue, tap: PortRecord.noTap, counters: queue.counters, port: UInt16(port),
        pair: UInt16(pair), offloads: ring.setup.offloads, discards: !ring.setup.enabled,
        flows: flows, roll: roll)
    }
  }

  /// Where worker `worker` of `workers` delivers to this port. Its own receiveqs, over which it spreads flows that
  /// are not known, are those it need not share with other workers when there are enough, else one of those it must.
  func receivers(worker: Int, of workers: Int) -> Plan.Receivers {
    let open = (0..<pairs).filter(isOpen)
    if open.isEmpty { return Plan.Receivers() }
    let own =
      open.count < workers
      ? [open[worker % open.count]]
      : stride(from: worker, to: open.count, by: workers).map { open[$0] }
    let all = own + open.filter { !own.contains($0) }
    var places = [UInt16](repeating: Plan.Output.closed, count: pairs)
    for (place, pair) in all.enumerated() { places[pair] = UInt16(place) }
    return Plan.Receivers(
      slots: all.map(slot), own: own.count, places: places, flows: activeFlows,
      limit: UInt32(frameLimit))
  }

  private func slot(_ pair: Int) -> Plan.Slot {
    let queue = queues[2 * pair]
    return unsafe Plan.Slot(
      ring: queue.ring?.queue, tap: tap.map { tapQueue($0, pair) } ?? PortRecord.noTap,
      counters: queue.counters, lock: queue.lock)
  }

  private func tapQueue(_ tap: Tap, _ pair: Int) -> TapQueue {
    TapQueue(
      descriptor: tap.descriptors[pair].raw, headerSize: tap.headerSize, offloads: tap.offloads)
  }

  private static let noTap = TapQueue(descriptor: -1, headerSize: 12, offloads: .none)
}
