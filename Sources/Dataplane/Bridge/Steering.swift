internal import Synchronization

/// Steering: which receiveq of a port with several gets a frame.
///
/// A flow stays on the queue pair on which the port's guest sends it, as automatic receive steering asks (virtio
/// v1.4, 5.1.9.5.6): whoever runs a flow then has both its queues. What a guest sends is recorded in the port's
/// `FlowTable`, and what is delivered to it looked up there. A flow that is not known, or whose pair is not
/// enabled now, is spread by its hash over the receiveqs of the worker's own. So it stays on one of them, and
/// its frames in order, for as long as nothing changes.
///
/// Nothing here is on the way of a frame between ports of one enabled pair.
///
/// SAFETY: frames are below `Burst.size`, places of sinks below `FlowTable.maximumPairs`: the arrays' counts.
@safe struct Steering {
  let key: UInt64
  /// By frame.
  let flows: UnsafeMutablePointer<FlowHash>
  /// By position in a delivery: the place of the sink that its frame goes to.
  let picks: UnsafeMutablePointer<UInt16>
  /// Frames of a delivery, a sink after the other.
  let order: UnsafeMutablePointer<UInt16>
  /// By sink: how many frames of a delivery go there. All zero between deliveries.
  let lists: UnsafeMutablePointer<Worker.List>
  /// The sinks of a delivery.
  let touched: UnsafeMutablePointer<UInt16>
  /// `FlowHash.reach` bytes.
  let scratch: UnsafeMutableRawPointer

  init(arena: Arena, key: UInt64) throws {
    let flows = unsafe try arena.allocate(bytes: Burst.size * MemoryLayout<FlowHash>.stride)
    let lists = unsafe try arena.allocate(
      bytes: FlowTable.maximumPairs * MemoryLayout<Worker.List>.stride)
    let numbers = unsafe try arena.allocate(bytes: 3 * Burst.size * 2).bindMemory(
      to: UInt16.self, capacity: 3 * Burst.size)
    unsafe scratch = unsafe try arena.allocate(bytes: FlowHash.reach)
    self.key = key
    unsafe self.flows = unsafe flows.bindMemory(to: FlowHash.self, capacity: Burst.size)
    unsafe self.lists = unsafe lists.initializeMemory(
      as: Worker.List.self, repeating: .init(), count: FlowTable.maximumPairs)
    unsafe picks = unsafe numbers
    unsafe order = unsafe numbers + Burst.size
    unsafe touched = unsafe numbers + 2 * Burst.size
  }
}

extension Worker {
  /// Records the flows of a burst that came from a port with several pairs.
  @inline(never)
  mutating func recordFlows(
    _ table: FlowTable, _ source: UnsafePointer<Plan.Source>, _ gathered: Gathered
  ) {
    let pair = Int(unsafe source.pointee.pair)
    for index in 0..<gathered.frames where gathered.dropped &>> UInt64(index) & 1 == 0 {
      let flow = unsafe FlowHash(burst, index, key: steering.key, scratch: steering.scratch)
      unsafe steering.flows[index] = flow
      table.record(flow, pair: pair)
    }
  }

  /// Delivers frames of the burst, in the order given, to a port with several pairs. The frames of a flow keep
  /// their order, as all of them go to one receiveq.
  @inline(never)
  mutating func steer(
    _ table: FlowTable, _ source: UnsafePointer<Plan.Source>, _ output: UnsafePointer<Output>,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int
  ) {
    let isKnown = unsafe source.pointee.flows != nil
    let share = unsafe output.share(of: index, of: workers)
    let limit = unsafe output.pointee.limit
    var touched = 0
    for position in 0..<count {
      let frame = Int(unsafe order[position])
      if !isKnown {
        unsafe steering.flows[frame] = unsafe FlowHash(
          burst, frame, key: steering.key, scratch: steering.scratch)
      }
      let pick = unsafe pick(steering.flows[frame], table, output, share)
      unsafe steering.picks[position] = pick
      let list = unsafe steering.lists + Int(pick)
      if unsafe list.pointee.count == 0 {
        unsafe steering.touched[touched] = pick
        touched &+= 1
      }
      unsafe list.pointee.count &+= 1
    }
    if touched == 1 {
      let pick = Int(unsafe steering.touched[0])
      unsafe steering.lists[pick].count = 0
      unsafe fill(output.sinks + pick, source, order, count, limit: limit)
      return
    }
    var next: UInt16 = 0
    for position in 0..<touched {
      let list = unsafe steering.lists + Int(steering.touched[position])
      unsafe list.pointee.next = next
      unsafe next &+= list.pointee.count
    }
    for position in 0..<count {
      let list = unsafe steering.lists + Int(steering.picks[position])
      unsafe steering.order[Int(list.pointee.next)] = unsafe order[position]
      unsafe list.pointee.next &+= 1
    }
    for position in 0..<touched {
      let pick = Int(unsafe steering.touched[position])
      let list = unsafe steering.lists[pick]
      unsafe steering.lists[pick].count = 0
      unsafe fill(
        output.sinks + pick, source, steering.order + Int(list.next &- list.count),
        Int(list.count), limit: limit)
    }
  }

  /// The place of the sink that a frame of `flow` goes to.
  @inline(always)
  private func pick(
    _ flow: FlowHash, _ table: FlowTable, _ output: UnsafePointer<Output>, _ share: Output.Share
  ) -> UInt16 {
    let pair = table.pair(of: flow)
    // SAFETY: only pairs of this port were recorded, and each has its place.
    if pair >= 0, case let place = unsafe output.place(of: pair), place != Output.closed {
      return place
    }
    return UInt16(truncatingIfNeeded: share.place(of: flow))
  }
}
