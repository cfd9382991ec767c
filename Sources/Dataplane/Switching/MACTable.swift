internal import Synchronization

/// Which port an address was last seen on.
///
/// Theory of operation. The table is an array of 64-bit slots in buckets of eight, a cache line each. A slot
/// is one word (address, port, stamp), so a reader sees a whole entry or none, with no lock and no
/// sequence count. An address may lie in either of two buckets, chosen by a keyed hash (a guest that could
/// foresee it would fill one bucket). Workers look up and learn; control sweeps out what has been silent
/// too long. When both buckets are full the entry longest unseen makes room, so a guest that invents
/// addresses displaces the oldest first, and the table never grows.
///
/// Two workers may insert one address at the same moment into two slots. So whoever inserts looks once more and
/// clears every other slot of the address. Both may clear the other's; then the next frame teaches it again.
@safe struct MACTable: @unchecked Sendable {
  static let bucketSize = 8
  /// Ports have numbers below this.
  static let maximumPorts = 1024
  /// Stamps wrap at 64; an entry this many stamps old is gone.
  static let lifetime: UInt64 = 32

  /// 48 bits of address, 10 of port, 6 of stamp. 0: empty (no station has the address 0).
  private let slots: UnsafeMutablePointer<Atomic<UInt64>>
  /// The present stamp, advanced by control.
  private let clock: UnsafeMutablePointer<Atomic<UInt64>>
  private let bucketMask: UInt64
  let key: UInt64

  /// Slots for at least `entries` addresses.
  static func capacity(for entries: Int) -> Int {
    var capacity = 2 * bucketSize
    while capacity < entries { capacity *= 2 }
    return capacity
  }

  static func byteCount(capacity: Int) -> Int { Arena.line + capacity * 8 }

  let capacity: Int

  /// - Parameters:
  ///   - memory: `byteCount(capacity:)` zeroed bytes, cache-line aligned, which outlive every copy of this.
  ///   - capacity: from `capacity(for:)`.
  ///   - key: random; makes the hash unforeseeable.
  init(_ memory: UnsafeMutableRawPointer, capacity: Int, key: UInt64) {
    unsafe clock = unsafe memory.bindMemory(to: Atomic<UInt64>.self, capacity: 1)
    unsafe slots = unsafe (memory + Arena.line).bindMemory(
      to: Atomic<UInt64>.self, capacity: capacity)
    self.capacity = capacity
    bucketMask = UInt64(capacity / MACTable.bucketSize - 1)
    self.key = key
  }

  /// What a search found in a slot.
  struct Entry {
    var word: UInt64

    @inline(always) var mac: MACAddress { MACAddress(word: word) }
    @inline(always) var port: Int { Int(truncatingIfNeeded: (word &>> 48) & 0x3FF) }
    @inline(always) var stamp: UInt64 { word &>> 58 }

    @inline(always)
    init(word: UInt64) { self.word = word }

    @inline(always)
    init(_ mac: MACAddress, port: Int, stamp: UInt64) {
      word = mac.word | UInt64(truncatingIfNeeded: port) &<< 48 | stamp &<< 58
    }
  }

  /// What learning an address changed.
  enum Learned {
    case nothing, refreshed, learned, moved, evicted
  }

  /// The present stamp: 0 to 63.
  @inline(always)
  var now: UInt64 { unsafe clock.pointee.load(ordering: .relaxed) }

  // ---- Workers ----

  /// Where a worker found addresses last: slot numbers by hash. A hint may be wrong, as the slot itself says
  /// whose it is; so nobody need be told when an entry moves or goes.
  ///
  /// SAFETY: the memory is `byteCount` bytes, and indices are hashes reduced to `count`.
  @safe struct Hints: @unchecked Sendable {
    static let count = 4096
    static let byteCount = count * MemoryLayout<UInt32>.stride

    private let slots: UnsafeMutablePointer<UInt32>

    /// - Parameter memory: `byteCount` zeroed bytes which outlive every copy of this.
    init(_ memory: UnsafeMutableRawPointer) {
      unsafe slots = unsafe memory.bindMemory(to: UInt32.self, capacity: Hints.count)
    }

    @inline(always)
    subscript(hash: UInt64) -> Int {
      get { Int(unsafe slots[Int(truncatingIfNeeded: hash &>> 52)]) }
      nonmutating set {
        unsafe slots[Int(truncatingIfNeeded: hash &>> 52)] = UInt32(truncatingIfNeeded: newValue)
      }
    }
  }

  /// The port of `mac`, or -1 when the table does not know it.
  @inline(always)
  func port(of mac: MACAddress, _ hints: Hints) -> Int {
    let hash = hash(mac)
    let entry = load(hints[hash])
    return entry.word & MACAddress.mask == mac.word ? entry.port : search(mac, hash, hints)
  }

  @inline(never)
  private func search(_ mac: MACAddress, _ hash: UInt64, _ hints: Hints) -> Int {
    let slot = find(mac, hash)
    if slot < 0 { return -1 }
    hints[hash] = slot
    return load(slot).port
  }

  /// Records that `mac`, a valid source, was just seen on `port`.
  @inline(always)
  func learn(_ mac: MACAddress, port: Int, now: UInt64, _ hints: Hints) -> Learned {
    let hash = hash(mac)
    let entry = Entry(mac, port: port, stamp: now)
    return load(hints[hash]).word == entry.word ? .nothing : enter(entry, hash, hints)
  }

  @inline(never)
  private func enter(_ entry: Entry, _ hash: UInt64, _ hints: Hints?) -> Learned {
    var slot = find(entry.mac, hash)
    if slot >= 0 {
      if let hints { hints[hash] = slot }
      let old = load(slot)
      if old.word == entry.word { return .nothing }
      // The slot may have changed hands since; then the other writer's entry stands.
      guard old.mac.word == entry.mac.word, exchange(slot, old, entry) else { return .nothing }
      return old.port == entry.port ? .refreshed : .moved
    }
    slot = vacancy(hash, now: entry.stamp)
    let old = load(slot)
    guard exchange(slot, old, entry) else { return .nothing }
    clearOthers(entry.mac, hash, but: slot)
    if let hints { hints[hash] = slot }
    return old.word == 0 ? .learned : .evicted
  }

  private func clearOthers(_ mac: MACAddress, _ hash: UInt64, but kept: Int) {
    // Between the insertion and the look: else two workers might each miss the other's.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    let (first, second) = buckets(hash)
    for index in 0..<(2 * MACTable.bucketSize) {
      let slot =
        index < MACTable.bucketSize ? first &+ index : second &+ index &- MACTable.bucketSize
      let entry = load(slot)
      if slot != kept, entry.mac.word == mac.word { _ = exchange(slot, entry, Entry(word: 0)) }
    }
  }

  /// An empty slot of the two buckets, else the slot of the entry longest unseen.
  private func vacancy(_ hash: UInt64, now: UInt64) -> Int {
    let (first, second) = buckets(hash)
    var oldest = first
    var greatestAge: UInt64 = 0
    for index in 0..<(2 * MACTable.bucketSize) {
      let slot =
        index < MACTable.bucketSize ? first &+ index : second &+ index &- MACTable.bucketSize
      let entry = load(slot)
      if entry.word == 0 { return slot }
      let age = (now &- entry.stamp) & 63
      if age > greatestAge {
        greatestAge = age
        oldest = slot
      }
    }
    return oldest
  }

  // ---- Control ----

  /// `learn`, for those who have no hints.
  func learn(_ mac: MACAddress, port: Int) {
    _ = enter(Entry(mac, port: port, stamp: now), hash(mac), nil)
  }

  /// Advances the clock by one stamp and removes what was last seen `lifetime` stamps ago or earlier.
  /// Returns how many it removed.
  func age() -> Int {
    let now = (now &+ 1) & 63
    unsafe clock.pointee.store(now, ordering: .relaxed)
    return remove { (now &- $0.stamp) & 63 >= MACTable.lifetime }
  }

  /// Forgets every address of a port.
  func flush(port: Int) -> Int {
    remove { $0.port == port }
  }

  func remove(where condition: (Entry) -> Bool) -> Int {
    var removed = 0
    for slot in 0..<capacity {
      let entry = load(slot)
      if entry.word != 0, condition(entry), exchange(slot, entry, Entry(word: 0)) { removed += 1 }
    }
    return removed
  }

  /// Every entry there is, with its age in stamps.
  func entries() -> [(mac: MACAddress, port: Int, age: Int)] {
    let now = now
    var seen: Set<UInt64> = []
    return (0..<capacity).compactMap { slot in
      let entry = load(slot)
      guard entry.word != 0, seen.insert(entry.mac.word).inserted else { return nil }
      return (entry.mac, entry.port, Int((now &- entry.stamp) & 63))
    }
  }

  // ---- Slots ----

  @inline(always)
  private func hash(_ mac: MACAddress) -> UInt64 {
    let product = (mac.word ^ key).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15 ^ (key | 1))
    return product.high ^ product.low
  }

  /// First slots of the two buckets an address may lie in. They may be the same.
  @inline(always)
  private func buckets(_ hash: UInt64) -> (Int, Int) {
    (
      Int(truncatingIfNeeded: (hash & bucketMask) &<< 3),
      Int(truncatingIfNeeded: ((hash &>> 32) & bucketMask) &<< 3)
    )
  }

  /// The slot of an address, or -1.
  @inline(always)
  private func find(_ mac: MACAddress, _ hash: UInt64) -> Int {
    let (first, second) = buckets(hash)
    let slot = find(mac, in: first)
    return slot < 0 ? find(mac, in: second) : slot
  }

  @inline(always)
  private func find(_ mac: MACAddress, in bucket: Int) -> Int {
    var slot = bucket
    while slot < bucket &+ MACTable.bucketSize {
      if load(slot).word & MACAddress.mask == mac.word { return slot }
      slot &+= 1
    }
    return -1
  }

  @inline(always)
  private func load(_ slot: Int) -> Entry {
    // SAFETY: slots come from `buckets`, masked to the capacity, or from a loop bounded by it; hints hold only
    // such slots, and 0.
    Entry(word: unsafe slots[slot].load(ordering: .relaxed))
  }

  @inline(always)
  private func exchange(_ slot: Int, _ old: Entry, _ new: Entry) -> Bool {
    unsafe slots[slot].compareExchange(
      expected: old.word, desired: new.word, ordering: .relaxed
    ).exchanged
  }
}
