internal import Linux

/// What of a burst is not delivered yet, and why.
///
/// Two things keep a burst from being delivered at once. Another worker is filling a receiveq that it wants; then the frames
/// for that queue are put aside, and those for others delivered. Or it floods more ports than a turn may reach; then it stops after a
/// slice of them. Either way the frames stay where they are, in their sender's memory, and the sender's queue is not
/// looked at before they have gone: none is lost, and their order is kept.
///
/// SAFETY: entries and positions stay below their capacities; what they name stays valid until the turn ends, and a
/// turn does not end before nothing is left.
@safe struct Rest {
  /// Frames for a receiveq that was held.
  @safe struct Entry {
    var sink: UnsafePointer<Output.Sink>
    var limit: UInt32
    /// Where in `order` they are.
    var first: UInt16
    var count: UInt16
  }

  /// A flood that goes on.
  struct Flood {
    /// The frames' places in the burst; none: there is no such flood.
    var first = 0
    var end = 0
    /// The ports that were up when it began, and where among them that was.
    var list = FloodList.none
    var start = 0
    /// How many ports of the list it has come to, and copies it was to make.
    var reached = 0
    var copies = 0
    /// Ports it could not reach.
    var refused = 0
  }

  private static let capacity = 3 * Burst.size
  private static let positions = 512

  let entries: UnsafeMutablePointer<Entry>
  let order: UnsafeMutablePointer<UInt16>
  private(set) var count = 0
  private var used = 0
  var flood = Flood()
  /// What floods of the burst may still cost.
  var floodLeft = 0
  /// Frames of the burst.
  var frames = 0

  init(arena: Arena) throws {
    let entries = unsafe try arena.allocate(bytes: Rest.capacity * MemoryLayout<Entry>.stride)
    let order = unsafe try arena.allocate(bytes: Rest.positions * 2)
    unsafe self.entries = unsafe entries.bindMemory(to: Entry.self, capacity: Rest.capacity)
    unsafe self.order = unsafe order.bindMemory(to: UInt16.self, capacity: Rest.positions)
  }

  @inline(always)
  var isEmpty: Bool { count | flood.end == 0 }

  /// Whether frames for `sink` wait, behind which others for it must.
  func names(_ sink: UnsafePointer<Output.Sink>) -> Bool {
    for index in 0..<count where unsafe entries[index].sink == sink { return true }
    return false
  }

  /// Whether a flood of so many frames may have them put aside for one port more, whichever queues of it they are for. Room is
  /// left for the frames of the burst that go to one port each, and do not look.
  func hasRoom(_ frames: Int) -> Bool {
    let wanted = frames &+ Burst.size
    return count &+ wanted <= Rest.capacity && used &+ wanted <= Rest.positions
  }

  /// Puts frames aside, for which there is room.
  mutating func add(
    _ sink: UnsafePointer<Output.Sink>, _ frames: UnsafeMutablePointer<UInt16>, _ number: Int,
    limit: UInt32
  ) {
    for index in 0..<number { unsafe order[used &+ index] = unsafe frames[index] }
    unsafe entries[count] = unsafe Entry(
      sink: sink, limit: limit, first: UInt16(truncatingIfNeeded: used),
      count: UInt16(truncatingIfNeeded: number))
    used &+= number
    count &+= 1
  }

  /// Leaves the first `number` entries only.
  mutating func keep(_ number: Int) {
    count = number
    if number == 0 { used = 0 }
  }
}

/// A burst that was set aside, with the slot of its source.
///
/// SAFETY: `capacity` of them lie in the worker's arena.
@safe struct Parked {
  var burst: Burst
  var rest: Rest
  var slot: Int

  /// Bursts set aside at a time; a turn in which there would be more waits for them.
  static let capacity = 2

  static func make(_ arena: Arena) throws -> UnsafeMutablePointer<Parked> {
    let memory = unsafe try arena.allocate(bytes: capacity * MemoryLayout<Parked>.stride)
    let first = unsafe memory.bindMemory(to: Parked.self, capacity: capacity)
    for index in 0..<capacity {
      unsafe (first + index).initialize(
        to: Parked(burst: try Burst(arena: arena), rest: try Rest(arena: arena), slot: 0))
    }
    return unsafe first
  }
}
