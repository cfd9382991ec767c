internal import Synchronization

/// Where the stations are: for each address of a domain, the destination it was last heard from.
///
/// Theory of operation. The table is an array of slots in buckets of eight, two cache lines each. A slot has two words:
/// the key (domain, address) and the value (destination, stamp, flags, version). A writer replaces both with one
/// compare-exchange, in which the version grows. A reader takes no lock: it loads the value, the key and the value
/// again. When the value is the same both times, the slot did not change in between, and both words belong together
/// (decision 13). A key may lie in either of two buckets, chosen by a keyed hash (a guest that could foresee it would
/// fill one bucket). Workers look up and learn; control sweeps out what has been silent too long, and may pin entries
/// that no frame changes.
///
/// How many entries each port has is counted where slots are exchanged. When both buckets are full, the port that has
/// most of the whole table loses one to a newcomer whose port has fewer, else the newcomer's port loses its own. So a
/// guest that invents addresses displaces its own, a port's only address is never evicted, and the table never grows. A
/// port with a limit has a roll besides (`AddressRoll`): when it is full, an address that comes sends one away.
///
/// Two workers may insert one key at the same moment into two slots. So whoever inserts looks once more and clears
/// every other slot of the key. Both may clear the other's; then the next frame teaches it again.
///
/// SAFETY: slots come from `buckets`, masked to the capacity, or from a loop bounded by it; hints and rolls hold only
/// such slots, and 0. Ports are masked to `maximumPorts`, a power of two.
@safe struct ForwardingTable: @unchecked Sendable {
  static let bucketSize = 8
  /// Ports have numbers below this.
  static let maximumPorts = 1024
  /// Stamps wrap at 64; an entry this many stamps old is gone.
  static let lifetime: UInt64 = 32

  private static let slotSize = 16
  private static let countBytes = maximumPorts * MemoryLayout<Atomic<Int>>.stride

  /// Each slot: the key, then the value.
  ///
  /// The one field: what else there is lies before the slots, so that a table is passed in a register.
  private let slots: UnsafeMutableRawPointer

  /// In the line before the slots. Before it are the table's generation, in a line of its own, and the counts of entries,
  /// by port.
  private struct Header: ~Copyable {
    /// The present stamp, advanced by control.
    let clock = Atomic<UInt64>(0)
    let capacity: Int
    let secret: UInt64
    let multiplier: UInt64
  }

  /// Slots for at least `entries` addresses.
  static func capacity(for entries: Int) -> Int {
    var capacity = 2 * bucketSize
    while capacity < entries { capacity *= 2 }
    return capacity
  }

  static func byteCount(capacity: Int) -> Int { countBytes + 2 * Arena.line + capacity * slotSize }

  /// - Parameters:
  ///   - memory: `byteCount(capacity:)` zeroed bytes, cache-line aligned, which outlive every copy of this.
  ///   - capacity: from `capacity(for:)`, no more than `AddressRoll.maximumSlots`.
  ///   - secret: random; makes the hash unforeseeable.
  init(_ memory: UnsafeMutableRawPointer, capacity: Int, secret: UInt64) {
    precondition(capacity <= AddressRoll.maximumSlots)
    unsafe memory.bindMemory(to: Atomic<Int>.self, capacity: ForwardingTable.maximumPorts)
    let generation = unsafe memory + ForwardingTable.countBytes
    // No answer was given before it: that of a place never used is 0.
    unsafe generation.bindMemory(to: Atomic<UInt64>.self, capacity: 1).initialize(to: Atomic(1))
    let header = unsafe generation + Arena.line
    unsafe header.bindMemory(to: Header.self, capacity: 1).initialize(
      to: Header(capacity: capacity, secret: secret, multiplier: KeyedHash.multiplier(secret)))
    unsafe slots = unsafe header + Arena.line
  }

  @inline(always)
  private var header: UnsafeMutablePointer<Header> {
    unsafe (slots - Arena.line).assumingMemoryBound(to: Header.self)
  }

  @inline(always)
  var capacity: Int { unsafe header.pointee.capacity }
  @inline(always)
  var secret: UInt64 { unsafe header.pointee.secret }
  @inline(always)
  var multiplier: UInt64 { unsafe header.pointee.multiplier }

  /// The present stamp: 0 to 63.
  @inline(always)
  var now: UInt64 { unsafe header.pointee.clock.load(ordering: .relaxed) }

  private var generationWord: UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe (slots - 2 * Arena.line).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// Grows, afterwards, with each change by which a key that was known is known no longer, or at another destination. So
  /// what was found before is true still while this is what it was before that.
  @inline(always)
  var generation: UInt64 { unsafe generationWord.pointee.load(ordering: .acquiring) }

  func setClock(_ stamp: UInt64) {
    unsafe header.pointee.clock.store(stamp, ordering: .relaxed)
  }

  // ---- Looking up ----

  /// Where a worker found keys last: places of slots by hash. A hint may be wrong, as the slot itself says whose it
  /// is; so nobody need be told when an entry moves or goes.
  ///
  /// SAFETY: the memory is `byteCount` bytes, and indices are hashes reduced to `count`.
  @safe struct Hints: @unchecked Sendable {
    static let count = 4096
    static let byteCount = Pairs.offset + Pairs.byteCount

    /// Bytes from the first slot to the one meant, fewer than 2 to the 28th.
    private let places: UnsafeMutablePointer<UInt32>

    /// - Parameter memory: `byteCount` zeroed bytes which outlive every copy of this.
    init(_ memory: UnsafeMutableRawPointer) {
      unsafe places = unsafe memory.bindMemory(to: UInt32.self, capacity: Hints.count)
    }

    /// What was found of pairs of addresses, in the same memory.
    @inline(always)
    var pairs: Pairs { unsafe Pairs(UnsafeMutableRawPointer(places) + Pairs.offset) }

    @inline(always)
    fileprivate func place(_ hash: UInt64) -> Int {
      Int(unsafe places[Int(truncatingIfNeeded: hash &>> 52)])
    }

    @inline(always)
    func set(_ hash: UInt64, slot: Int) {
      unsafe places[Int(truncatingIfNeeded: hash &>> 52)] = UInt32(
        truncatingIfNeeded: slot &* ForwardingTable.slotSize)
    }
  }

  /// The word of the destination of `key`, or -1 when the table does not know it.
  @inline(always)
  func destination(of key: ForwardingKey, _ hints: Hints) -> Int {
    let hash = hash(key)
    let place = hints.place(hash)
    let value = value(at: place)
    // A slot that is changing at this moment is looked at anew.
    return self.key(at: place) == key.word && self.value(at: place) == value
      ? Int(Entry.destination(value)) : search(key, hash, hints)
  }

  @inline(never)
  private func search(_ key: ForwardingKey, _ hash: UInt64, _ hints: Hints) -> Int {
    let slot = find(key, hash)
    if slot < 0 { return -1 }
    let entry = load(slot)
    if entry.key != key { return -1 }
    hints.set(hash, slot: slot)
    return Int(entry.destination.word)
  }

  /// Whether it is known already that `key` was heard from `destination` lately. "No" may be wrong; then `enter` finds
  /// out.
  ///
  /// The value is loaded once. If the slot changes between the two loads, a "yes" is made of two entries that it held
  /// one after the other. Then one frame does not teach what the next one will; nothing is delivered by the answer.
  @inline(always)
  func isCurrent(
    _ key: ForwardingKey, _ destination: Destination, now: UInt64, _ hints: Hints
  ) -> Bool {
    let place = hints.place(hash(key))
    return self.key(at: place) == key.word
      && Entry.sighting(value(at: place)) == Entry.sighting(destination, now)
  }

  // ---- Where a key lies ----

  @inline(always)
  func hash(_ key: ForwardingKey) -> UInt64 {
    unsafe KeyedHash.hash(
      key.word, header.pointee.secret, multiplier: header.pointee.multiplier)
  }

  /// First slots of the two buckets a key may lie in. They may be the same.
  @inline(always)
  private func buckets(_ hash: UInt64) -> (Int, Int) {
    let mask = capacity &- ForwardingTable.bucketSize
    let spread = KeyedHash.spread(hash)
    return (
      Int(truncatingIfNeeded: spread &<< 3) & mask,
      Int(truncatingIfNeeded: (spread &>> 32) &<< 3) & mask
    )
  }

  /// Slot 0 ..< 16 of the two buckets.
  @inline(always)
  func slot(_ index: Int, _ hash: UInt64) -> Int {
    let (first, second) = buckets(hash)
    return index < ForwardingTable.bucketSize
      ? first &+ index : second &+ index &- ForwardingTable.bucketSize
  }

  /// The slot of a key, or -1. It may have changed hands when the caller looks at it.
  @inline(always)
  func find(_ key: ForwardingKey, _ hash: UInt64) -> Int {
    let (first, second) = buckets(hash)
    let slot = find(key, in: first)
    return slot < 0 ? find(key, in: second) : slot
  }

  @inline(always)
  private func find(_ key: ForwardingKey, in bucket: Int) -> Int {
    var slot = bucket
    while slot < bucket &+ ForwardingTable.bucketSize {
      if self.key(at: slot &* ForwardingTable.slotSize) == key.word { return slot }
      slot &+= 1
    }
    return -1
  }

  /// An empty slot for a key, in that of its buckets that has more of them: so both stay as full as they can. -1:
  /// there is none.
  @inline(always)
  func vacancy(_ hash: UInt64) -> Int {
    let (first, second) = buckets(hash)
    let one = vacancy(in: first)
    let other = vacancy(in: second)
    return one.count >= other.count ? one.slot : other.slot
  }

  @inline(always)
  private func vacancy(in bucket: Int) -> (slot: Int, count: Int) {
    var found = (slot: -1, count: 0)
    for slot in bucket..<(bucket &+ ForwardingTable.bucketSize)
    where key(at: slot &* ForwardingTable.slotSize) == 0 {
      found = (slot, found.count &+ 1)
    }
    return found
  }

  // ---- Slots ----

  @inline(always)
  private func key(at place: Int) -> UInt64 {
    unsafe (slots + place).assumingMemoryBound(to: Atomic<UInt64>.self).pointee.load(
      ordering: .acquiring)
  }

  @inline(always)
  private func value(at place: Int) -> UInt64 {
    unsafe (slots + (place &+ 8)).assumingMemoryBound(to: Atomic<UInt64>.self).pointee.load(
      ordering: .acquiring)
  }

  @inline(always)
  func load(_ slot: Int) -> Entry {
    let place = slot &* ForwardingTable.slotSize
    var value = value(at: place)
    while true {
      let key = key(at: place)
      let again = self.value(at: place)
      // Each time round, somebody else has finished a change.
      if again == value { return Entry(key: ForwardingKey(word: key), value: value) }
      value = again
    }
  }

  /// Replaces what a slot holds, unless it has changed: the one place where it is done, and where entries are counted.
  ///
  /// A port's count is lowered before its entry goes and raised after one has come. So between changes it is exact,
  /// and while they go on never more than there are.
  ///
  /// - Parameter least: what the port that loses an entry must have left; else nothing is done.
  func exchange(_ slot: Int, _ old: Entry, _ new: Entry, leaving least: Int? = nil) -> Bool {
    let loses = !old.isEmpty && (new.isEmpty || new.port != old.port)
    let gains = !new.isEmpty && (old.isEmpty || new.port != old.port)
    if loses, unsafe !lower(counter(old.port), leaving: least) { return false }
    let next = new.following(old)
    let place = unsafe (slots + slot &* ForwardingTable.slotSize).assumingMemoryBound(
      to: Atomic<WordPair>.self)
    let done = unsafe place.pointee.compareExchange(
      expected: WordPair(first: UInt(old.key.word), second: UInt(old.value)),
      desired: WordPair(first: UInt(next.key.word), second: UInt(next.value)),
      ordering: .acquiringAndReleasing
    ).exchanged
    if loses, !done { unsafe counter(old.port).pointee.wrappingAdd(1, ordering: .relaxed) }
    if gains, done { unsafe counter(new.port).pointee.wrappingAdd(1, ordering: .relaxed) }
    if done, !old.isEmpty, old.key != new.key || old.destination != new.destination {
      unsafe generationWord.pointee.wrappingAdd(1, ordering: .acquiringAndReleasing)
    }
    return done
  }

  // ---- Entries of each port ----

  /// How many entries lead to a port.
  func count(port: Int) -> Int {
    // For a moment it may be below zero: when an entry goes before it has been counted.
    max(0, unsafe counter(port).pointee.load(ordering: .relaxed))
  }

  private func counter(_ port: Int) -> UnsafeMutablePointer<Atomic<Int>> {
    let counts = unsafe (slots - 2 * Arena.line - ForwardingTable.countBytes).assumingMemoryBound(
      to: Atomic<Int>.self)
    return unsafe counts + (port & (ForwardingTable.maximumPorts - 1))
  }

  private func lower(_ counter: UnsafeMutablePointer<Atomic<Int>>, leaving least: Int?) -> Bool {
    guard let least else {
      unsafe counter.pointee.wrappingSubtract(1, ordering: .relaxed)
      return true
    }
    var count = unsafe counter.pointee.load(ordering: .relaxed)
    while count > least {
      let (done, present) = unsafe counter.pointee.compareExchange(
        expected: count, desired: count &- 1, ordering: .relaxed)
      if done { return true }
      count = present
    }
    return false
  }
}
