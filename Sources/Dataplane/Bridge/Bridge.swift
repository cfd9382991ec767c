internal import Synchronization

/// The switch itself, in two passes over a burst: learn and look up each frame; then deliver a destination at a
/// time, so that a receiver's ring is opened once a burst.
///
/// # Theory of operation
///
/// Here lives everything between taking a burst and giving it away. A queue has made frames of what it found (`Burst`);
/// their headers are loaded once and judged (`Burst+Judge`, `Burst+Offloads`), their sources learned and their
/// destinations looked up (`ForwardingTable`), and what is left of them is delivered. On its way out a frame may get another beginning
/// (`Front`), be cut into segments (`Segmenter`), or be dealt to one of several receiveqs by its flow (`Steering`).
/// Nothing here knows what kind of queue a frame came from or goes to. All of it is one worker's for the length of a
/// turn, but for the tables, which workers share without locks.
///
/// SAFETY: the source is the plan's that this turn uses, an output what `Ports` has just given; ports that are looked up are
/// masked to the size of the arrays that they index, frames are below `Burst.size`.
///
/// The algorithm is netmap VALE's. A burst is cut where unicast and flooded frames meet, so that each
/// receiver gets one sender's frames in the order they were sent.
extension Worker {
  /// Switches the frames of a burst that came from `source`.
  @inline(always)
  mutating func bridge(
    _ source: UnsafePointer<Plan.Source>, _ gathered: Gathered, _ judged: Burst.Judged
  ) {
    if judged.isOneFlow {
      unsafe bridgeFlow(source, gathered.frames)
    } else {
      unsafe bridgeEach(source, gathered)
    }
  }

  /// A burst of frames with the same two addresses, as most are: one look at the table for all.
  private mutating func bridgeFlow(
    _ source: UnsafePointer<Plan.Source>, _ count: Int
  ) {
    if let flows = unsafe source.pointee.flows {
      unsafe recordFlows(flows, source, Gathered(frames: count))
    }
    let counters = unsafe source.pointee.counters
    let port = Int(unsafe source.pointee.port)
    let header = unsafe burst.headers[0]
    guard header.source.isValidSource else {
      counters.drop(.invalidSource, count)
      return
    }
    let domain = unsafe source.pointee.domain
    let from = ForwardingKey(header.source, domain: domain)
    if unsafe !learn(from, Destination(port: port), now: table.now, source) {
      counters.add(.deferred, count)
    }
    let to = ForwardingKey(header.destination, domain: domain)
    let result = look(up: to, from: port)
    if result < Verdict.least {
      unsafe deliver(source, to: Destination(word: result).port, burst.natural, count)
    } else if result == Burst.Destination.flood {
      rest.floodLeft = Worker.floodCost
      rest.frames = count
      unsafe flood(source, 0, count)
    } else {
      counters.drop(Verdict.reason(result), count)
    }
  }

  private mutating func bridgeEach(
    _ source: UnsafePointer<Plan.Source>, _ gathered: Gathered
  ) {
    if let flows = unsafe source.pointee.flows { unsafe recordFlows(flows, source, gathered) }
    let count = gathered.frames
    if let destination = unsafe classify(source, gathered) {
      unsafe deliver(source, to: destination, burst.natural, count)
      return
    }
    rest.floodLeft = Worker.floodCost
    rest.frames = count
    unsafe bridgeRuns(source, from: 0)
  }

  /// Delivers the frames of a burst from `start` on, whose destinations are known; up to a flood that has to go on later.
  mutating func bridgeRuns(_ source: UnsafePointer<Plan.Source>, from start: Int) {
    let count = rest.frames
    var first = start
    while first < count {
      let destination = unsafe burst.destinations[first]
      if destination == Burst.Destination.none {
        first &+= 1
        continue
      }
      var end = first
      if destination == Burst.Destination.flood {
        while end < count, unsafe burst.destinations[end] == Burst.Destination.flood { end &+= 1 }
        if unsafe !flood(source, first, end) { return }
      } else {
        while end < count, unsafe burst.destinations[end] != Burst.Destination.flood { end &+= 1 }
        unsafe scatter(source, first, end)
      }
      first = end
    }
  }

  // ---- Pass 2 ----

  /// Delivers a run of unicast (and dropped) frames, sorted by destination.
  private mutating func scatter(
    _ source: UnsafePointer<Plan.Source>, _ first: Int, _ end: Int
  ) {
    var touched = 0
    for index in first..<end {
      let destination = unsafe burst.destinations[index]
      if destination == Burst.Destination.none { continue }
      let list = unsafe lists + Destination(word: destination).port
      if unsafe list.pointee.count == 0 {
        unsafe receivers[touched] = UInt16(truncatingIfNeeded: destination)
        touched &+= 1
      }
      unsafe list.pointee.count &+= 1
    }
    var next: UInt16 = 0
    for position in 0..<touched {
      let list = unsafe lists + Int(receivers[position])
      unsafe list.pointee.next = next
      unsafe next &+= list.pointee.count
    }
    for index in first..<end {
      let destination = unsafe burst.destinations[index]
      if destination == Burst.Destination.none { continue }
      let list = unsafe lists + Destination(word: destination).port
      unsafe burst.order[Int(list.pointee.next)] = UInt16(truncatingIfNeeded: index)
      unsafe list.pointee.next &+= 1
    }
    for position in 0..<touched {
      let destination = Int(unsafe receivers[position])
      let list = unsafe lists[destination]
      unsafe lists[destination].count = 0
      unsafe deliver(
        source, to: destination, burst.order + Int(list.next &- list.count), Int(list.count))
    }
  }

  /// Delivers frames of the burst, in the order given, to one port that was up when it was looked for.
  mutating func deliver(
    _ source: UnsafePointer<Plan.Source>, to port: Int, _ order: UnsafeMutablePointer<UInt16>,
    _ count: Int
  ) {
    guard let output = unsafe ports.output(port) else {
      unsafe source.pointee.counters.drop(.destinationDown, count)
      return
    }
    if let flows = unsafe output.pointee.flows {
      unsafe steer(flows, source, output, order, count)
    } else {
      unsafe fill(output.sinks, source, order, count, limit: output.pointee.limit)
    }
  }

  /// Delivers frames of the burst, in the order given, to one queue, or puts them aside while another worker fills it.
  @inline(always)
  mutating func fill(
    _ sink: UnsafePointer<Output.Sink>, _ source: UnsafePointer<Plan.Source>,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) {
    if sharesQueues {
      unsafe fillShared(sink, source, order, count, limit: limit)
    } else {
      unsafe deliverNow(sink, source, order, count, limit: limit)
      unsafe notifyLater(sink.pointee.queue)
    }
  }

  /// Delivers frames to a queue that nobody else fills at the moment.
  @inline(always)
  mutating func deliverNow(
    _ sink: UnsafePointer<Output.Sink>, _ source: UnsafePointer<Plan.Source>,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) {
    let queue = unsafe sink.pointee.queue
    let delivered = unsafe queue.deliver(burst, order, count, limit: limit)
    queue.publish()
    let counters = unsafe sink.pointee.state.counters
    if delivered.frames > 0 {
      counters.add(.frames, delivered.frames)
      counters.add(.bytes, delivered.bytes)
      counters.add(.bursts, 1)
    }
    if delivered.extra > 0 { unsafe source.pointee.counters.add(.replicas, delivered.extra) }
    if delivered.waiting { unsafe waiting.add(Int(sink.pointee.port), state) }
  }
}
