internal import Synchronization

/// On which queue pair of a port each flow was sent last: what automatic receive steering follows (virtio v1.4,
/// 5.1.9.5.6).
///
/// Theory of operation. 4096 entries in sets of four. A flow lies anywhere in the set that its hash names; an
/// entry is one word (the rest of the hash, the pair, a mark), so a reader sees a whole entry or none. A worker
/// that polls one of the port's transmitqs records, one that delivers to the port looks up. An entry is written
/// only when it changes, so the lines stay shared among the workers while every flow stays on its pair.
///
/// Nothing tells when a flow has ended. So a new flow takes the place of one that has sent nothing since the last
/// search for room: a flow's second frame marks its entry, and a search that finds all four marked unmarks them.
/// Flows of one frame displace each other, and not the ones that go on.
///
/// Everything here is a hint. Two workers that record one flow at a time may leave it in two entries; the first
/// is the one that is found, and corrected. A flow that was displaced is spread like one never seen.
///
/// SAFETY: indices are hashes reduced to the number of sets, and places below `ways`.
@safe struct FlowTable: @unchecked Sendable {
  static let ways = 4
  private static let setBits: UInt32 = 10
  static let capacity = ways << Int(setBits)
  static let byteCount = capacity * MemoryLayout<UInt32>.stride
  /// Queue pairs a port may have.
  static let maximumPairs = 256

  private let entries: UnsafeMutablePointer<Atomic<UInt32>>

  /// - Parameter memory: `byteCount` zeroed bytes, cache-line aligned, which outlive every copy of this.
  init(_ memory: UnsafeMutableRawPointer) {
    unsafe entries = unsafe memory.bindMemory(to: Atomic<UInt32>.self, capacity: FlowTable.capacity)
  }

  var address: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(entries) }

  /// 22 bits of hash, the mark, and the pair + 1 in 9 bits. 0: empty.
  private struct Entry: Equatable {
    static let mark: UInt32 = 1 << 9
    static let pairMask: UInt32 = mark - 1
    static let tagMask = ~(mark | pairMask)

    var word: UInt32

    @inline(always) var isEmpty: Bool { word == 0 }
    @inline(always) var isMarked: Bool { word & Entry.mark != 0 }
    @inline(always) var pair: Int { Int(word & Entry.pairMask) &- 1 }

    @inline(always)
    func isOf(_ flow: FlowHash) -> Bool {
      !isEmpty && (word ^ Entry.tag(flow)) & Entry.tagMask == 0
    }

    @inline(always)
    static func tag(_ flow: FlowHash) -> UInt32 { flow.word & tagMask }
  }

  // ---- Workers ----

  /// The pair a flow was sent on last, or -1 when that is not known.
  @inline(always)
  func pair(of flow: FlowHash) -> Int {
    let set = set(of: flow)
    for way in 0..<FlowTable.ways {
      let entry = load(set &+ way)
      if entry.isOf(flow) { return entry.pair }
    }
    return -1
  }

  /// Records that a flow was just sent on `pair`.
  @inline(always)
  func record(_ flow: FlowHash, pair: Int) {
    let set = set(of: flow)
    let number = UInt32(truncatingIfNeeded: pair &+ 1) & Entry.pairMask
    let present = Entry(word: Entry.tag(flow) | Entry.mark | number)
    for way in 0..<FlowTable.ways {
      let entry = load(set &+ way)
      if entry == present { return }
      if entry.isOf(flow) {
        store(present, set &+ way)
        return
      }
    }
    enter(Entry(word: Entry.tag(flow) | number), set)
  }

  /// Puts an unmarked entry in the place of an empty one, or else of an unmarked one.
  @inline(never)
  private func enter(_ entry: Entry, _ set: Int) {
    var place = -1
    // Where the search begins differs from flow to flow, lest the new ones always displace each other.
    let start = Int(truncatingIfNeeded: entry.word &>> 30)
    for step in 0..<FlowTable.ways {
      let way = (start &+ step) & (FlowTable.ways &- 1)
      let old = load(set &+ way)
      if old.isEmpty {
        place = way
        break
      }
      if place < 0, !old.isMarked { place = way }
    }
    if place < 0 {
      for way in 0..<FlowTable.ways {
        store(Entry(word: load(set &+ way).word & ~Entry.mark), set &+ way)
      }
      place = start
    }
    store(entry, set &+ place)
  }

  // ---- Control ----

  /// Forgets every flow. No worker may be recording.
  func clear() {
    for index in 0..<FlowTable.capacity { store(Entry(word: 0), index) }
  }

  // ---- Entries ----

  @inline(always)
  private func set(of flow: FlowHash) -> Int {
    Int(flow.word & (1 &<< FlowTable.setBits &- 1)) &* FlowTable.ways
  }

  @inline(always)
  private func load(_ index: Int) -> Entry {
    Entry(word: unsafe entries[index].load(ordering: .relaxed))
  }

  @inline(always)
  private func store(_ entry: Entry, _ index: Int) {
    unsafe entries[index].store(entry.word, ordering: .relaxed)
  }
}
