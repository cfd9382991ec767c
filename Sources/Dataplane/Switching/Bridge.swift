internal import Synchronization

/// The switch itself, in two passes over a burst: learn and look up each frame, linking the frames of one
/// destination; then deliver a destination at a time, so that a receiver's ring is opened once a burst.
///
/// The algorithm is netmap VALE's. A burst is cut where unicast and flooded frames meet, so that each
/// receiver gets one sender's frames in the order they were sent.
extension Worker {
  /// Switches the first `count` frames of the burst, which came from `source`.
  mutating func bridge(_ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>, _ count: Int) {
    let counters = unsafe source.pointee.counters
    let port = Int(unsafe source.pointee.port)
    let alike = classify(plan, port: port, count, counters)
    if alike, count > 0 {
      let destination = unsafe burst.frames[0].destination
      if destination < Frame.flood {
        link(0, count)
        unsafe deliver(plan, source, to: Int(destination), first: 0, count)
        return
      }
    }
    var first = 0
    while first < count {
      let destination = unsafe burst.frames[first].destination
      if destination == Frame.dropped {
        first &+= 1
        continue
      }
      var end = first
      if destination == Frame.flood {
        while end < count, unsafe burst.frames[end].destination == Frame.flood { end &+= 1 }
        unsafe flood(plan, source, first, end)
      } else {
        while end < count, unsafe burst.frames[end].destination != Frame.flood { end &+= 1 }
        unsafe scatter(plan, source, first, end)
      }
      first = end
    }
  }

  // ---- Pass 1 ----

  /// Gives each frame its destination. Returns whether all have the same.
  private mutating func classify(_ plan: Plan, port: Int, _ count: Int, _ counters: Counters)
    -> Bool
  {
    // Most bursts are one flow: what the frame before was found to be need not be looked up again. The
    // memory of it lasts one burst, within which no address it has seen can be missed on another port.
    var lastSource = UInt64.max
    var lastDestination = UInt64.max
    var lastResult: UInt16 = 0
    var alike = true
    let now = table.now
    for index in 0..<count {
      let frame = unsafe burst.frames + index
      if unsafe frame.pointee.destination == Frame.dropped {
        alike = false
        continue
      }
      let header = unsafe frame.pointee.header
      let source = header.source
      if source.word != lastSource {
        if !source.isValidSource {
          counters.drop(.invalidSource)
          unsafe frame.pointee.destination = Frame.dropped
          alike = false
          continue
        }
        learn(source, port: port, now: now)
        lastSource = source.word
      }
      let destination = header.destination
      if destination.word != lastDestination {
        lastDestination = destination.word
        let result = look(up: destination, plan, from: port)
        if index > 0, result != lastResult { alike = false }
        lastResult = result
      }
      var result = lastResult
      if result > Frame.flood &- 16 {
        // A reason to drop, encoded below: rare, and named one frame at a time.
        if result != Frame.flood {
          counters.drop(Worker.reason(result))
          result = Frame.dropped
          alike = false
        }
      }
      unsafe frame.pointee.destination = result
    }
    return alike
  }

  private mutating func learn(_ mac: MACAddress, port: Int, now: UInt64) {
    switch table.learn(mac, port: port, now: now) {
    case .nothing, .refreshed: break
    case .learned: state.add(.learned)
    case .moved: state.add(.moved)
    case .evicted: state.add(.evicted)
    }
  }

  private static let reserved = Frame.flood - 1
  private static let hairpin = Frame.flood - 2
  private static let down = Frame.flood - 3

  private static func reason(_ result: UInt16) -> DropReason {
    switch result {
    case reserved: .reservedMulticast
    case hairpin: .hairpin
    default: .destinationDown
    }
  }

  @inline(always)
  private func look(up mac: MACAddress, _ plan: Plan, from port: Int) -> UInt16 {
    if mac.isGroup { return mac.isReserved ? Worker.reserved : Frame.flood }
    let found = table.port(of: mac)
    if found < 0 { return Frame.flood }
    if found == port { return Worker.hairpin }
    // SAFETY: the bound is checked in the same condition.
    guard found < plan.outputCount, unsafe plan.outputs[found].slotCount > 0 else {
      return Worker.down
    }
    return UInt16(truncatingIfNeeded: found)
  }

  // ---- Pass 2 ----

  /// Links frames `first ..< end` in order.
  @inline(always)
  private func link(_ first: Int, _ end: Int) {
    for index in first..<end {
      unsafe burst.frames[index].next = UInt16(truncatingIfNeeded: index &+ 1)
    }
    unsafe burst.frames[end &- 1].next = Frame.end
  }

  /// Delivers a run of unicast (and dropped) frames.
  private mutating func scatter(
    _ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>, _ first: Int, _ end: Int
  ) {
    var touched = 0
    for index in first..<end {
      let frame = unsafe burst.frames + index
      let destination = unsafe frame.pointee.destination
      if destination == Frame.dropped { continue }
      unsafe frame.pointee.next = Frame.end
      let list = unsafe lists + Int(destination)
      if unsafe list.pointee.count == 0 {
        unsafe list.pointee.head = UInt16(truncatingIfNeeded: index)
        unsafe destinations[touched] = destination
        touched &+= 1
      } else {
        unsafe burst.frames[Int(list.pointee.tail)].next = UInt16(truncatingIfNeeded: index)
      }
      unsafe list.pointee.tail = UInt16(truncatingIfNeeded: index)
      unsafe list.pointee.count &+= 1
    }
    for index in 0..<touched {
      let destination = Int(unsafe destinations[index])
      let list = unsafe lists[destination]
      unsafe lists[destination].count = 0
      unsafe deliver(plan, source, to: destination, first: list.head, Int(list.count))
    }
  }

  /// Delivers a run of flooded frames to every port that is up, but the one they came from.
  private mutating func flood(
    _ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>, _ first: Int, _ end: Int
  ) {
    let count = end &- first
    link(first, end)
    var copies = 0
    for index in 0..<plan.floodCount {
      let port = unsafe plan.flood[index]
      if unsafe port == source.pointee.port { continue }
      unsafe deliver(
        plan, source, to: Int(port), first: UInt16(truncatingIfNeeded: first), count)
      copies &+= 1
    }
    if copies == 0 {
      unsafe source.pointee.counters.drop(.noDestination, count)
    } else {
      unsafe source.pointee.counters.add(.replicas, count &* (copies &- 1))
    }
  }

  /// Delivers the frames linked from `first` to one port that is up.
  private mutating func deliver(
    _ plan: Plan, _ source: UnsafeMutablePointer<Plan.Source>, to port: Int, first: UInt16,
    _ count: Int
  ) {
    let output = unsafe plan.outputs[port]
    let pick =
      unsafe output.slotCount == 1 ? 0 : UInt32(source.pointee.pair) % output.slotCount
    let slot = unsafe output.slots + Int(pick)
    if sharesQueues, unsafe !Worker.take(slot.pointee.lock) {
      unsafe source.pointee.counters.drop(.queueBusy, count)
      return
    }
    let counters = unsafe slot.pointee.counters
    let delivered: SplitQueue.Delivered
    if let ring = unsafe slot.pointee.ring {
      delivered = unsafe ring.pointee.deliver(burst, first: first, limit: output.limit)
      unsafe ring.pointee.publish()
      unsafe ring.pointee.notify()
    } else {
      delivered = unsafe slot.pointee.tap.deliver(
        burst, first: first, limit: output.limit, vectors: vectors, counters)
    }
    if delivered.frames > 0 {
      counters.add(.frames, delivered.frames)
      counters.add(.bytes, delivered.bytes)
      counters.add(.bursts, 1)
    }
    if sharesQueues { unsafe slot.pointee.lock.pointee.store(0, ordering: .releasing) }
  }
}
