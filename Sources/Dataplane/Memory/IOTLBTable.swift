internal import Glibc
internal import Synchronization

/// The translations of one moment, sorted by device address; it never changes.
///
/// SAFETY: `base` leads to a header and as many entries as it counts; it stays allocated for as long as whoever
/// loaded it may use it (`IOTLB`).
@safe struct IOTLBTable {
  struct Entry {
    var start: UInt64
    var size: UInt64
    var host: UInt
    /// A `DeviceAccess`.
    var access: UInt64
  }

  private struct Header {
    var count: Int
    var generation: UInt64
  }

  let base: UnsafeMutableRawPointer

  /// The table that a word leads to now.
  init(_ current: UnsafeMutablePointer<Atomic<UInt>>) {
    // SAFETY: the word is never 0 once its IOTLB is made.
    unsafe base = unsafe UnsafeMutableRawPointer(
      bitPattern: current.pointee.load(ordering: .acquiring)
    ).unsafelyUnwrapped
  }

  static func allocate(_ entries: [Entry], generation: UInt64) -> UnsafeMutableRawPointer {
    let bytes = MemoryLayout<Header>.stride + entries.count * MemoryLayout<Entry>.stride
    guard let base = unsafe malloc(bytes) else { fatalError("no memory for an IOTLB") }
    unsafe base.initializeMemory(
      as: Header.self, to: Header(count: entries.count, generation: generation))
    let first = unsafe (base + MemoryLayout<Header>.stride).bindMemory(
      to: Entry.self, capacity: entries.count)
    for (index, entry) in entries.enumerated() { unsafe (first + index).initialize(to: entry) }
    return unsafe base
  }

  private var header: Header { unsafe base.load(as: Header.self) }

  /// Grows with every table.
  var generation: UInt64 { header.generation }

  /// The address here of `address` and how many bytes lie behind it that are known too, at most `length`; `nil`
  /// when it is not known for `access`.
  func reach(
    _ address: UInt64, _ length: UInt32, _ access: DeviceAccess
  ) -> (base: UnsafeMutableRawPointer, length: UInt32)? {
    let entries = unsafe (base + MemoryLayout<Header>.stride).assumingMemoryBound(to: Entry.self)
    var low = 0
    var high = header.count
    // The first entry that begins behind `address`: the one before it is the only one that may hold it.
    while low < high {
      let middle = (low &+ high) / 2
      if unsafe entries[middle].start <= address { low = middle &+ 1 } else { high = middle }
    }
    if low == 0 { return nil }
    let entry = unsafe entries[low &- 1]
    let offset = address &- entry.start
    guard offset < entry.size,
      UInt64(access.rawValue) & ~entry.access == 0,
      let place = unsafe UnsafeMutableRawPointer(
        bitPattern: entry.host &+ UInt(truncatingIfNeeded: offset))
    else { return nil }
    let rest = min(UInt64(length), entry.size &- offset)
    return unsafe (place, UInt32(truncatingIfNeeded: rest))
  }
}
