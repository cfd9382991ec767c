internal import Synchronization

/// Which port an address was last seen on.
///
/// Theory of operation. The table is an array of 64-bit slots in buckets of eight, a cache line each. A slot
/// is one word (address, port, stamp), so a reader sees a whole entry or none, with no lock and no
/// sequence count. An address may lie in either of two buckets, chosen by a keyed hash (a guest that could
/// foresee it would fill one bucket). Workers look up and learn; control sweeps out what has been silent
/// too long. When both buckets are full, the port that has most entries in them loses the longest unseen of those.
/// So a guest that invents addresses displaces its own, and the table never grows. A port with a limit has a roll
/// besides (`AddressRoll`): when it is full, an address that comes sends one away.
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
  ///
  /// The one field: what else there is lies in the line before, so that a table is passed in a register.
  private let slots: UnsafeMutablePointer<Atomic<UInt64>>

  private struct Header: ~Copyable {
    /// The present stamp, advanced by control.
    let clock = Atomic<UInt64>(0)
    let capacity: Int
    let key: UInt64
    let multiplier: UInt64
  }

  /// Slots for at least `entries` addresses.
  static func capacity(for entries: Int) -> Int {
    var capacity = 2 * bucketSize
    while capacity < entries { capacity *= 2 }
    return capacity
  }

  static func byteCount(capacity: Int) -> Int { Arena.line + capacity * 8 }

  /// - Parameters:
  ///   - memory: `byteCount(capacity:)` zeroed bytes, cache-line aligned, which outlive every copy of this.
  ///   - capacity: from `capacity(for:)`.
  ///   - key: random; makes the hash unforeseeable.
  init(_ memory: UnsafeMutableRawPointer, capacity: Int, key: UInt64) {
    unsafe memory.bindMemory(to: Header.self, capacity: 1).initialize(
      to: Header(
        capacity: capacity, key: key, multiplier: 0x9E37_79B9_7F4A_7C15 ^ (key | 1)))
    unsafe slots = unsafe (memory + Arena.line).bindMemory(
      to: Atomic<UInt64>.self, capacity: capacity)
  }

  @inline(always)
  private var header: UnsafeMutablePointer<Header> {
    unsafe (UnsafeMutableRawPointer(slots) - Arena.line).assumingMemoryBound(to: Header.self)
  }

  @inline(always)
  var capacity: Int { unsafe header.pointee.capacity }
  @inline(always)
  var key: UInt64 { unsafe header.pointee.key }

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

  /// What learning an address changed: no option set, whose literals would be arrays.
  struct Learned: Equatable {
    private let bits: UInt8

    static let nothing = Learned(bits: 0)
    /// The address was known on this port already, and has a newer stamp now.
    static let refreshed = Learned(bits: 1)
    /// It was not in the table.
    static let learned = Learned(bits: 2)
    /// It was known on another port.
    static let moved = Learned(bits: 4)
    /// The table had no room for it: another address went.
    static let evicted = Learned(bits: 8)
    /// The port had as many as it may have: another one of its own went.
    static let limited = Learned(bits: 16)

    @inline(always)
    static func | (left: Learned, right: Learned) -> Learned {
      Learned(bits: left.bits | right.bits)
    }

    @inline(always)
    func has(_ part: Learned) -> Bool { bits & part.bits != 0 }
  }

  /// The present stamp: 0 to 63.
  @inline(always)
  var now: UInt64 { unsafe header.pointee.clock.load(ordering: .relaxed) }

  func setClock(_ stamp: UInt64) {
    unsafe header.pointee.clock.store(stamp, ordering: .relaxed)
  }

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

  /// Whether it is known already that `mac` was seen on `port` lately. "No" may be wrong; then `enter` finds out.
  @inline(always)
  func isCurrent(_ mac: MACAddress, port: Int, now: UInt64, _ hints: Hints) -> Bool {
    load(hints[hash(mac)]).word == Entry(mac, port: port, stamp: now).word
  }

  /// Records that `mac`, a valid source, was just seen on `port`.
  ///
  /// - Parameter roll: the port's; `nil`: it may have as many addresses as there is room for.
  @inline(never)
  func enter(
    _ mac: MACAddress, port: Int, now: UInt64, _ hints: Hints?, _ roll: AddressRoll?
  ) -> Learned {
    let hash = hash(mac)
    let entry = Entry(mac, port: port, stamp: now)
    var slot = find(mac, hash)
    if slot >= 0 {
      if let hints { hints[hash] = slot }
      let old = load(slot)
      if old.word == entry.word { return .nothing }
      // The slot may have changed hands since; then the other writer's entry stands.
      guard old.mac.word == mac.word, exchange(slot, old, entry) else { return .nothing }
      if old.port == port { return .refreshed }
      return enrol(entry, slot, roll) ? .moved | .limited : .moved
    }
    slot = vacancy(hash, entry)
    let old = load(slot)
    guard exchange(slot, old, entry) else { return .nothing }
    clearOthers(mac, hash, but: slot)
    if let hints { hints[hash] = slot }
    var learned = Learned.learned
    if old.word != 0 { learned = learned | .evicted }
    if enrol(entry, slot, roll) { learned = learned | .limited }
    return learned
  }

  private func clearOthers(_ mac: MACAddress, _ hash: UInt64, but kept: Int) {
    // Between the insertion and the look: else two workers might each miss the other's.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    for index in 0..<(2 * MACTable.bucketSize) {
      let slot = slot(index, hash)
      let entry = load(slot)
      if slot != kept, entry.mac.word == mac.word { _ = exchange(slot, entry, Entry(word: 0)) }
    }
  }

  /// An empty slot of the two buckets; else, of the port that has most entries in them once the new one is counted,
  /// the entry longest unseen.
  private func vacancy(_ hash: UInt64, _ entry: Entry) -> Int {
    for index in 0..<(2 * MACTable.bucketSize) {
      let slot = slot(index, hash)
      if load(slot).word == 0 { return slot }
    }
    var found = slot(0, hash)
    var greatest: UInt64 = 0
    for index in 0..<(2 * MACTable.bucketSize) {
      let slot = slot(index, hash)
      let candidate = load(slot)
      var count: UInt64 = candidate.port == entry.port ? 1 : 0
      for other in 0..<(2 * MACTable.bucketSize)
      where load(self.slot(other, hash)).port == candidate.port { count &+= 1 }
      let weight = (count &<< 6) | (entry.stamp &- candidate.stamp) & 63
      if weight > greatest {
        greatest = weight
        found = slot
      }
    }
    return found
  }

  // ---- Slots ----

  @inline(always)
  private func hash(_ mac: MACAddress) -> UInt64 {
    let product = unsafe (mac.word ^ key).multipliedFullWidth(by: header.pointee.multiplier)
    return product.high ^ product.low
  }

  /// First slots of the two buckets an address may lie in. They may be the same.
  @inline(always)
  private func buckets(_ hash: UInt64) -> (Int, Int) {
    let mask = capacity &- MACTable.bucketSize
    return (
      Int(truncatingIfNeeded: hash &<< 3) & mask,
      Int(truncatingIfNeeded: (hash &>> 32) &<< 3) & mask
    )
  }

  /// Slot 0 ..< 16 of the two buckets.
  @inline(always)
  private func slot(_ index: Int, _ hash: UInt64) -> Int {
    let (first, second) = buckets(hash)
    return index < MACTable.bucketSize
      ? first &+ index : second &+ index &- MACTable.bucketSize
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
  func load(_ slot: Int) -> Entry {
    // SAFETY: slots come from `buckets`, masked to the capacity, or from a loop bounded by it; hints and rolls hold
    // only such slots, and 0.
    Entry(word: unsafe slots[slot].load(ordering: .relaxed))
  }

  @inline(always)
  func exchange(_ slot: Int, _ old: Entry, _ new: Entry) -> Bool {
    unsafe slots[slot].compareExchange(
      expected: old.word, desired: new.word, ordering: .relaxed
    ).exchanged
  }
}
