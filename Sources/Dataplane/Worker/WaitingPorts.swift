/// The ports for whose receiveqs a worker has left frames waiting (`WaitingFrames`), so that it comes back to them.
///
/// A port may wait in the lists of several workers: who finds nothing left strikes it out. The list has a place for
/// each port there may be.
///
/// SAFETY: numbers of ports are below `ForwardingTable.maximumPorts`; a port is in the list once at most.
@safe struct WaitingPorts {
  private let ports: UnsafeMutablePointer<UInt16>
  private let isListed: UnsafeMutablePointer<Bool>
  private(set) var count = 0
  /// The next place to be looked at.
  private var hand = 0
  /// The time-stamp counter from which on they are looked at again.
  var again: UInt64 = 0

  init(_ arena: Arena) throws {
    let number = ForwardingTable.maximumPorts
    unsafe ports = unsafe try arena.allocate(bytes: 2 * number).bindMemory(
      to: UInt16.self, capacity: number)
    unsafe isListed = unsafe try arena.allocate(bytes: number).initializeMemory(
      as: Bool.self, repeating: false, count: number)
  }

  @inline(never)
  mutating func add(_ port: Int, _ state: WorkerState) {
    if unsafe isListed[port] { return }
    unsafe isListed[port] = true
    unsafe ports[count] = UInt16(truncatingIfNeeded: port)
    count &+= 1
    state.waits = true
  }

  /// The next place of the list; there is one.
  mutating func next() -> Int {
    hand = hand &+ 1 < count ? hand &+ 1 : 0
    return hand
  }

  func port(_ place: Int) -> Int { Int(unsafe ports[place]) }

  mutating func remove(_ place: Int, _ state: WorkerState) {
    unsafe isListed[Int(ports[place])] = false
    count &-= 1
    unsafe ports[place] = unsafe ports[count]
    if count == 0 { state.waits = false }
  }
}
