internal import CLinux
internal import Linux
internal import Synchronization

/// One ring's way to its guest's IOTLB, and what it has missed there: a block of memory beside the queue's
/// counters.
///
/// A ring behind an IOMMU has a memory table of no regions, whose first entry covers nothing and tells where the
/// block is. So all that is quick with a memory table finds nothing, and takes the way out of line that a chain
/// in pieces takes; only at its end somebody asks whether there is an IOTLB (`MemoryView.reach`). A guest without
/// one does not pay for it.
///
/// Misses go into a ring of their own, from the queue's user to control. Each is told once for a table: after
/// `lookAhead` has gone over the chains ahead, they are asked for again only when the table has changed.
///
/// SAFETY: the block has `byteCount` bytes and lives as long as the port; the word it leads to as long as a ring
/// that uses it (`PortRecord.RingRecord`). Indices into `misses` are reduced to its capacity.
@safe struct IOTLBView {
  /// Misses that control has not taken yet; a power of two.
  static let capacity = 128
  private static let missesOffset = 3 * Arena.line
  static let byteCount = missesOffset + capacity * 16

  private let block: UnsafeMutableRawPointer

  /// The places of the block's words; each line has one writer.
  private enum Word: Int {
    // Line 0: control, before the ring starts. The first three are the `MemoryView.Entry`.
    case table = 4
    case access, event
    // Line 1: the queue's user.
    case head = 8
    /// Whether misses are recorded, as they are in `lookAhead` only.
    case records
    /// Places ahead of the next chain that were looked at, and the table's generation then.
    case seen, seenGeneration
    /// The generation at which the next chain could not be translated.
    case awaited
    case total
    // Line 2: control.
    case tail = 16
  }

  init(_ block: UnsafeMutableRawPointer) { unsafe self.block = unsafe block }

  @inline(always)
  private func word(_ word: Word) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe (block + 8 &* word.rawValue).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  @inline(always)
  private func load(_ place: Word) -> UInt64 { unsafe word(place).pointee.load(ordering: .relaxed) }

  @inline(always)
  private func store(_ place: Word, _ value: UInt64) {
    unsafe word(place).pointee.store(value, ordering: .relaxed)
  }

  /// Prepares the block for a ring that is not running, and returns the ring's memory table.
  func connect(_ iotlb: IOTLB, access: DeviceAccess) -> MemoryView {
    store(.table, UInt64(UInt(bitPattern: unsafe iotlb.current)))
    store(.access, UInt64(access.rawValue))
    store(.event, UInt64(iotlb.missed.descriptor.raw))
    store(.records, 0)
    store(.seen, 0)
    store(.seenGeneration, 0)
    store(.awaited, 0)
    let entry = unsafe block.initializeMemory(
      as: MemoryView.Entry.self,
      to: MemoryView.Entry(start: 0, size: 0, host: UInt(bitPattern: block)))
    return unsafe MemoryView(entries: entry, count: 0)
  }

  private var table: IOTLBTable {
    // SAFETY: `connect` has stored the address of a word that the ring's record keeps alive.
    unsafe IOTLBTable(
      UnsafeMutablePointer<Atomic<UInt>>(bitPattern: UInt(load(.table))).unsafelyUnwrapped)
  }

  // ---- The queue's user ----

  /// As `MemoryView.reach`, for buffers, or with an `access` of its own.
  func reach(
    _ address: UInt64, _ length: UInt32, _ access: DeviceAccess? = nil
  ) -> (base: UnsafeMutableRawPointer, length: UInt32)? {
    let access = access ?? DeviceAccess(rawValue: UInt8(truncatingIfNeeded: load(.access)))
    if let found = unsafe table.reach(address, length, access) { return unsafe found }
    if load(.records) != 0 { record(TranslationMiss(address: address, access: access)) }
    return nil
  }

  private func record(_ miss: TranslationMiss) {
    let head = load(.head)
    store(.total, load(.total) &+ 1)
    // What finds no place is asked for when the table has changed, as it will for those that have one.
    if head &- load(.tail) >= UInt64(IOTLBView.capacity) { return }
    let place = unsafe slot(head)
    unsafe place[0].store(miss.address, ordering: .relaxed)
    unsafe place[1].store(UInt64(miss.access.rawValue), ordering: .relaxed)
    unsafe word(.head).pointee.store(head &+ 1, ordering: .releasing)
  }

  private func slot(_ position: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
    let index = Int(truncatingIfNeeded: position) & (IOTLBView.capacity &- 1)
    return unsafe (block + IOTLBView.missesOffset + 16 &* index).assumingMemoryBound(
      to: Atomic<UInt64>.self)
  }

  /// Notes that the next chain can't be translated by the table of this generation. Returns whether that is news.
  func wait(_ generation: UInt64) -> Bool {
    if load(.awaited) == generation { return false }
    store(.awaited, generation)
    store(.seen, 0)
    return true
  }

  /// Whether the next chain waits for another table than there is.
  var isWaiting: Bool { load(.awaited) == generation }

  var generation: UInt64 { table.generation }

  /// Places ahead that were looked at since the table changed, or `nil` when they are `enough`. Else misses are
  /// recorded until `endLook`, which gets what this returns.
  func beginLook(enough: Int) -> Look? {
    let generation = generation
    let seen = load(.seenGeneration) == generation ? Int(truncatingIfNeeded: load(.seen)) : 0
    if seen >= enough { return nil }
    store(.records, 1)
    return Look(seen: seen, generation: generation, head: load(.head))
  }

  /// Notes that places up to `seen` were looked at, and tells control of what was missed.
  @inline(never)
  func endLook(_ look: Look, seen: Int) {
    store(.records, 0)
    store(.seen, UInt64(truncatingIfNeeded: seen))
    store(.seenGeneration, look.generation)
    if load(.head) != look.head { clx_eventfd_signal(CInt(truncatingIfNeeded: load(.event))) }
  }

  struct Look {
    var seen: Int
    fileprivate var generation: UInt64
    fileprivate var head: UInt64
  }

  /// Notes that `span` places were taken.
  func advance(by span: Int) {
    let seen = load(.seen)
    let taken = UInt64(truncatingIfNeeded: span)
    store(.seen, seen > taken ? seen &- taken : 0)
  }

  // ---- Control ----

  /// The misses recorded since the last time, oldest first.
  func takeMisses() -> [TranslationMiss] {
    let head = unsafe word(.head).pointee.load(ordering: .acquiring)
    var tail = load(.tail)
    var misses: [TranslationMiss] = []
    while tail != head {
      let place = unsafe slot(tail)
      misses.append(
        TranslationMiss(
          address: unsafe place[0].load(ordering: .relaxed),
          access: DeviceAccess(
            rawValue: UInt8(truncatingIfNeeded: unsafe place[1].load(ordering: .relaxed)))))
      tail &+= 1
    }
    unsafe word(.tail).pointee.store(tail, ordering: .releasing)
    return misses
  }
}
