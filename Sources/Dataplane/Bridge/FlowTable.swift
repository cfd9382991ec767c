internal import Synchronization

/// On which queue pair of a port each flow was sent last, and on which it is received: what receive steering follows
/// (virtio v1.4, 5.1.9.5.6).
///
/// Theory of operation. 4096 entries in sets of four. A flow lies anywhere in the set that its hash names; an
/// entry is one word, so a reader sees a whole entry or none. A worker that polls one of the port's transmitqs records
/// there where the flow is sent, one that delivers to the port where it was delivered, and when, so that a flow can
/// be kept from overtaking itself (`Steering`). Either writes only what has changed, by a compare-exchange, so
/// that neither undoes what the other has written.
///
/// Nothing tells when a flow has ended. So a new flow takes the place of one of which nothing was heard since the last
/// search for room: a flow's second frame in one direction marks its entry, and a search that finds all four marked unmarks them.
/// Flows of one frame displace each other, and not the ones that go on.
///
/// Everything here is a hint. Two workers that enter one flow at a time may leave it in two entries; the first
/// is the one that is found, and corrected. A flow that was displaced is spread like one never seen.
///
/// SAFETY: indices are hashes reduced to the number of sets, and places below `ways`.
@safe struct FlowTable: @unchecked Sendable {
  static let ways = 4
  private static let setBits: UInt32 = 10
  static let capacity = ways << Int(setBits)
  static let byteCount = capacity * MemoryLayout<UInt64>.stride
  /// Queue pairs a port may have.
  static let maximumPairs = 256

  private let entries: UnsafeMutablePointer<Atomic<UInt64>>

  /// - Parameter memory: `byteCount` zeroed bytes, cache-line aligned, which outlive every copy of this.
  init(_ memory: UnsafeMutableRawPointer) {
    unsafe entries = unsafe memory.bindMemory(to: Atomic<UInt64>.self, capacity: FlowTable.capacity)
  }

  var address: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(entries) }

  /// What is known of a flow, in one word. 0: empty.
  ///
  /// | bits | |
  /// | --- | --- |
  /// | 0–8 | the pair it was sent on last, + 1; 0: it never was |
  /// | 9–17 | the pair it was delivered on last, + 1; 0: it never was |
  /// | 18 | the mark |
  /// | 19–24 | when it was delivered last (`Time`) |
  /// | 25 | whether the next is known |
  /// | 26–41 | how far the receiveq was filled then (`Queue.mark`) |
  /// | 42–63 | what of the hash does not name the set |
  struct Entry: Equatable {
    private static let pairMask: UInt64 = 0x1FF
    private static let deliveredShift: UInt64 = 9
    private static let markBit: UInt64 = 1 << 18
    private static let timeShift: UInt64 = 19
    private static let placedBit: UInt64 = 1 << 25
    private static let placeShift: UInt64 = 26
    private static let tagShift: UInt64 = 42
    /// Bits 9 to 41, but for the mark.
    private static let deliveryMask: UInt64 = (1 << tagShift - 1) & ~(pairMask | markBit)

    var word: UInt64

    @inline(always) var isEmpty: Bool { word == 0 }
    @inline(always) var isMarked: Bool { word & Entry.markBit != 0 }
    /// -1: none.
    @inline(always) var sent: Int { Int(word & Entry.pairMask) &- 1 }
    @inline(always) var delivered: Int {
      Int(word &>> Entry.deliveredShift & Entry.pairMask) &- 1
    }
    @inline(always) var time: Time {
      Time(UInt8(truncatingIfNeeded: word &>> Entry.timeShift))
    }
    /// `nil`: what was delivered last may not be in the receiveq yet.
    @inline(always) var place: UInt16? {
      word & Entry.placedBit == 0 ? nil : UInt16(truncatingIfNeeded: word &>> Entry.placeShift)
    }
    @inline(always) var unmarked: Entry { Entry(word: word & ~Entry.markBit) }

    @inline(always)
    init(word: UInt64) { self.word = word }

    @inline(always)
    init(_ flow: FlowHash) { word = UInt64(flow.word &>> FlowTable.setBits) &<< Entry.tagShift }

    @inline(always)
    func isOf(_ flow: FlowHash) -> Bool {
      !isEmpty && (word ^ Entry(flow).word) &>> Entry.tagShift == 0
    }

    /// The entry after the flow was sent on `pair`; a second time marks it.
    @inline(always)
    func sent(on pair: Int) -> Entry {
      let known = word & Entry.pairMask
      return Entry(
        word: word & ~Entry.pairMask | Entry.number(pair) | (known == 0 ? 0 : Entry.markBit))
    }

    /// The entry after the flow was delivered on `pair`; a second time marks it.
    @inline(always)
    func delivered(on pair: Int, at time: Time, place: UInt16?) -> Entry {
      var delivery =
        Entry.number(pair) &<< Entry.deliveredShift | UInt64(time.number) &<< Entry.timeShift
      if delivered >= 0 { delivery |= Entry.markBit }
      if let place { delivery |= Entry.placedBit | UInt64(place) &<< Entry.placeShift }
      return Entry(word: word & ~Entry.deliveryMask | delivery)
    }

    @inline(always)
    private static func number(_ pair: Int) -> UInt64 {
      UInt64(truncatingIfNeeded: pair &+ 1) & pairMask
    }
  }

  /// A moment by a worker's clock, in steps of one to two seconds, of which 64 are told apart.
  struct Time: Equatable {
    let number: UInt8

    @inline(always)
    init(_ number: UInt8) { self.number = number & 63 }

    /// - Parameter tick: `Attention.tick`, of two to four microseconds.
    @inline(always)
    init(tick: UInt32) { self.init(UInt8(truncatingIfNeeded: tick &>> 19)) }

    /// Whether at least two seconds have passed since. After a minute or two it may seem not to have.
    @inline(always)
    func isPause(since earlier: Time) -> Bool { (number &- earlier.number) & 63 >= 3 }
  }

  // ---- Workers ----

  /// A flow's entry and where it is; -1: there is none.
  @inline(always)
  func find(_ flow: FlowHash) -> (index: Int, entry: Entry) {
    let set = set(of: flow)
    for way in 0..<FlowTable.ways {
      let entry = load(set &+ way)
      if entry.isOf(flow) { return (set &+ way, entry) }
    }
    return (-1, Entry(word: 0))
  }

  /// Records that a flow was just sent on `pair`.
  @inline(always)
  func record(_ flow: FlowHash, pair: Int) {
    let set = set(of: flow)
    for way in 0..<FlowTable.ways {
      let entry = load(set &+ way)
      if entry.isOf(flow) {
        let present = entry.sent(on: pair)
        // Where another worker has changed it at the same moment, the flow's next frame does.
        if entry != present { _ = exchange(set &+ way, entry, present) }
        return
      }
    }
    enter(Entry(flow).sent(on: pair), flow)
  }

  /// Records that a flow was just delivered on `pair`.
  ///
  /// - Parameters:
  ///   - index: where its entry was a moment ago, or -1.
  ///   - place: `nil`: it may not be in the receiveq yet.
  @inline(always)
  func recordDelivery(_ flow: FlowHash, _ index: Int, pair: Int, at time: Time, place: UInt16?) {
    if index >= 0 {
      let entry = load(index)
      if entry.isOf(flow) {
        let present = entry.delivered(on: pair, at: time, place: place)
        if entry == present || exchange(index, entry, present) { return }
      }
    }
    recordDeliveryAnew(flow, pair: pair, at: time, place: place)
  }

  /// `recordDelivery` of a flow that has no entry, or whose entry was changed at the same moment.
  @inline(never)
  private func recordDeliveryAnew(_ flow: FlowHash, pair: Int, at time: Time, place: UInt16?) {
    for _ in 0..<FlowTable.ways {
      let (index, entry) = find(flow)
      if index < 0 {
        enter(Entry(flow).delivered(on: pair, at: time, place: place), flow)
        return
      }
      if exchange(index, entry, entry.delivered(on: pair, at: time, place: place)) { return }
    }
  }

  /// Puts an unmarked entry in the place of an empty one, or else of an unmarked one.
  @inline(never)
  private func enter(_ entry: Entry, _ flow: FlowHash) {
    let set = set(of: flow)
    var place = -1
    // Where the search begins differs from flow to flow, lest the new ones always displace each other.
    let start = Int(truncatingIfNeeded: flow.word &>> 30)
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
        let old = load(set &+ way)
        _ = exchange(set &+ way, old, old.unmarked)
      }
      place = start
    }
    unsafe entries[set &+ place].store(entry.word, ordering: .relaxed)
  }

  // ---- Control ----

  /// Forgets every flow. No worker may be recording.
  func clear() {
    for index in 0..<FlowTable.capacity { unsafe entries[index].store(0, ordering: .relaxed) }
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
  private func exchange(_ index: Int, _ old: Entry, _ new: Entry) -> Bool {
    unsafe entries[index].compareExchange(
      expected: old.word, desired: new.word, ordering: .relaxed
    ).exchanged
  }
}
