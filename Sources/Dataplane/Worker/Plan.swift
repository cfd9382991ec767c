internal import Linux

/// The queues a worker polls: built by control, read by one worker, replaced whole.
///
/// Each has a slot, which it keeps for as long as it runs: what a worker remembers of a queue from one plan to the next
/// (`Attention`), and what the kernel says when it rings, goes by the slot. A plan may have empty ones.
///
/// A turn uses one plan from beginning to end. Control frees a plan, and what only that plan named, when its
/// worker has been quiescent since it was replaced.
///
/// SAFETY: behind the struct, at `serialsOffset`, lies a serial for each slot; behind those, at a cache line, a source
/// for each. The source of an empty slot, whose serial is 0, is not initialized and never read.
@safe struct Plan {
  /// Which of its worker's plans it is, from 1 on.
  let version: Int
  /// Slots, empty ones too.
  let count: Int
  /// A queue without a doorbell is among the sources: its worker may not sleep for long.
  let mustPoll: Bool
  /// The worker's place among all there are, and how many those are. With the plan, as workers come and go: what follows
  /// from it (`Worker.adopt`) changes between two turns.
  let rank: Int
  let workers: Int

  private static let serialsOffset = 64

  /// Slots of a worker.
  static let maximumSlots = 1 << 14

  /// A queue that frames come from.
  struct Source {
    var queue: Queue
    var state: QueueState
    /// No two that have run are alike. Never 0.
    var serial: UInt32
    var port: UInt16
    /// Number of the queue pair.
    var pair: UInt16
    /// Whose stations its frames come from and go to: a bridge domain or a VLAN.
    var domain: UInt16
    /// Bytes of the virtio-net header before each frame.
    var headerSize: UInt8
    /// What its frames may ask for.
    var offloads: Offloads
    /// Started but not enabled: frames are taken and dropped.
    var discards: Bool
    /// It has no doorbell.
    var mustPoll: Bool
    /// Of a port with several open receiveqs: where the flows that come from it are recorded.
    var flows: FlowTable?
    /// The port's, unless it may have as many addresses as there is room for.
    var roll: AddressRoll?

    @inline(always)
    var counters: Counters { state.counters }
  }

  /// - Parameters:
  ///   - sources: by slot.
  ///   - rank: the worker's place among the workers.
  static func make(
    _ sources: [Source?], version: Int, rank: Int = 0, of workers: Int = 1, _ arena: Arena
  ) throws(SystemError) -> Block {
    let count = sources.count
    let block = try Block(
      arena, bytes: sourcesOffset(count) + count * MemoryLayout<Source>.stride)
    let memory = unsafe block.base
    let plan = unsafe memory.bindMemory(to: Plan.self, capacity: 1)
    unsafe plan.initialize(
      to: Plan(
        version: version, count: count,
        mustPoll: sources.contains { $0?.mustPoll == true }, rank: rank, workers: workers))
    let serials = unsafe (memory + serialsOffset).bindMemory(to: UInt32.self, capacity: count)
    let first = unsafe (memory + sourcesOffset(count)).bindMemory(
      to: Source.self, capacity: count)
    for (slot, source) in sources.enumerated() {
      unsafe (serials + slot).initialize(to: source?.serial ?? 0)
      if let source { unsafe (first + slot).initialize(to: source) }
    }
    return block
  }

  private static func sourcesOffset(_ count: Int) -> Int {
    (serialsOffset + 4 * count + Arena.line - 1) / Arena.line * Arena.line
  }

  /// The first source of a plan.
  @inline(always)
  static func sources(_ plan: UnsafeMutablePointer<Plan>) -> UnsafePointer<Source> {
    unsafe UnsafePointer(
      (UnsafeMutableRawPointer(plan) + sourcesOffset(plan.pointee.count))
        .assumingMemoryBound(to: Source.self))
  }

  /// Which source each slot has; 0: none.
  @inline(always)
  static func serials(_ plan: UnsafeMutablePointer<Plan>) -> UnsafePointer<UInt32> {
    unsafe UnsafePointer(
      (UnsafeMutableRawPointer(plan) + serialsOffset).assumingMemoryBound(to: UInt32.self))
  }
}

/// Control's record of what one worker polls: by slot, as its newest plan has it.
struct Slots {
  private(set) var sources: [Plan.Source?] = []
  /// Slots that no queue has, nor is about to have.
  private var free: [Int] = []
  /// Sources there are.
  private(set) var count = 0
  /// No queue has a slot, nor is about to have one.
  var isEmpty: Bool { free.count == sources.count }

  /// A slot for a queue that is about to be polled; `nil`: there is none.
  mutating func reserve() -> Int? {
    if let slot = free.popLast() { return slot }
    guard sources.count < Plan.maximumSlots else { return nil }
    sources.append(nil)
    return sources.count - 1
  }

  /// Gives a slot back.
  mutating func release(_ slot: Int) {
    set(slot, nil)
    free.append(slot)
  }

  mutating func set(_ slot: Int, _ source: Plan.Source?) {
    count += (source == nil ? 0 : 1) - (sources[slot] == nil ? 0 : 1)
    sources[slot] = source
  }
}
