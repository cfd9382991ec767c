/// Floods: frames for an address that nobody is known to have, or for a group, go to every port that is up.
///
/// One frame becomes as many copies as there are ports, so a guest that sends a few of them could keep the worker for
/// milliseconds. A flood is therefore delivered in slices, between which all the others have their turn (`Parked`), and as
/// much time as the slice took. What the floods of one burst may cost in all is bounded as well; then ports are left out,
/// by name: never uplinks, behind which there may be a whole network, and not always the same.
///
/// SAFETY: as of `Worker`.
extension Worker {
  /// What the floods of a burst may cost: two dozen short frames for a thousand ports, or eight long ones; some milliseconds.
  static let floodCost = 16 << 20
  /// What is delivered of them before the others have their turn: some 50 to 100 microseconds.
  private static let sliceCost = 1 << 20
  /// What a copy costs beyond its bytes, as if it were bytes.
  private static let copyCost = 512

  /// Floods frames `first ..< end`. Returns whether that is done; else the rest of the burst waits for it.
  @discardableResult
  mutating func flood(_ source: UnsafePointer<Plan.Source>, _ first: Int, _ end: Int) -> Bool {
    rest.flood = Rest.Flood(
      first: first, end: end, list: ports.flood, start: floodStart)
    return unsafe floodOn(source)
  }

  /// Goes on with a flood. Returns whether it is done.
  mutating func floodOn(_ source: UnsafePointer<Plan.Source>) -> Bool {
    var flood = rest.flood
    let count = flood.end &- flood.first
    var cost = count &* Worker.copyCost
    for index in flood.first..<flood.end { cost &+= Int(unsafe burst.lengths[index]) }
    let list = flood.list
    let own = Int(unsafe source.pointee.port)
    let start = flood.start
    var slice = Worker.sliceCost
    while flood.reached < list.count {
      if slice <= 0 || !rest.hasRoom(count) {
        rest.flood = flood
        return false
      }
      let port = list.port(flood.reached, from: start)
      flood.reached &+= 1
      if port == own { continue }
      flood.copies &+= 1
      if cost > rest.floodLeft {
        // The next one begins with those that this one does not reach.
        if flood.refused == 0 { floodStart &+= max(0, flood.reached &- 1 &- list.uplinks) }
        flood.refused &+= 1
        continue
      }
      rest.floodLeft &-= cost
      slice &-= cost
      unsafe deliver(source, to: port, burst.natural + flood.first, count)
    }
    rest.flood = Rest.Flood()
    finish(flood, count, unsafe source.pointee.counters)
    return true
  }

  private mutating func finish(_ flood: Rest.Flood, _ count: Int, _ counters: Counters) {
    if flood.copies == 0 {
      counters.drop(.noDestination, count)
      return
    }
    counters.add(.replicas, count &* (flood.copies &- 1))
    if flood.refused > 0 { counters.drop(.floodLimit, count &* flood.refused) }
  }
}
