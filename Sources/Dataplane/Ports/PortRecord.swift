internal import Linux
internal import Synchronization

/// Control's record of a port: what its rings are and where they are polled. Guarded by the data plane's
/// lock; workers see only the plans built from it.
///
/// SAFETY: queue memory and ring blocks belong to the arena until the data plane gives them back, after a
/// quiescent state.
@safe final class PortRecord {
  /// A queue's own memory, which outlives its rings: a lock and the counters.
  @safe struct Queue {
    static let byteCount = Arena.line + Counters.byteCount

    let memory: UnsafeMutableRawPointer
    var ring: RingRecord?

    var lock: UnsafeMutablePointer<Atomic<UInt32>> {
      unsafe memory.assumingMemoryBound(to: Atomic<UInt32>.self)
    }
    var counters: Counters { unsafe Counters(memory + Arena.line) }
  }

  /// A running ring, and what must stay alive for as long as it runs.
  @safe final class RingRecord {
    let queue: VirtqueuePointer
    let setup: RingSetup
    let memory: GuestMemory
    /// Worker that polls it; for a receiveq the one its memory was chosen by.
    let worker: Int

    init(queue: VirtqueuePointer, setup: RingSetup, memory: GuestMemory, worker: Int) {
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
    var workers: [Int]
  }

  let pairs: Int
  /// Receiveq n at 2n, transmitq n at 2n + 1, as vhost-user numbers them.
  var queues: [Queue]
  let tap: Tap?
  /// Bytes of the longest untagged frame the port takes.
  var frameLimit = Burst.maximumLength

  init(pairs: Int, queues: [Queue], tap: Tap?) {
    self.pairs = pairs
    self.queues = queues
    self.tap = tap
  }

  /// Where this port's frames come from, as worker `worker` polls them.
  func sources(port: Int, worker: Int) -> [Plan.Source] {
    (0..<pairs).compactMap { pair in
      let queue = queues[2 * pair + 1]
      if let tap {
        guard tap.workers[pair] == worker else { return nil }
        return Plan.Source(
          ring: nil, tap: tapQueue(tap, pair), counters: queue.counters, port: UInt16(port),
          pair: UInt16(pair), discards: false)
      }
      guard let ring = queue.ring, ring.worker == worker else { return nil }
      return Plan.Source(
        ring: ring.queue, tap: PortRecord.noTap, counters: queue.counters, port: UInt16(port),
        pair: UInt16(pair), discards: !ring.setup.enabled)
    }
  }

  /// Where worker `worker` of `workers` delivers to this port: the queues it need not share with other
  /// workers when there are enough, else one of those it must.
  func slots(worker: Int, of workers: Int) -> [Plan.Slot] {
    let open: [Plan.Slot] = (0..<pairs).compactMap { pair in
      let queue = queues[2 * pair]
      if let tap {
        return unsafe Plan.Slot(
          ring: nil, tap: tapQueue(tap, pair), counters: queue.counters, lock: queue.lock)
      }
      guard let ring = queue.ring, ring.setup.enabled else { return nil }
      return unsafe Plan.Slot(
        ring: ring.queue, tap: PortRecord.noTap, counters: queue.counters, lock: queue.lock)
    }
    if open.isEmpty { return [] }
    if open.count < workers { return [open[worker % open.count]] }
    return stride(from: worker, to: open.count, by: workers).map { open[$0] }
  }

  private func tapQueue(_ tap: Tap, _ pair: Int) -> TapQueue {
    TapQueue(descriptor: tap.descriptors[pair].raw, headerSize: tap.headerSize)
  }

  private static let noTap = TapQueue(descriptor: -1, headerSize: 12)
}
