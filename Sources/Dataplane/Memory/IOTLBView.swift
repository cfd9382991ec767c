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
  private static let missesOffset = 4 * Arena.line
  static let byteCount = missesOffset + capacity * 16

  private let block: UnsafeMutableRawPointer

  /// The places of the block's words; each line has one writer.
  private enum Word: Int {
    // Line 0: control, before the ring starts. The first three are the `MemoryView.Entry`.
    /// Counts of the time-stamp counter for which something may wait for a translation.
    case patience = 3
    case table, access, event
    /// The block of the frames that wait (`WaitingFrames`), of a receiveq.
    case frames
    // Line 1: the queue's user.
    case head = 8
    /// Whether misses are recorded, as they are in `lookAhead` only.
    case records
    /// Places ahead of the next chain that were looked at, and the table's generation then.
    case seen, seenGeneration
    /// The generation at which the next chain could not be translated.
    case awaited
    case total
    /// The time-stamp counter when the next chain began to wait, 0: none does, and when one was last given up.
    case since, givenUp
    // Line 2: control.
    case tail = 16
    // Line 3: the queue's user.
    /// Places ahead that are worth being asked for; places taken since the ring started, and so many when the next chain
    /// last had to wait.
    case window = 24
    case taken, takenBefore
  }

  /// Most and fewest places ahead that are asked for. Asking takes the front-end's time, and a guest may void all that was
  /// told every ten milliseconds: so no more is asked for than were used in such a while, or twice as many each time these
  /// are not enough.
  private static let windows: ClosedRange<UInt64> = 4...64

  init(_ block: UnsafeMutableRawPointer) { unsafe self.block = unsafe block }

  /// What tells it from others.
  var place: UInt { unsafe UInt(bitPattern: block) }

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

  /// Prepares the block for a ring that is not running, or is suspended, and returns the ring's memory table.
  ///
  /// - Parameter frames: where frames wait for it, of a receiveq.
  func connect(_ iotlb: IOTLB, access: DeviceAccess, frames: WaitingFrames?) -> MemoryView {
    store(.patience, iotlb.patience)
    store(.frames, UInt64(frames?.place ?? 0))
    store(.table, UInt64(UInt(bitPattern: unsafe iotlb.current)))
    store(.access, UInt64(access.rawValue))
    store(.event, UInt64(iotlb.missed.descriptor.raw))
    store(.records, 0)
    store(.seen, 0)
    store(.seenGeneration, 0)
    store(.awaited, 0)
    // A ring that starts for the first time has its place to find yet.
    let isNew = load(.window) == 0
    store(.window, IOTLBView.within(isNew ? .max : load(.taken) &+ load(.taken) / 2))
    store(.taken, 0)
    store(.takenBefore, 0)
    let entry = unsafe block.bindMemory(to: MemoryView.Entry.self, capacity: 1)
    // Not while another queue stands for the ring, whose user reads it.
    if unsafe entry.pointee.host != place {
      unsafe entry.initialize(to: MemoryView.Entry(start: 0, size: 0, host: place))
    }
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
    let taken = load(.taken)
    if taken != load(.takenBefore) {
      // All that was known ahead has been used.
      store(.window, IOTLBView.within(2 &* load(.window)))
      store(.takenBefore, taken)
    }
    return true
  }

  private static func within(_ window: UInt64) -> UInt64 {
    min(max(window, windows.lowerBound), windows.upperBound)
  }

  /// Places ahead that are to be looked at.
  var window: Int { Int(truncatingIfNeeded: load(.window)) }

  /// Notes that the next chain lacks a translation. Returns whether it has for so long that it is to be given up.
  ///
  /// Those behind it have mostly waited with it, and were asked for with it: to each of them an eighth of the time is left.
  func hasWaitedLong() -> Bool {
    let now = clx_ticks()
    let since = load(.since)
    if since == 0 {
      store(.since, now)
      return false
    }
    let hasWaited = since &- load(.givenUp) < patience
    if now &- since < (hasWaited ? patience / 8 : patience) { return false }
    store(.since, 0)
    store(.givenUp, now)
    // What is next then is asked for, though the table be the same.
    store(.awaited, 0)
    return true
  }

  /// Notes that chains of `span` places were translated, and taken.
  func take(_ span: Int) {
    if load(.since) != 0 { store(.since, 0) }
    store(.taken, load(.taken) &+ UInt64(truncatingIfNeeded: span))
  }

  /// Counts of the time-stamp counter for which a frame may wait.
  var patience: UInt64 { load(.patience) }

  /// The frames that wait for the receiveq's buffers.
  var frames: WaitingFrames? {
    // SAFETY: the block of an `IOTLB` that the ring's record keeps alive.
    unsafe UnsafeMutableRawPointer(bitPattern: UInt(load(.frames))).map { unsafe WaitingFrames($0) }
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

  /// Forgets what waits, as the ring is stopped for good; returns how many frames did. No worker knows the queue.
  func forget() -> Int {
    store(.since, 0)
    store(.window, 0)
    defer { store(.frames, 0) }
    return frames?.removeAll() ?? 0
  }

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
