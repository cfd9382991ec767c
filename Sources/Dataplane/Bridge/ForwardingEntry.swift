/// What the forwarding table is asked for: an address, in a domain.
///
/// Stations of two domains may have one address and are two stations: a domain is a bridge domain or a VLAN.
struct ForwardingKey: Hashable {
  /// The address in bits 0 to 47, the domain in bits 48 to 63. 0: none, as no station has the address 0.
  let word: UInt64

  @inline(always)
  init(word: UInt64) { self.word = word }

  @inline(always)
  init(_ mac: MACAddress, domain: UInt16 = 0) {
    word = mac.word | UInt64(domain) &<< 48
  }

  static let none = ForwardingKey(word: 0)

  @inline(always) var mac: MACAddress { MACAddress(word: word) }
  @inline(always) var domain: UInt16 { UInt16(truncatingIfNeeded: word &>> 48) }
}

/// Where frames for a station go: a port, and which of the ends behind it.
struct Destination: Hashable {
  /// The port in bits 0 to 15, the end in bits 16 to 31.
  let word: UInt32

  @inline(always)
  init(word: UInt32) { self.word = word }

  /// - Parameters:
  ///   - port: below `ForwardingTable.maximumPorts`.
  ///   - end: 0 is the port itself.
  @inline(always)
  init(port: Int, end: UInt16 = 0) {
    word = UInt32(truncatingIfNeeded: port & 0xFFFF) | UInt32(end) &<< 16
  }

  @inline(always) var port: Int { Int(word & 0xFFFF) }
  @inline(always) var end: UInt16 { UInt16(truncatingIfNeeded: word &>> 16) }
}

extension ForwardingTable {
  /// What a slot holds: two words, which change together.
  struct Entry {
    /// Whose entry it is; `none`: the slot is empty.
    let key: ForwardingKey
    /// The destination in bits 32 to 63, the stamp in 26 to 31, the flags in 25 and 24, the slot's version in 0 to
    /// 23. An empty slot's version is all that counts of it.
    let value: UInt64

    static let empty = Entry(key: .none, value: 0)

    private static let ageless: UInt64 = 1 << 25
    private static let locked: UInt64 = 1 << 24
    private static let versionMask: UInt64 = 1 << 24 - 1

    @inline(always)
    init(key: ForwardingKey, value: UInt64) {
      self.key = key
      self.value = value
    }

    @inline(always)
    init(
      _ key: ForwardingKey, _ destination: Destination, stamp: UInt64, ageless: Bool = false,
      locked: Bool = false
    ) {
      self.key = key
      value =
        Entry.sighting(destination, stamp) &<< 26 | (ageless ? Entry.ageless : 0)
        | (locked ? Entry.locked : 0)
    }

    /// Where and when a station was seen last, in 38 bits.
    @inline(always)
    static func sighting(_ destination: Destination, _ stamp: UInt64) -> UInt64 {
      UInt64(destination.word) &<< 6 | stamp
    }

    /// The destination's word of a slot's value.
    @inline(always)
    static func destination(_ value: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: value &>> 32) }

    /// The sighting of a slot's value.
    @inline(always)
    static func sighting(_ value: UInt64) -> UInt64 { value &>> 26 }

    @inline(always) var isEmpty: Bool { key.word == 0 }
    @inline(always) var destination: Destination { Destination(word: Entry.destination(value)) }
    @inline(always) var port: Int { destination.port }
    @inline(always) var stamp: UInt64 { value &>> 26 & 63 }
    /// It stays until control removes it.
    @inline(always) var isAgeless: Bool { value & Entry.ageless != 0 }
    /// No frame moves it to another destination.
    @inline(always) var isLocked: Bool { value & Entry.locked != 0 }
    /// Control has entered it: it counts on no roll, and no frame moves it.
    @inline(always) var isPinned: Bool { value & (Entry.ageless | Entry.locked) != 0 }

    /// The same entry, seen at `stamp`.
    @inline(always)
    func seen(_ stamp: UInt64) -> Entry {
      Entry(key, destination, stamp: stamp, ageless: isAgeless, locked: isLocked)
    }

    /// This entry as it follows `old` in a slot.
    @inline(always)
    func following(_ old: Entry) -> Entry {
      let version = old.value &+ 1
      return Entry(
        key: key, value: value & ~Entry.versionMask | version & Entry.versionMask)
    }
  }
}
