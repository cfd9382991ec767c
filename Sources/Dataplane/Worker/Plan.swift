internal import Linux

/// The queues a worker polls: built by control, read by one worker, replaced whole.
///
/// A turn uses one plan from beginning to end. Control frees a plan, and what only that plan named, when its
/// worker has been quiescent since it was replaced.
///
/// SAFETY: behind the struct, at `sourcesOffset`, lie `count` sources.
@safe struct Plan {
  let count: Int
  /// A queue without a doorbell is among the sources: its worker may not sleep for long.
  let mustPoll: Bool

  private static let sourcesOffset = 64

  /// A queue that frames come from.
  struct Source {
    var queue: Queue
    var state: QueueState
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

  static func make(_ sources: [Source], _ arena: Arena) throws(SystemError) -> Block {
    let block = try Block(
      arena, bytes: sourcesOffset + sources.count * MemoryLayout<Source>.stride)
    let memory = unsafe block.base
    let plan = unsafe memory.bindMemory(to: Plan.self, capacity: 1)
    unsafe plan.initialize(
      to: Plan(count: sources.count, mustPoll: sources.contains(where: \.mustPoll)))
    let first = unsafe (memory + sourcesOffset).bindMemory(
      to: Source.self, capacity: sources.count)
    unsafe sources.withUnsafeBufferPointer { sources in
      if let base = sources.baseAddress {
        unsafe first.initialize(from: base, count: sources.count)
      }
    }
    return block
  }

  /// The first source of a plan.
  @inline(always)
  static func sources(_ plan: UnsafeMutablePointer<Plan>) -> UnsafePointer<Source> {
    unsafe UnsafePointer(
      (UnsafeMutableRawPointer(plan) + sourcesOffset).assumingMemoryBound(to: Source.self))
  }
}
