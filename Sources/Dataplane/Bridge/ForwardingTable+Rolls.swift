/// The table and the rolls of ports that have a limit.
extension ForwardingTable {
  /// Puts an entry that is new on its port on the port's roll, and ends the one whose place it takes. Returns
  /// whether there was one.
  ///
  /// The entry is in the table before it is on the roll. So whoever takes its place finds it, and no entry is left
  /// that no place of the roll names. Only pinned ones are on no roll: the limit is for what frames teach.
  func enrol(_ entry: Entry, _ slot: Int, _ roll: AddressRoll?) -> Bool {
    guard let roll else { return false }
    let name = AddressRoll.name(slot, hash(entry.key))
    let old = roll.exchange(place(for: name, entry, roll), name)
    if old == name { return false }
    var ended = named(old, port: entry.port)
    while !ended.isEmpty {
      if exchange(AddressRoll.slot(old), ended, .empty) { return true }
      // It was refreshed or moved at this moment.
      ended = named(old, port: entry.port)
    }
    return false
  }

  /// A place of the roll that names no entry of the port; else, of those whose turn it is, that of the entry longest
  /// unseen.
  private func place(for name: UInt64, _ entry: Entry, _ roll: AddressRoll) -> Int {
    var place = roll.next()
    var found = place
    var greatestAge = -1
    for _ in 0..<min(AddressRoll.window, roll.limit) {
      let other = roll[place]
      let candidate = named(other, port: entry.port)
      if candidate.isEmpty || other == name { return place }
      let age = Int(truncatingIfNeeded: (entry.stamp &- candidate.stamp) & 63)
      if age > greatestAge {
        greatestAge = age
        found = place
      }
      place &+= 1
      if place == roll.limit { place = 0 }
    }
    return found
  }

  /// The entry that a word of a port's roll names; empty when it has moved or gone, or was pinned since.
  private func named(_ name: UInt64, port: Int) -> Entry {
    let entry = load(AddressRoll.slot(name))
    let isThere =
      !entry.isEmpty && entry.port == port && !entry.isPinned
      && AddressRoll.names(name, hash(entry.key))
    return isThere ? entry : .empty
  }
}
