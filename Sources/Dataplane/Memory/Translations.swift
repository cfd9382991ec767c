/// What an IOMMU lets a device do with a range of addresses.
public struct DeviceAccess: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static let read = DeviceAccess(rawValue: 1)
  public static let write = DeviceAccess(rawValue: 2)
}

/// One range of device addresses (IOVAs) and where it leads.
public struct Translation: Equatable, Sendable {
  /// Device address of the first byte.
  public var address: UInt64
  /// Bytes, at least one. The last of them has an address: nothing goes on behind 2^64 − 1, though it may end there.
  public var size: UInt64
  /// Front-end user address of the first byte.
  public var user: UInt64
  public var access: DeviceAccess

  public init(address: UInt64, size: UInt64, user: UInt64, access: DeviceAccess) {
    self.address = address
    self.size = size
    self.user = user
    self.access = access
  }

  /// Device address of the last byte. One behind it there may be none.
  var last: UInt64 { address + (size - 1) }

  /// Whether both lead the same way where they meet or overlap.
  fileprivate func continues(_ other: Translation) -> Bool {
    access == other.access && user &- address == other.user &- other.address
  }
}

/// The entries of one device's IOTLB as control keeps them: sorted, disjoint, those that continue each other
/// joined. There is a bound on their number; past it the one longest unseen goes, as in any cache: a miss brings
/// it back.
struct Translations {
  /// Most entries. A Linux guest's 4 KiB pages seldom continue each other: one for each buffer posted.
  static let limit = 4096

  struct Entry {
    var translation: Translation
    /// When the front-end last named it.
    var stamp: UInt64
  }

  /// What an insertion meant for what was there.
  enum Change: Equatable {
    case nothing
    /// Addresses that led nowhere lead somewhere now.
    case added
    /// Addresses lead elsewhere now, or may be used for less.
    case replaced
  }

  private(set) var entries: [Entry] = []
  private var clock: UInt64 = 0

  /// Enters a translation; it takes the place of whatever was known of its addresses.
  mutating func insert(_ new: Translation) -> Change {
    clock += 1
    var covered: UInt64 = 0
    var differs = false
    var changes = false
    for index in range(from: new.address, through: new.last) {
      let old = entries[index].translation
      let start = max(old.address, new.address)
      covered += min(old.last, new.last) - start + 1
      if old.user &- old.address != new.user &- new.address
        || !new.access.isSuperset(of: old.access)
      {
        differs = true
      }
      if old.access != new.access { changes = true }
      entries[index].stamp = clock
    }
    if covered == new.size, !differs, !changes { return .nothing }
    remove(from: new.address, through: new.last)
    var joined = new
    var place = firstIndex(endingAt: new.address)
    if place < entries.count, entries[place].translation.address == joined.last &+ 1,
      entries[place].translation.continues(joined)
    {
      joined.size += entries.remove(at: place).translation.size
    }
    if place > 0, entries[place - 1].translation.last &+ 1 == joined.address,
      entries[place - 1].translation.continues(joined)
    {
      place -= 1
      let left = entries.remove(at: place).translation
      joined = Translation(
        address: left.address, size: left.size + joined.size, user: left.user,
        access: left.access)
    }
    entries.insert(Entry(translation: joined, stamp: clock), at: place)
    if entries.count > Translations.limit { evict() }
    return differs ? .replaced : .added
  }

  /// Whether an address leads elsewhere by what is known than by `new`.
  func contradicts(_ new: Translation) -> Bool {
    range(from: new.address, through: new.last).contains { index in
      let old = entries[index].translation
      return old.user &- old.address != new.user &- new.address
    }
  }

  /// `count` of the addresses that are known, at random, each as likely as any other.
  func sample(_ count: Int) -> [TranslationMiss] {
    // No more than all addresses there are, as entries are disjoint; nearly all of them would make it 0.
    let sum = entries.reduce(UInt64(0)) { $0 &+ $1.translation.size }
    if sum == 0 { return [] }
    return (0..<count).compactMap { _ in
      var place = UInt64.random(in: 0..<sum)
      for entry in entries.map(\.translation) {
        if place < entry.size {
          return TranslationMiss(address: entry.address + place, access: entry.access)
        }
        place -= entry.size
      }
      return nil
    }
  }

  /// Forgets what is known of addresses `first` to `last`, both included.
  mutating func remove(from first: UInt64, through last: UInt64) {
    let found = range(from: first, through: last)
    var rest: [Entry] = []
    for index in found {
      let old = entries[index].translation
      if old.address < first {
        var left = entries[index]
        left.translation.size = first - old.address
        rest.append(left)
      }
      if old.last > last {
        var right = entries[index]
        let cut = last + 1 - old.address
        right.translation = Translation(
          address: old.address + cut, size: old.size - cut, user: old.user + cut,
          access: old.access)
        rest.append(right)
      }
    }
    entries.replaceSubrange(found, with: rest)
    // One hole in an entry makes two of it.
    if entries.count > Translations.limit { evict() }
  }

  private mutating func evict() {
    if let oldest = entries.indices.min(by: { entries[$0].stamp < entries[$1].stamp }) {
      entries.remove(at: oldest)
    }
  }

  /// The entries that have addresses in common with `first` to `last`.
  private func range(from first: UInt64, through last: UInt64) -> Range<Int> {
    let start = firstIndex(endingAt: first)
    var end = start
    while end < entries.count, entries[end].translation.address <= last { end += 1 }
    return start..<end
  }

  /// Index of the first entry that ends at `address` or behind it.
  private func firstIndex(endingAt address: UInt64) -> Int {
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].translation.last < address { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
