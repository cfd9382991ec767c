/// What control does with the table while workers use it.
extension ForwardingTable {
  /// Why an entry could not be pinned.
  enum PinFailure: Error {
    /// The address is 0 or that of a group: no station has it.
    case notStation
    /// Both places where it may lie are full of ageless entries.
    case noRoom
  }

  /// Enters `key` for good, whatever was known of it. One call at a time.
  ///
  /// - Parameters:
  ///   - ageless: it stays until it is removed: it is neither aged nor moved nor evicted.
  ///   - locked: it ages when it is not heard, but no frame moves it to another destination.
  func pin(
    _ key: ForwardingKey, _ destination: Destination, ageless: Bool = true, locked: Bool = false
  ) throws(PinFailure) {
    guard key.mac.isValidSource else { throw .notStation }
    let hash = hash(key)
    let entry = Entry(key, destination, stamp: now, ageless: ageless, locked: locked)
    while true {
      var slot = find(key, hash)
      if slot < 0 { slot = try spare(for: entry, hash) }
      let old = load(slot)
      // Somebody else may have taken the slot, or refreshed what is in it: then all is looked at anew.
      if !old.isAgeless || old.key == key, exchange(slot, old, entry) {
        _ = clearOthers(entry, hash, but: slot)
        return
      }
    }
  }

  /// An empty slot, or that of the entry that can be spared best: longest unseen, of the port that has most.
  private func spare(for entry: Entry, _ hash: UInt64) throws(PinFailure) -> Int {
    var found = vacancy(hash)
    if found >= 0 { return found }
    var greatest: (count: Int, age: UInt64) = (0, 0)
    for index in 0..<(2 * ForwardingTable.bucketSize) {
      let slot = slot(index, hash)
      let candidate = load(slot)
      if candidate.isEmpty { return slot }
      if candidate.isAgeless { continue }
      let rank = (count(port: candidate.port), (entry.stamp &- candidate.stamp) & 63)
      if found < 0 || rank > greatest {
        found = slot
        greatest = rank
      }
    }
    if found < 0 { throw .noRoom }
    return found
  }

  /// Forgets one key, pinned or not. Returns whether it was known.
  @discardableResult
  func remove(_ key: ForwardingKey) -> Bool {
    // An empty slot has the key 0.
    if key == .none { return false }
    let hash = hash(key)
    var removed = false
    // More than one slot has it for a moment when two workers learn it at a time.
    while case let slot = find(key, hash), slot >= 0 {
      let entry = load(slot)
      if entry.key == key, exchange(slot, entry, .empty) { removed = true }
    }
    return removed
  }

  /// Advances the clock by one stamp and removes what was last seen `lifetime` stamps ago or earlier.
  /// Returns how many it removed.
  func age() -> Int {
    let now = (now &+ 1) & 63
    setClock(now)
    return remove { !$0.isAgeless && (now &- $0.stamp) & 63 >= ForwardingTable.lifetime }
  }

  /// Forgets every address of a port; what its roll says of them is void from then on.
  ///
  /// - Parameter ageless: those too that stay until they are removed.
  /// - Returns: how many there were.
  func flush(port: Int, ageless: Bool = false) -> Int {
    remove { $0.port == port && (ageless || !$0.isAgeless) }
  }

  /// Forgets every address of a domain, as `flush(port:)` those of a port.
  func flush(domain: UInt16, ageless: Bool = false) -> Int {
    remove { $0.key.domain == domain && (ageless || !$0.isAgeless) }
  }

  func remove(where condition: (Entry) -> Bool) -> Int {
    var removed = 0
    for slot in 0..<capacity {
      // An entry that was refreshed at this moment is looked at once more.
      while case let entry = load(slot), !entry.isEmpty, condition(entry) {
        if exchange(slot, entry, .empty) {
          removed += 1
          break
        }
      }
    }
    return removed
  }

  /// What control shows of an entry.
  struct Listing: Equatable {
    var key: ForwardingKey
    var destination: Destination
    /// Stamps since it was seen last; 0 of one that is ageless.
    var age: Int
    var isAgeless: Bool
    var isLocked: Bool

    var mac: MACAddress { key.mac }
    var domain: UInt16 { key.domain }
    var port: Int { destination.port }
  }

  /// Every entry there is.
  func entries() -> [Listing] {
    let now = now
    var seen: Set<UInt64> = []
    return (0..<capacity).compactMap { slot in
      let entry = load(slot)
      guard !entry.isEmpty, seen.insert(entry.key.word).inserted else { return nil }
      return Listing(
        key: entry.key, destination: entry.destination,
        age: entry.isAgeless ? 0 : Int((now &- entry.stamp) & 63), isAgeless: entry.isAgeless,
        isLocked: entry.isLocked)
    }
  }
}
