internal import Synchronization

/// Steering: which receiveq of a port with several gets a frame.
///
/// A flow comes on the queue pair on which the port's guest sends it, as automatic receive steering asks (virtio
/// v1.4, 5.1.9.5.6): whoever runs a flow then has both its queues. What a guest sends is recorded in the port's
/// `FlowTable`, and what is delivered to it looked up there. A flow that is not known is spread by its hash over the
/// receiveqs of the worker's own, and stays where it was spread to.
///
/// A guest may change the pair with every frame it sends: a Linux guest does whenever a flow's acknowledgements are made
/// now by the process that reads, now by the interrupt, on different CPUs. Frames in two receiveqs have no order, so a
/// flow moves only when none of its frames can be left where it was: the driver has been seen past them
/// (`Queue.hasSeen`), or nothing was delivered of the flow for two seconds. Until then it stays. It does not
/// stay on a pair that is not enabled any more.
///
/// A pair whose receiveq was never given a buffer, of a driver that enables more pairs than it fills, is left out: its
/// frames go to the next that has some.
///
/// Nothing here is on the way of a frame between ports of one enabled pair.
///
/// SAFETY: frames are below `Burst.size`, places of sinks below `FlowTable.maximumPairs`: the arrays' counts.
@safe struct Steering {
  let key: UInt64
  /// By frame.
  let flows: UnsafeMutablePointer<FlowHash>
  /// By frame: where its flow's entry is, or -1.
  let entries: UnsafeMutablePointer<Int16>
  /// By the lowest bits of a flow's hash: the last frame of the delivery that has these.
  let latest: UnsafeMutablePointer<Latest>
  /// The delivery in hand.
  var delivery: UInt32 = 0
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

  /// What was decided of a flow. All its frames in a delivery go the same way, whatever the driver does meanwhile.
  struct Latest {
    var delivery: UInt32 = 0
    var flow: UInt32 = 0
    var pick: UInt16 = 0
    var entry: Int16 = 0
  }
  private static let latestCount = Burst.size

  init(arena: Arena, key: UInt64) throws {
    let flows = unsafe try arena.allocate(bytes: Burst.size * MemoryLayout<FlowHash>.stride)
    let lists = unsafe try arena.allocate(
      bytes: FlowTable.maximumPairs * MemoryLayout<Worker.List>.stride)
    let numbers = unsafe try arena.allocate(bytes: 3 * Burst.size * 2).bindMemory(
      to: UInt16.self, capacity: 3 * Burst.size)
    let entries = unsafe try arena.allocate(bytes: Burst.size * 2)
    let latest = unsafe try arena.allocate(
      bytes: Steering.latestCount * MemoryLayout<Latest>.stride)
    unsafe scratch = unsafe try arena.allocate(bytes: FlowHash.reach)
    self.key = key
    unsafe self.flows = unsafe flows.bindMemory(to: FlowHash.self, capacity: Burst.size)
    unsafe self.lists = unsafe lists.initializeMemory(
      as: Worker.List.self, repeating: .init(), count: FlowTable.maximumPairs)
    unsafe self.entries = unsafe entries.bindMemory(to: Int16.self, capacity: Burst.size)
    unsafe self.latest = unsafe latest.initializeMemory(
      as: Latest.self, repeating: Latest(), count: Steering.latestCount)
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
    steering.delivery &+= 1
    var touched = 0
    for position in 0..<count {
      let frame = Int(unsafe order[position])
      if !isKnown {
        unsafe steering.flows[frame] = unsafe FlowHash(
          burst, frame, key: steering.key, scratch: steering.scratch)
      }
      let pick = unsafe pick(frame, table, output, share)
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
      unsafe fillSteered(table, source, output, pick, order, count)
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
      unsafe fillSteered(
        table, source, output, pick, steering.order + Int(list.next &- list.count),
        Int(list.count))
    }
  }

  // ---- Where a flow goes ----

  /// The place of the sink that a frame goes to.
  @inline(always)
  private func pick(
    _ frame: Int, _ table: FlowTable, _ output: UnsafePointer<Output>, _ share: Output.Share
  ) -> UInt16 {
    let flow = unsafe steering.flows[frame]
    let latest = unsafe steering.latest + Int(flow.word & UInt32(Burst.size &- 1))
    if unsafe latest.pointee.flow == flow.word && latest.pointee.delivery == steering.delivery {
      unsafe steering.entries[frame] = unsafe latest.pointee.entry
      return unsafe latest.pointee.pick
    }
    let (index, entry) = table.find(flow)
    let pick = unsafe pick(flow, entry, output, share)
    let place = Int16(truncatingIfNeeded: index)
    unsafe steering.entries[frame] = place
    unsafe latest.pointee = Steering.Latest(
      delivery: steering.delivery, flow: flow.word, pick: pick, entry: place)
    return pick
  }

  /// The place of the sink that a flow goes to.
  ///
  /// - Parameter entry: the flow's, or an empty one.
  @inline(always)
  private func pick(
    _ flow: FlowHash, _ entry: FlowTable.Entry, _ output: UnsafePointer<Output>,
    _ share: Output.Share
  ) -> UInt16 {
    let (sent, delivered) = (entry.sent, entry.delivered)
    if sent != delivered, sent >= 0, delivered >= 0 {
      return unsafe Worker.pickOfTwo(flow, entry, output, share, moment)
    }
    let pair = max(sent, delivered)
    // SAFETY: only pairs of this port were recorded, and each has its place.
    if pair >= 0, case let place = unsafe output.place(of: pair), place != Output.closed {
      return place
    }
    return UInt16(truncatingIfNeeded: share.place(of: flow))
  }

  /// The place of the sink for a flow that is sent on another pair than it was delivered on last. Static, as a worker is too
  /// large to be copied for a call.
  @inline(never)
  private static func pickOfTwo(
    _ flow: FlowHash, _ entry: FlowTable.Entry, _ output: UnsafePointer<Output>,
    _ share: Output.Share, _ moment: FlowTable.Time
  ) -> UInt16 {
    let wanted = unsafe output.place(of: entry.sent)
    let present = unsafe output.place(of: entry.delivered)
    if present == Output.closed {
      return wanted == Output.closed ? UInt16(truncatingIfNeeded: share.place(of: flow)) : wanted
    }
    if wanted == Output.closed { return present }
    let queue = unsafe output.sinks[Int(present)].queue
    let mayMove =
      entry.place.map { queue.hasSeen($0) } ?? false || moment.isPause(since: entry.time)
    return mayMove ? wanted : present
  }

  private var moment: FlowTable.Time { FlowTable.Time(tick: attention.tick) }

  // ---- Filling ----

  /// Delivers frames to a sink of a port with several pairs, or to another where its driver has filled that alone, and
  /// records where their flows were delivered.
  private mutating func fillSteered(
    _ table: FlowTable, _ source: UnsafePointer<Plan.Source>, _ output: UnsafePointer<Output>,
    _ pick: Int, _ order: UnsafeMutablePointer<UInt16>, _ count: Int
  ) {
    let limit = unsafe output.pointee.limit
    let sinks = unsafe output.sinks
    var place = pick
    var outcome = unsafe fillOne(sinks + place, source, order, count, limit: limit)
    if case .neverFilled = outcome {
      (place, outcome) = unsafe divert(source, output, pick, order, count)
    }
    var mark: UInt16?
    if case .filled(let reached) = outcome { mark = reached }
    let pair = Int(unsafe sinks[place].pair)
    let now = moment
    var last: UInt32 = 0
    for position in 0..<count {
      let frame = Int(unsafe order[position])
      let flow = unsafe steering.flows[frame]
      if position > 0, flow.word == last { continue }
      last = flow.word
      table.recordDelivery(
        flow, Int(unsafe steering.entries[frame]), pair: pair, at: now, place: mark)
    }
  }

  /// Delivers frames to the next sink whose driver has filled it, or where there is none drops them where they were to
  /// go.
  @inline(never)
  private mutating func divert(
    _ source: UnsafePointer<Plan.Source>, _ output: UnsafePointer<Output>, _ pick: Int,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int
  ) -> (place: Int, Outcome) {
    let limit = unsafe output.pointee.limit
    let sinks = unsafe output.sinks
    let places = Int(unsafe output.pointee.count)
    for step in 1..<places {
      let place = (pick &+ step) % places
      let outcome = unsafe fillOne(sinks + place, source, order, count, limit: limit)
      if case .neverFilled = outcome { continue }
      return (place, outcome)
    }
    unsafe fill(sinks + pick, source, order, count, limit: limit)
    return (pick, .later)
  }

  private enum Outcome {
    /// The frames were delivered or dropped; so far is the queue filled now.
    case filled(UInt16)
    /// They were put aside.
    case later
    /// Nothing was done, as the driver has never posted a buffer there.
    case neverFilled
  }

  /// `fill`, which also tells what became of the frames.
  @inline(always)
  private mutating func fillOne(
    _ sink: UnsafePointer<Output.Sink>, _ source: UnsafePointer<Plan.Source>,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) -> Outcome {
    let queue = unsafe sink.pointee.queue
    if !sharesQueues {
      if queue.isUnfilled { return .neverFilled }
      unsafe deliverNow(sink, source, order, count, limit: limit)
      unsafe notifyLater(sink.pointee.queue)
      return .filled(queue.mark)
    }
    if queue.isReadByCall {
      unsafe fillShared(sink, source, order, count, limit: limit)
      return .filled(queue.mark)
    }
    let lock = unsafe sink.pointee.state.lock
    guard unsafe (rest.count == 0 || !rest.names(sink)) && Worker.take(lock) else {
      unsafe rest.add(sink, order, count, limit: limit)
      return .later
    }
    if queue.isUnfilled {
      unsafe lock.pointee.store(0, ordering: .releasing)
      return .neverFilled
    }
    unsafe deliverNow(sink, source, order, count, limit: limit)
    interruptLater(queue)
    let mark = queue.mark
    unsafe lock.pointee.store(0, ordering: .releasing)
    return .filled(mark)
  }
}
