internal import CLinux
internal import Synchronization

/// SAFETY: slots are the plan's that this turn uses.
extension Worker {
  /// Sets the burst in hand aside: not all of it could be delivered.
  @inline(never)
  mutating func park(_ slot: Int, _ sources: UnsafePointer<Plan.Source>) {
    if parkedCount == Parked.capacity {
      unsafe finishHere(sources + slot)
      return
    }
    attention.park(slot)
    exchange(parkedCount)
    unsafe parked[parkedCount].slot = slot
    parkedCount &+= 1
  }

  /// Exchanges the burst in hand for one that was set aside.
  private mutating func exchange(_ index: Int) {
    let place = unsafe parked + index
    let (otherBurst, otherRest) = unsafe (place.pointee.burst, place.pointee.rest)
    unsafe place.pointee.burst = burst
    unsafe place.pointee.rest = rest
    burst = otherBurst
    rest = otherRest
  }

  /// Tries to deliver what was set aside.
  ///
  /// - Parameter othersAreIdle: nobody else has anything to do.
  @inline(never)
  mutating func retry(_ sources: UnsafePointer<Plan.Source>, othersAreIdle: Bool) {
    var index = parkedCount
    while index > 0 {
      index &-= 1
      let slot = unsafe parked[index].slot
      let source = unsafe sources + slot
      exchange(index)
      unsafe proceed(source, mayFlood: othersAreIdle || clx_ticks() >= floodAgain)
      let isDone = rest.isEmpty
      if isDone {
        let queue = unsafe source.pointee.queue
        queue.publish()
        notifyLater(queue)
      }
      exchange(index)
      if isDone { release(index, slot) }
    }
  }

  private mutating func release(_ index: Int, _ slot: Int) {
    parkedCount &-= 1
    // The places are exchanged and not copied: each has memory of its own.
    if index != parkedCount { unsafe swap(&parked[index], &parked[parkedCount]) }
    attention.heat(slot)
  }

  /// Goes on with the burst in hand.
  private mutating func proceed(_ source: UnsafePointer<Plan.Source>, mayFlood: Bool) {
    unsafe deliverRest(source)
    guard rest.flood.end > 0, mayFlood else { return }
    let begin = clx_ticks()
    let end = rest.flood.end
    if unsafe floodOn(source) { unsafe bridgeRuns(source, from: end) }
    let now = clx_ticks()
    floodAgain = now &+ (now &- begin)
  }

  /// Delivers the frames put aside whose receiveqs are free.
  private mutating func deliverRest(_ source: UnsafePointer<Plan.Source>) {
    var kept = 0
    let count = rest.count
    for index in 0..<count {
      let entry = unsafe rest.entries[index]
      var isHeld = false
      // Frames for one queue stay in their order.
      for before in 0..<kept where unsafe rest.entries[before].sink == entry.sink { isHeld = true }
      if unsafe !isHeld && Worker.take(entry.sink.pointee.state.lock) {
        unsafe fillHeld(
          entry.sink, source, rest.order + Int(entry.first), Int(entry.count), limit: entry.limit)
      } else {
        unsafe rest.entries[kept] = entry
        kept &+= 1
      }
    }
    rest.keep(kept)
  }

  // ---- The end of a turn ----

  /// Ends a turn in which bursts were set aside: goes on with them, and between serves the others, until there are none.
  /// Returns the frames taken meanwhile.
  @inline(never)
  mutating func settle(_ sources: UnsafePointer<Plan.Source>) -> Int {
    var moved = 0
    var fruitless = 0
    let start = clx_ticks()
    while parkedCount > 0 {
      var taken = unsafe pollHot(sources)
      let now = clx_ticks()
      if now >= attention.due { taken &+= unsafe tick(sources) }
      moved &+= taken
      let waiting = parkedCount
      unsafe retry(sources, othersAreIdle: taken == 0)
      // Nobody waits for his interrupt meanwhile.
      if unannouncedCount > 0 || interrupts.count > 0 { tellDrivers() }
      if now &- start > longestWait { unsafe abandonAll(sources) }
      if taken > 0 || parkedCount < waiting {
        fruitless = 0
      } else {
        fruitless &+= 1
        Worker.pause(fruitless)
      }
    }
    return moved
  }

  /// Waits a little: for a holder that runs, or one that has lost its CPU to this worker.
  private static func pause(_ times: Int) {
    if times < 1000 { clx_pause() } else { clx_yield() }
  }

  /// Where no more bursts can be set aside: waits for the queues that are held, and ends the flood.
  private mutating func finishHere(_ source: UnsafePointer<Plan.Source>) {
    let start = clx_ticks()
    var fruitless = 0
    while !rest.isEmpty {
      let waiting = rest.count
      // What can't be set aside ends here.
      rest.floodLeft = 0
      unsafe proceed(source, mayFlood: true)
      if clx_ticks() &- start > longestWait { unsafe abandon(source) }
      fruitless = rest.count < waiting ? 0 : fruitless &+ 1
      if fruitless > 0 { Worker.pause(fruitless) }
    }
    let queue = unsafe source.pointee.queue
    queue.publish()
    notifyLater(queue)
  }

  private mutating func abandonAll(_ sources: UnsafePointer<Plan.Source>) {
    for index in 0..<parkedCount {
      exchange(index)
      unsafe abandon(sources + parked[index].slot)
      exchange(index)
    }
  }

  /// Gives up the frames that were put aside.
  private mutating func abandon(_ source: UnsafePointer<Plan.Source>) {
    for index in 0..<rest.count {
      unsafe source.pointee.counters.drop(.queueBusy, Int(rest.entries[index].count))
    }
    rest.keep(0)
  }

  // ---- Sharing receiveqs ----

  /// Fills a receiveq that other workers fill too: now, if it is free, else later.
  @inline(never)
  mutating func fillShared(
    _ sink: UnsafePointer<Output.Sink>, _ source: UnsafePointer<Plan.Source>,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) {
    if unsafe sink.pointee.queue.isReadByCall {
      // The kernel takes frames from several at a time.
      unsafe fillTogether(sink, source, order, count, limit: limit)
    } else if unsafe (rest.count == 0 || !rest.names(sink)) && Worker.take(sink.pointee.state.lock)
    {
      unsafe fillHeld(sink, source, order, count, limit: limit)
    } else {
      unsafe rest.add(sink, order, count, limit: limit)
    }
  }

  /// Gives frames to a queue that several workers may give to at the same time, as they may count what they gave.
  private func fillTogether(
    _ sink: UnsafePointer<Output.Sink>, _ source: UnsafePointer<Plan.Source>,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) {
    let delivered = unsafe sink.pointee.queue.deliver(burst, order, count, limit: limit)
    let counters = unsafe sink.pointee.state.counters
    if delivered.frames > 0 {
      counters.addTogether(.frames, delivered.frames)
      counters.addTogether(.bytes, delivered.bytes)
      counters.addTogether(.bursts, 1)
    }
    if delivered.extra > 0 { unsafe source.pointee.counters.add(.replicas, delivered.extra) }
  }

  /// Fills a receiveq whose lock this worker has, and gives it back.
  private mutating func fillHeld(
    _ sink: UnsafePointer<Output.Sink>, _ source: UnsafePointer<Plan.Source>,
    _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) {
    let queue = unsafe sink.pointee.queue
    unsafe deliverNow(sink, source, order, count, limit: limit)
    interruptLater(queue)
    unsafe sink.pointee.state.lock.pointee.store(0, ordering: .releasing)
  }

  /// Takes a receiveq's lock. It is held for one burst, so that a moment often does.
  @inline(always)
  static func take(_ lock: UnsafeMutablePointer<Atomic<UInt32>>) -> Bool {
    if unsafe lock.pointee.exchange(1, ordering: .acquiring) == 0 { return true }
    return unsafe wait(for: lock)
  }

  @inline(never)
  private static func wait(for lock: UnsafeMutablePointer<Atomic<UInt32>>) -> Bool {
    for _ in 0..<16 {
      clx_pause()
      if unsafe lock.pointee.load(ordering: .relaxed) == 0,
        unsafe lock.pointee.exchange(1, ordering: .acquiring) == 0
      {
        return true
      }
    }
    return false
  }
}
