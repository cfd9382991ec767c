internal import Linux
internal import Synchronization

/// The ports as workers see them: for each number where its frames go, and which ports a flood reaches.
///
/// # Theory of operation
///
/// Here lives what is known of ports. `PortRecord` is control's: which queues run, under the data plane's lock. From it
/// control makes what workers work by, each piece of which never changes and is replaced whole: an `Output` for each
/// port that is up, found here by the port's number; the list of ports that a flood goes to; and, in `Plan`, the
/// queues that each worker polls. So a change costs what it changes: another output for the port it concerns, another
/// plan for the workers that poll its queues, and nothing for anybody else. What was replaced is freed when no worker
/// can hold it (`Quiescence`).
///
/// What must not be lost by that lies in the port's own memory, in which things do change, and which lives as long as
/// the port, whatever comes and goes (`PortState`, and for each queue `QueueState`).
///
/// A worker reads an output anew for each delivery, with one acquire load. Between finding that a port is up and
/// delivering to it control may take its output away; then the frames are dropped by the same name as if the port had been found down.
///
/// SAFETY: indices are port numbers, below `maximum`; the words hold 0 or the address of what control has made and not
/// freed.
@safe struct Ports: @unchecked Sendable {
  /// Ports have numbers below this.
  static let maximum = ForwardingTable.maximumPorts
  static let byteCount = Arena.line + maximum * MemoryLayout<UInt>.stride

  private let words: UnsafeMutablePointer<Atomic<UInt>>
  private static let first = Arena.line / MemoryLayout<UInt>.stride

  /// - Parameter memory: `byteCount` zeroed bytes, cache-line aligned, which outlive every copy of this.
  init(_ memory: UnsafeMutableRawPointer) {
    unsafe words = unsafe memory.bindMemory(
      to: Atomic<UInt>.self, capacity: Ports.first + Ports.maximum)
  }

  // ---- Workers ----

  /// Where frames for a port go; `nil`: it is down.
  @inline(always)
  func output(_ port: Int) -> UnsafePointer<Output>? {
    unsafe UnsafePointer(
      bitPattern: words[Ports.first &+ port].load(ordering: .acquiring))
  }

  /// The ports that are up, but for those that no flood is to reach.
  @inline(always)
  var flood: FloodList {
    unsafe FloodList(UnsafeRawPointer(bitPattern: words[0].load(ordering: .acquiring)))
  }

  // ---- Control ----

  /// Gives a port another output, or none.
  func setOutput(_ output: Block?, of port: Int) {
    unsafe words[Ports.first + port].store(UInt(bitPattern: output?.base), ordering: .releasing)
  }

  /// Gives floods other ports to go to.
  func setFlood(_ list: Block?) {
    unsafe words[0].store(UInt(bitPattern: list?.base), ordering: .releasing)
  }
}

/// The numbers of the ports that are up, uplinks first. It never changes.
///
/// SAFETY: the memory begins with the count of all and that of the uplinks, and that many numbers follow.
@safe struct FloodList {
  private let base: UnsafeRawPointer?

  @inline(always)
  init(_ base: UnsafeRawPointer?) { unsafe self.base = unsafe base }

  /// No port.
  @inline(always)
  static var none: FloodList { unsafe FloodList(nil) }

  @inline(always)
  var count: Int { unsafe Int(base?.load(as: UInt32.self) ?? 0) }

  @inline(always)
  var uplinks: Int {
    unsafe Int(base?.load(fromByteOffset: 4, as: UInt32.self) ?? 0)
  }

  /// The port that is `index`th to be reached by a flood: the uplinks, and then the others from one to another.
  ///
  /// - Parameter start: where among the others it begins, at any number.
  @inline(always)
  func port(_ index: Int, from start: Int) -> Int {
    let memory = unsafe base.unsafelyUnwrapped
    let uplinks = uplinks
    var place = index
    if index >= uplinks, start != 0 {
      let others = UInt(bitPattern: count &- uplinks)
      place =
        uplinks
        &+ Int(bitPattern: (UInt(bitPattern: index &- uplinks) &+ UInt(bitPattern: start)) % others)
    }
    return Int(unsafe memory.load(fromByteOffset: 8 &+ 2 &* place, as: UInt16.self))
  }

  static func make(
    uplinks: [UInt16], others: [UInt16], _ arena: Arena
  ) throws(SystemError) -> Block {
    let ports = uplinks + others
    let block = try Block(arena, bytes: 8 + 2 * ports.count)
    unsafe block.base.storeBytes(of: UInt32(ports.count), as: UInt32.self)
    unsafe block.base.storeBytes(of: UInt32(uplinks.count), toByteOffset: 4, as: UInt32.self)
    for (index, port) in ports.enumerated() {
      unsafe block.base.storeBytes(of: port, toByteOffset: 8 + 2 * index, as: UInt16.self)
    }
    return block
  }
}

/// Memory of what control makes for workers to read, and replaces: of the arena, in blocks of few sizes, so that those
/// which are given back serve again, whatever comes next. A pair of cache lines at least, as the processor fetches them, so that
/// nothing that control writes elsewhere takes a line from a worker.
///
/// SAFETY: `bytes` bytes from `base`; given back to the arena that it came from, once.
@safe struct Block {
  let base: UnsafeMutableRawPointer
  let bytes: Int

  init(_ arena: Arena, bytes wanted: Int, zeroed: Bool = false) throws(SystemError) {
    var bytes = 128
    while bytes < wanted { bytes *= 2 }
    self.bytes = bytes
    unsafe base = unsafe try arena.allocate(bytes: bytes, zeroed: zeroed)
  }

  func free(_ arena: Arena) { unsafe arena.deallocate(base, bytes: bytes) }
}
