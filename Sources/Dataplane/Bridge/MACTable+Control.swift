/// What control does with the table while workers use it.
extension MACTable {
  /// Advances the clock by one stamp and removes what was last seen `lifetime` stamps ago or earlier.
  /// Returns how many it removed.
  func age() -> Int {
    let now = (now &+ 1) & 63
    setClock(now)
    return remove { (now &- $0.stamp) & 63 >= MACTable.lifetime }
  }

  /// Forgets every address of a port. What its roll says of them is void from then on.
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
}
