internal import Synchronization

/// What a worker polls and where it may deliver: built by control, read by one worker, replaced whole.
///
/// SAFETY: the arrays have the counts beside them and are freed together, by control alone.
///
/// A turn uses one plan from beginning to end. Control frees a plan, and what only that plan named, when its
/// worker has been quiescent since it was replaced.
@safe struct Plan {
  let sources: UnsafeMutablePointer<Source>
  let sourceCount: Int
  /// By port number.
  let outputs: UnsafeMutablePointer<Output>
  let outputCount: Int
  /// Numbers of the ports that are up.
  let flood: UnsafeMutablePointer<UInt16>
  let floodCount: Int
  /// A ring without a kick descriptor is among the sources: its worker may not sleep for long.
  let mustPoll: Bool
  /// Receiveqs and TAP queues, in one array that the outputs point into.
  let slots: UnsafeMutablePointer<Slot>
  /// Places of pairs among the slots of their ports, likewise.
  let places: UnsafeMutablePointer<UInt16>

  /// A queue that frames come from.
  @safe struct Source {
    /// The ring, or `nil` for a TAP queue.
    var ring: VirtqueuePointer?
    var tap: TapQueue
    var counters: Counters
    var port: UInt16
    /// Number of the queue pair.
    var pair: UInt16
    /// Whose stations its frames come from and go to: a bridge domain or a VLAN.
    var domain: UInt16 = 0
    /// What its frames may ask for.
    var offloads: Offloads
    /// Started but not enabled: frames are taken and dropped.
    var discards: Bool
    /// Of a port with several open receiveqs: where the flows that come from it are recorded.
    var flows: FlowTable?
    /// The port's, unless it may have as many addresses as there is room for.
    var roll: AddressRoll?
    var credit = LearningCredit()
    /// TAP only: turns to go before the next read, and how many to wait after an empty one. A read is a
    /// system call; an idle uplink must not cost the guests one a turn.
    var pause: UInt16 = 0
    var backoff: UInt16 = 0
  }

  /// A port as a destination.
  @safe struct Output {
    /// Every open receiveq, the worker's own ones first.
    var slots: UnsafeMutablePointer<Slot>
    /// The worker's own ones. 0: the port is down.
    var slotCount: UInt32
    /// Bytes of the longest untagged frame.
    var limit: UInt32
    /// Of a port with several open receiveqs; `nil`: every frame goes to the first slot.
    var flows: FlowTable?
    /// By pair: which of the slots it is, or `closed`.
    var places: UnsafeMutablePointer<UInt16>
    static let closed: UInt16 = 0xFFFF
  }

  /// What an output is made of.
  struct Receivers {
    /// Every open receiveq, the worker's own ones first.
    var slots: [Slot] = []
    /// How many of them are the worker's own.
    var own = 0
    /// By pair: which of the slots it is, or `Output.closed`.
    var places: [UInt16] = []
    var flows: FlowTable?
    var limit: UInt32 = 0
  }

  /// A queue that frames go to.
  @safe struct Slot {
    var ring: VirtqueuePointer?
    var tap: TapQueue
    var counters: Counters
    /// 0: free, 1: a worker is filling the queue.
    var lock: UnsafeMutablePointer<Atomic<UInt32>>
  }

  static func allocate(
    sources: [Source], outputs: [Receivers], mustPoll: Bool
  ) -> UnsafeMutablePointer<Plan> {
    let sourceMemory = unsafe copy(sources)
    let slotMemory = unsafe copy(outputs.flatMap(\.slots))
    let placeMemory = unsafe copy(outputs.flatMap(\.places))
    var offset = 0
    var placeOffset = 0
    var list: [Output] = []
    var flood: [UInt16] = []
    for (port, output) in outputs.enumerated() {
      list.append(
        unsafe Output(
          slots: unsafe slotMemory + offset, slotCount: UInt32(output.own), limit: output.limit,
          flows: output.flows, places: placeMemory + placeOffset))
      offset += output.slots.count
      placeOffset += output.places.count
      if !output.slots.isEmpty { flood.append(UInt16(port)) }
    }
    let plan = UnsafeMutablePointer<Plan>.allocate(capacity: 1)
    unsafe plan.initialize(
      to: Plan(
        sources: sourceMemory, sourceCount: sources.count, outputs: copy(list),
        outputCount: list.count, flood: copy(flood), floodCount: flood.count, mustPoll: mustPoll,
        slots: slotMemory, places: placeMemory))
    return unsafe plan
  }

  static func deallocate(_ plan: UnsafeMutablePointer<Plan>) {
    unsafe plan.pointee.sources.deallocate()
    unsafe plan.pointee.outputs.deallocate()
    unsafe plan.pointee.flood.deallocate()
    unsafe plan.pointee.slots.deallocate()
    unsafe plan.pointee.places.deallocate()
    unsafe plan.deallocate()
  }

  private static func copy<Element>(_ elements: [Element]) -> UnsafeMutablePointer<Element> {
    // Whole cache lines of their own: a worker writes its sources.
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: (max(1, elements.count) * MemoryLayout<Element>.stride + 127) / 128 * 128,
      alignment: 128)
    let typed = unsafe memory.bindMemory(to: Element.self, capacity: max(1, elements.count))
    for (index, element) in elements.enumerated() {
      unsafe (typed + index).initialize(to: element)
    }
    return unsafe typed
  }
}
