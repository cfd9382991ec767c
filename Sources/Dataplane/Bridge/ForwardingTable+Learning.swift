internal import Synchronization

/// What workers do with the source of a frame, when it is not known yet that it is where it is.
extension ForwardingTable {
  /// What learning an address changed: no option set, whose literals would be arrays.
  struct Learned: Equatable {
    private let bits: UInt8

    static let nothing = Learned(bits: 0)
    /// The address was known at this destination already, and has a newer stamp now.
    static let refreshed = Learned(bits: 1)
    /// It was not in the table.
    static let learned = Learned(bits: 2)
    /// It was known at another destination.
    static let moved = Learned(bits: 4)
    /// The table had no room for it: another address went.
    static let evicted = Learned(bits: 8)
    /// The port had as many as it may have: another one of its own went.
    static let limited = Learned(bits: 16)
    /// It is known at another destination, and control has pinned it there: it stays.
    static let refused = Learned(bits: 32)
    /// The table had no room for it, and no port had so many that it was to lose one: it was not learned.
    static let crowded = Learned(bits: 64)

    @inline(always)
    static func | (left: Learned, right: Learned) -> Learned {
      Learned(bits: left.bits | right.bits)
    }

    @inline(always)
    func has(_ part: Learned) -> Bool { bits & part.bits != 0 }
  }

  /// Records that `key`, of a valid source, was just heard from `destination`.
  ///
  /// - Parameters:
  ///   - now: the present stamp.
  ///   - roll: the port's; `nil`: it may have as many addresses as there is room for.
  @inline(never)
  func enter(
    _ key: ForwardingKey, _ destination: Destination, now: UInt64, _ hints: Hints?,
    _ roll: AddressRoll?
  ) -> Learned {
    let hash = hash(key)
    let entry = Entry(key, destination, stamp: now)
    let known = find(key, hash)
    if known >= 0 {
      hints?.set(hash, slot: known)
      return renew(known, entry, roll)
    }
    let room = room(hash, entry)
    if room.slot < 0 { return .crowded }
    guard exchange(room.slot, room.old, entry, leaving: room.least) else { return .nothing }
    if let pinned = clearOthers(entry, hash, but: room.slot) {
      return pinned.destination == destination ? .nothing : .refused
    }
    hints?.set(hash, slot: room.slot)
    var learned = Learned.learned
    if !room.old.isEmpty { learned = learned | .evicted }
    if enrol(entry, room.slot, roll) { learned = learned | .limited }
    return learned
  }

  /// Has the entry in a slot say what `entry` says, if it is of the same key and may.
  @inline(always)
  private func renew(_ slot: Int, _ entry: Entry, _ roll: AddressRoll?) -> Learned {
    let old = load(slot)
    // The slot may have changed hands since; then the other writer's entry stands.
    if old.key != entry.key { return .nothing }
    if old.destination == entry.destination {
      if old.stamp == entry.stamp { return .nothing }
      // An ageless one gets the stamp too, which means nothing of it, so that `isCurrent` need not look at flags.
      guard exchange(slot, old, old.seen(entry.stamp)), !old.isAgeless else { return .nothing }
      return .refreshed
    }
    if old.isPinned { return .refused }
    guard exchange(slot, old, entry) else { return .nothing }
    // At another end of its port it is on the port's roll already.
    if old.port == entry.port { return .moved }
    return enrol(entry, slot, roll) ? .moved | .limited : .moved
  }

  /// Ends the entries of a key but the one just inserted; or that one, if another is pinned, which is returned then.
  func clearOthers(_ entry: Entry, _ hash: UInt64, but kept: Int) -> Entry? {
    // Between the insertion and the look: else two workers might each miss the other's.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    for index in 0..<(2 * ForwardingTable.bucketSize) {
      let slot = slot(index, hash)
      let other = load(slot)
      if slot == kept || other.key != entry.key { continue }
      if other.isPinned, !entry.isPinned {
        let mine = load(kept)
        // If not, somebody else has cleared it.
        if mine.key == entry.key, !mine.isPinned { _ = exchange(kept, mine, .empty) }
        return other
      }
      _ = exchange(slot, other, .empty)
    }
    return nil
  }

  // ---- Room ----

  /// A slot for a new entry, and what is in it.
  private struct Room {
    /// -1: there is none.
    var slot: Int
    var old: Entry
    /// What the port that loses its entry must have left.
    var least: Int?
  }

  /// An empty slot of the two buckets. Else, of the ports that have entries in them, the one that has most in the whole
  /// table loses the one longest unseen, if it still has more than the newcomer's port then. Else the newcomer's own
  /// port loses its longest unseen, if it has one there.
  ///
  /// So an entry that takes another port's place leaves that port at least one. Ports that work together can fill the
  /// table, but none of them can send a port's only address away, whatever they do and however silent it is.
  private func room(_ hash: UInt64, _ entry: Entry) -> Room {
    let vacant = vacancy(hash)
    if vacant >= 0, case let old = load(vacant), old.isEmpty { return Room(slot: vacant, old: old) }
    var others = Room(slot: -1, old: .empty)
    var own = Room(slot: -1, old: .empty)
    var most = 0
    var othersAge: UInt64 = 0
    var ownAge: UInt64 = 0
    for index in 0..<(2 * ForwardingTable.bucketSize) {
      let slot = slot(index, hash)
      let candidate = load(slot)
      if candidate.isEmpty || candidate.isAgeless { continue }
      let age = (entry.stamp &- candidate.stamp) & 63
      if candidate.port == entry.port {
        if own.slot >= 0, age <= ownAge { continue }
        own = Room(slot: slot, old: candidate)
        ownAge = age
      } else {
        let count = count(port: candidate.port)
        if count < most || (count == most && others.slot >= 0 && age <= othersAge) { continue }
        others = Room(slot: slot, old: candidate)
        most = count
        othersAge = age
      }
    }
    let count = count(port: entry.port)
    if others.slot >= 0, most >= count &+ 2 {
      others.least = count &+ 1
      return others
    }
    return own
  }
}
