internal import Synchronization

/// The addresses of one port in the order in which they came: what keeps it from having more than its limit.
///
/// Theory of operation. As many words as the port may have addresses. Each names a slot of the forwarding table and the
/// key that was put there; when another key or port has the slot by now, or none, the word is void. Whoever
/// enters an address on the port takes the next place whose word is void, and looks at `window` of them; if each
/// names an entry still, the one longest unseen goes, and of several the one that came first. So an address that
/// speaks outlives those that were heard once, a flood of new ones displaces itself, and the memory never changes.
///
/// Several workers may enter addresses of one port at the same moment. A place is taken by an exchange, and who takes
/// it ends the entry it named. As an entry is in the table before a place names it, a port never has more than
/// `limit` addresses, and one for each worker (or control) that is entering one right then.
///
/// SAFETY: places are reduced to `limit` by `next` and by those who count on from there.
@safe struct AddressRoll: @unchecked Sendable {
  /// Most places that are looked at for one address.
  static let window = 8
  private static let slotBits: UInt64 = 24
  /// Most slots of a table that a word can tell apart.
  static let maximumSlots = 1 << Int(slotBits)

  static func byteCount(limit: Int) -> Int { Arena.line + limit * MemoryLayout<UInt64>.stride }

  /// Most addresses of the port.
  let limit: Int
  private let turn: UnsafeMutablePointer<Atomic<UInt64>>
  private let places: UnsafeMutablePointer<Atomic<UInt64>>

  /// - Parameters:
  ///   - memory: `byteCount(limit:)` zeroed bytes, cache-line aligned, which outlive every copy of this.
  ///   - limit: 1 or more.
  init(_ memory: UnsafeMutableRawPointer, limit: Int) {
    precondition(limit > 0)
    self.limit = limit
    unsafe turn = unsafe memory.bindMemory(to: Atomic<UInt64>.self, capacity: 1)
    unsafe places = unsafe (memory + Arena.line).bindMemory(
      to: Atomic<UInt64>.self, capacity: limit)
  }

  var address: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(turn) }

  // ---- Words: 40 bits of the key's hash, and the slot ----

  // The hash stands for the whole key, as one address may be in the table once for each domain. Should two keys that
  // come to one slot agree in all 40 bits, a word that is void names the second of them, and that one may go early.

  /// - Parameter hash: of the key that was put into the slot.
  @inline(always)
  static func name(_ slot: Int, _ hash: UInt64) -> UInt64 {
    (hash &>> slotBits) &<< slotBits | UInt64(truncatingIfNeeded: slot)
  }

  @inline(always)
  static func slot(_ name: UInt64) -> Int {
    Int(truncatingIfNeeded: name & (1 &<< slotBits &- 1))
  }

  @inline(always)
  static func names(_ name: UInt64, _ hash: UInt64) -> Bool {
    name &>> slotBits == hash &>> slotBits
  }

  // ---- Places ----

  /// The place whose turn it is; the next call's is the one after it.
  @inline(always)
  func next() -> Int {
    let turn = unsafe turn.pointee.wrappingAdd(1, ordering: .relaxed).oldValue
    return Int(truncatingIfNeeded: turn % UInt64(truncatingIfNeeded: limit))
  }

  @inline(always)
  subscript(place: Int) -> UInt64 { unsafe places[place].load(ordering: .relaxed) }

  /// Takes a place, and returns what it named. Acquires what was done before that was written.
  @inline(always)
  func exchange(_ place: Int, _ name: UInt64) -> UInt64 {
    unsafe places[place].exchange(name, ordering: .acquiringAndReleasing)
  }
}
