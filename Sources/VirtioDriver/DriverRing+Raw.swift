internal import Synchronization

/// A split ring's shared words, and the indirect tables: the only place that knows their offsets
/// (`DriverRing+Packed.swift` has a packed ring's). Public so that hostile tests can write what no driver
/// would; nothing here changes what the driver remembers.
extension DriverRing {
  // ---- Written by the driver ----

  /// Descriptor `index`, 0 ..< size.
  public func writeDescriptor(_ index: Int, _ descriptor: RawDescriptor) {
    precondition(index >= 0 && index < size)
    unsafe descriptors[2 &* index].store(descriptor.address, ordering: .relaxed)
    unsafe descriptors[2 &* index &+ 1].store(descriptor.secondWord, ordering: .relaxed)
  }

  public func readDescriptor(_ index: Int) -> RawDescriptor {
    precondition(index >= 0 && index < size)
    return unsafe RawDescriptor(
      words: descriptors[2 &* index].load(ordering: .relaxed),
      descriptors[2 &* index &+ 1].load(ordering: .relaxed))
  }

  /// Entry `slot` of the indirect table that belongs to descriptor `index`.
  public func writeTableEntry(_ index: Int, _ slot: Int, _ descriptor: RawDescriptor) {
    let words = unsafe tableWords(index, slot)
    unsafe words[0].store(descriptor.address, ordering: .relaxed)
    unsafe words[1].store(descriptor.secondWord, ordering: .relaxed)
  }

  /// The same in a packed ring.
  public func writeTableEntry(_ index: Int, _ slot: Int, _ descriptor: PackedDescriptor) {
    let words = unsafe tableWords(index, slot)
    unsafe words[0].store(descriptor.address, ordering: .relaxed)
    unsafe words[1].store(descriptor.secondWord, ordering: .relaxed)
  }

  /// Guest physical address of descriptor `index`'s indirect table.
  public func tableAddress(_ index: Int) -> UInt64 {
    guard let tables else { preconditionFailure("a ring without indirect tables") }
    return tables.address + UInt64(16 * options.tableEntries * index)
  }

  private func tableWords(_ index: Int, _ slot: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    guard let tables else { preconditionFailure("a ring without indirect tables") }
    precondition(index >= 0 && index < size && slot >= 0 && slot < options.tableEntries)
    // SAFETY: inside the tables, by the line above.
    return unsafe (tables.pointer + 16 * (options.tableEntries * index + slot))
      .assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// `avail.flags` (2.7.6): bit 0, VIRTQ_AVAIL_F_NO_INTERRUPT.
  public var availFlags: UInt16 {
    get { unsafe avail[0].load(ordering: .relaxed) }
    nonmutating set { unsafe avail[0].store(newValue, ordering: .relaxed) }
  }

  /// `avail.idx`; a release store.
  public var availIndex: UInt16 {
    get { unsafe avail[1].load(ordering: .relaxed) }
    nonmutating set { unsafe avail[1].store(newValue, ordering: .releasing) }
  }

  /// Entry `position & (size - 1)` of the avail ring.
  public func writeAvailEntry(_ position: UInt16, _ head: UInt16) {
    unsafe avail[2 &+ Int(position & mask)].store(head, ordering: .relaxed)
  }

  public func readAvailEntry(_ position: UInt16) -> UInt16 {
    unsafe avail[2 &+ Int(position & mask)].load(ordering: .relaxed)
  }

  /// `used_event`, behind the avail ring (2.7.7).
  public var usedEvent: UInt16 {
    get { unsafe avail[2 &+ size].load(ordering: .relaxed) }
    nonmutating set { unsafe avail[2 &+ size].store(newValue, ordering: .relaxed) }
  }

  /// Where the next avail entry goes, and what `avail.idx` becomes when it is published.
  public var position: UInt16 { nextAvail }

  /// Appends any head at all to the avail ring; it is shown by the next `publish`.
  public mutating func pushRaw(head: UInt16) {
    writeAvailEntry(nextAvail, head)
    nextAvail &+= 1
    unkicked &+= 1
  }

  // ---- Written by the device ----

  /// `used.flags` (2.7.8): bit 0, VIRTQ_USED_F_NO_NOTIFY.
  public var usedFlags: UInt16 {
    get { unsafe used[0].load(ordering: .relaxed) }
    nonmutating set { unsafe used[0].store(newValue, ordering: .relaxed) }
  }

  /// `used.idx`; an acquire load: what it covers is visible afterwards.
  public var usedIndex: UInt16 {
    get { unsafe used[1].load(ordering: .acquiring) }
    nonmutating set { unsafe used[1].store(newValue, ordering: .releasing) }
  }

  /// Entry `position & (size - 1)` of the used ring.
  public func readUsedEntry(_ position: UInt16) -> (token: UInt32, length: UInt32) {
    // SAFETY: entries begin four bytes into the used ring and are two words each; `mask` keeps the index
    // inside the ring.
    let words = unsafe UnsafeMutableRawPointer(used + 2)
      .assumingMemoryBound(to: Atomic<UInt32>.self)
    let index = 2 &* Int(position & mask)
    return unsafe (
      words[index].load(ordering: .relaxed), words[index &+ 1].load(ordering: .relaxed)
    )
  }

  /// Writes entry `position & (size - 1)` of the used ring, for devices made up by tests.
  public func writeUsedEntry(_ position: UInt16, _ token: UInt32, _ length: UInt32) {
    // SAFETY: as above.
    let words = unsafe UnsafeMutableRawPointer(used + 2)
      .assumingMemoryBound(to: Atomic<UInt32>.self)
    let index = 2 &* Int(position & mask)
    unsafe words[index].store(token, ordering: .relaxed)
    unsafe words[index &+ 1].store(length, ordering: .relaxed)
  }

  /// `avail_event`, behind the used ring (2.7.10).
  public var availEvent: UInt16 {
    get { unsafe used[2 &+ 4 &* size].load(ordering: .relaxed) }
    nonmutating set { unsafe used[2 &+ 4 &* size].store(newValue, ordering: .relaxed) }
  }
}
