internal import CLinux
internal import Linux

/// Which of its queues a worker looks at, and when.
///
/// # Theory of operation
///
/// A look at a queue in which there is nothing costs some nanoseconds, and a worker may have a thousand. What a turn
/// costs is to follow the traffic, and not the number of those who are silent. So each source is in one of three states:
///
/// - **hot**: frames came from it a moment ago. It is looked at in every turn.
/// - **warm**: none has come for `patience` ticks. It is looked at by the clock: `looks` of them a tick, one after another. There are
///   `warmPlaces` of them, so that each is looked at every few microseconds, and a worker with few queues never asks a guest to
///   kick while it is awake.
/// - **cold**: there are more silent ones than that. Its driver has been asked to kick, and every `coldTicks` the kernel is asked,
///   in one call for all of them, who has. A kick is an exit for the guest, and it pays it for the first frame after
///   a silence only.
///
/// A queue without a doorbell can't become cold; one that is read by a system call (a TAP's) becomes cold at once, as a look
/// at it costs more than the kernel's answer. The clock is the processor's time-stamp counter, in ticks of some two
/// microseconds, which is read once a turn.
///
/// When the worker has nothing to do at all, it has the hot and the warm ones kick too, and sleeps.
///
/// All of it is the worker's own. Sources are known by their slots (`Plan`); a slot whose serial has changed has another queue.
///
/// SAFETY: slots are below `Plan.maximumSlots`, as `Slots` gives no other; each list has that many places, and a slot is in one of
/// them at most.
@safe struct Attention {
  enum State {
    /// No queue has the slot.
    static let none: UInt8 = 0
    static let hot: UInt8 = 1
    static let warm: UInt8 = 2
    static let cold: UInt8 = 3
    /// Its last burst waits to be delivered (`Parked`); it is in no list.
    static let parked: UInt8 = 4
  }

  /// Silent queues that are looked at by the clock, and how many of them a tick: so many, or an eighth of them where they
  /// can't become cold, up to a number that costs a tick no more than half of it.
  static let warmPlaces = 32
  private static let looks = 4
  private static let mostLooks = 64
  /// Ticks of silence after which a queue is not looked at in every turn any more: some 30 microseconds.
  private static let patience: UInt32 = 16
  /// Hot queues that may become silent in one tick, as each costs a fence.
  private static let demotions = 32
  /// Ticks between two questions to the kernel: some ten microseconds.
  private static let coldTicks: UInt32 = 4
  /// Kicks that are heeded at a time.
  static let kicks = 32

  // By slot.
  private let serials: UnsafeMutablePointer<UInt32>
  /// The tick in which the last frames came.
  let heard: UnsafeMutablePointer<UInt32>
  let states: UnsafeMutablePointer<UInt8>
  /// The place in the list that it is in.
  private let places: UnsafeMutablePointer<UInt16>

  let hot: UnsafeMutablePointer<UInt16>
  private(set) var hotCount = 0
  private let warm: UnsafeMutablePointer<UInt16>
  private(set) var warmCount = 0
  private(set) var coldCount = 0
  /// Slots that may be in use.
  private var known = 0
  /// The plan that all this is of.
  private(set) var version = 0

  /// The next warm one to be looked at, and the next to make room for another.
  private var hand = 0
  private var victim = 0
  /// All warm ones are looked at with the next tick: the worker has slept.
  private var looksAtAll = false
  /// The present tick.
  private(set) var tick: UInt32 = 0
  private var coldTick: UInt32 = 0
  /// The time-stamp counter at the next tick; never, of a worker that is turned by hand.
  private(set) var due: UInt64
  private let shift: UInt64

  /// - Parameter ticks: `false`: every source stays hot.
  init(arena: Arena, ticks: Bool) throws {
    func array<Element: BitwiseCopyable>(_ value: Element) throws -> UnsafeMutablePointer<Element> {
      let bytes = Plan.maximumSlots * MemoryLayout<Element>.stride
      return unsafe try arena.allocate(bytes: bytes).initializeMemory(
        as: Element.self, repeating: value, count: Plan.maximumSlots)
    }
    unsafe serials = unsafe try array(0)
    unsafe heard = unsafe try array(0)
    unsafe states = unsafe try array(State.none)
    unsafe places = unsafe try array(0)
    unsafe hot = unsafe try array(0)
    unsafe warm = unsafe try array(0)
    due = ticks ? 0 : .max
    shift = TickClock.shift
    readClock()
  }

  /// Brings the tick up to date where none has begun for long.
  mutating func readClock() { tick = UInt32(truncatingIfNeeded: clx_ticks() &>> shift) }

  // ---- Lists ----

  /// Has a source, which is in no list, be looked at in every turn.
  @inline(never)
  mutating func heat(_ slot: Int) {
    unsafe states[slot] = State.hot
    unsafe heard[slot] = tick
    unsafe places[slot] = UInt16(truncatingIfNeeded: hotCount)
    unsafe hot[hotCount] = UInt16(truncatingIfNeeded: slot)
    hotCount &+= 1
  }

  private mutating func addWarm(_ slot: Int) {
    unsafe states[slot] = State.warm
    unsafe places[slot] = UInt16(truncatingIfNeeded: warmCount)
    unsafe warm[warmCount] = UInt16(truncatingIfNeeded: slot)
    warmCount &+= 1
  }

  private mutating func addCold(_ slot: Int) {
    unsafe states[slot] = State.cold
    coldCount &+= 1
  }

  /// Takes a source out of the list that it is in.
  private mutating func remove(_ slot: Int) {
    let place = Int(unsafe places[slot])
    switch unsafe states[slot] {
    case State.hot:
      hotCount &-= 1
      let last = unsafe hot[hotCount]
      unsafe hot[place] = last
      unsafe places[Int(last)] = UInt16(truncatingIfNeeded: place)
    case State.warm:
      warmCount &-= 1
      let last = unsafe warm[warmCount]
      unsafe warm[place] = last
      unsafe places[Int(last)] = UInt16(truncatingIfNeeded: place)
    case State.cold: coldCount &-= 1
    default: break
    }
    unsafe states[slot] = State.none
  }

  /// Has a source not be looked at until `heat`.
  mutating func park(_ slot: Int) {
    remove(slot)
    unsafe states[slot] = State.parked
  }

  // ---- Plans ----

  /// Makes the lists agree with a plan that is new to the worker. Every source that is new is hot.
  @inline(never)
  mutating func adopt(_ plan: UnsafeMutablePointer<Plan>) {
    let count = unsafe plan.pointee.count
    let wanted = unsafe Plan.serials(plan)
    for slot in 0..<max(count, known) {
      let serial = slot < count ? unsafe wanted[slot] : 0
      if unsafe serials[slot] == serial { continue }
      if unsafe serials[slot] != 0 { remove(slot) }
      unsafe serials[slot] = serial
      if serial != 0 { heat(slot) }
    }
    known = count
    version = unsafe plan.pointee.version
  }

  // ---- The clock ----

  /// Begins a tick, and has those that were silent for long be looked at less often.
  mutating func begin(_ now: UInt64, _ sources: UnsafePointer<Plan.Source>) {
    let count = now &>> shift
    due = (count &+ 1) &<< shift
    tick = UInt32(truncatingIfNeeded: count)
    var left = Attention.demotions
    var place = hotCount
    while place > 0, left > 0 {
      place &-= 1
      let slot = Int(unsafe hot[place])
      if tick &- (unsafe heard[slot]) < Attention.patience { continue }
      left &-= 1
      unsafe cool(slot, sources)
    }
  }

  private mutating func cool(_ slot: Int, _ sources: UnsafePointer<Plan.Source>) {
    let source = unsafe sources + slot
    remove(slot)
    if unsafe source.pointee.queue.isReadByCall, unsafe ring(source) {
      addCold(slot)
      return
    }
    if warmCount >= Attention.warmPlaces { unsafe makeRoom(sources) }
    addWarm(slot)
  }

  /// Makes one of the warm ones cold, if one can be.
  private mutating func makeRoom(_ sources: UnsafePointer<Plan.Source>) {
    for _ in 0..<4 {
      victim = victim &+ 1 < warmCount ? victim &+ 1 : 0
      let slot = Int(unsafe warm[victim])
      if unsafe ring(sources + slot) {
        remove(slot)
        addCold(slot)
        return
      }
    }
  }

  /// Asks a source to ring. Returns whether it will, so that it need not be looked at.
  private func ring(_ source: UnsafePointer<Plan.Source>) -> Bool {
    if unsafe source.pointee.mustPoll { return false }
    let queue = unsafe source.pointee.queue
    if unsafe source.pointee.queue.isWaiting { return false }
    if !queue.arm() { return true }
    queue.disarm()
    return false
  }

  /// How many warm ones are to be looked at in this tick.
  mutating func warmLooks() -> Int {
    defer { looksAtAll = false }
    if looksAtAll { return warmCount }
    // Of three, `min` would make an array of those behind the second.
    return min(warmCount, max(Attention.looks, min(Attention.mostLooks, warmCount / 8)))
  }

  /// The next warm one; there is one.
  mutating func nextWarm() -> Int {
    hand = hand &+ 1 < warmCount ? hand &+ 1 : 0
    return Int(unsafe warm[hand])
  }

  /// Frames have come from a silent one.
  mutating func promote(_ slot: Int) {
    remove(slot)
    heat(slot)
  }

  /// Whether the kernel is to be asked now who has kicked.
  mutating func mustAsk() -> Bool {
    if coldCount == 0 || tick &- coldTick < Attention.coldTicks { return false }
    coldTick = tick
    return true
  }

  // ---- Sleep ----

  /// Asks every source that is looked at to ring. Returns whether there is something already.
  func arm(_ sources: UnsafePointer<Plan.Source>) -> Bool {
    var isBusy = false
    for place in 0..<hotCount {
      if unsafe sources[Int(hot[place])].queue.arm() { isBusy = true }
    }
    for place in 0..<warmCount {
      if unsafe sources[Int(warm[place])].queue.arm() { isBusy = true }
    }
    return isBusy
  }

  /// They need not ring any more, and are looked at soon.
  mutating func disarm(_ sources: UnsafePointer<Plan.Source>) {
    for place in 0..<hotCount { unsafe sources[Int(hot[place])].queue.disarm() }
    for place in 0..<warmCount { unsafe sources[Int(warm[place])].queue.disarm() }
    looksAtAll = true
    if due != .max { due = 0 }
  }

  /// A source has rung, whatever it was: it is looked at with the next turn.
  mutating func hear(_ slot: Int) {
    if slot < known, unsafe states[slot] == State.cold || states[slot] == State.warm {
      promote(slot)
    }
  }

  @inline(always)
  func isCold(_ slot: Int) -> Bool { slot < known && (unsafe states[slot]) == State.cold }

  /// Has everything be looked at with the next turn.
  mutating func hearAll() {
    for slot in 0..<known { hear(slot) }
  }
}
