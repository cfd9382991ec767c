internal import Synchronization

/// Where a packed ring goes on, in memory that outlives the process (decision 33).
///
/// # Theory of operation
///
/// What a split ring's device needs to go on is in the ring: `used.idx`. A packed ring has no such word (virtio v1.4, 2.8),
/// and front-ends can't tell either when the back-end has gone without being asked: QEMU sends the base that the ring had
/// when it started. So whoever gives elements back notes where, in two halves of one word: where the next ones will be given
/// back (`published`), and, before the first of a burst is stored, which shows the driver all of it, where those after them
/// will be (`intended`).
///
/// Who finds the halves looks into the ring whether the burst was shown: its first descriptor tells. If it was, the ring goes
/// on behind the burst. If not, others of the burst may have been written over: their lengths are gone, and what a receiveq's
/// buffers hold nobody knows. They are all given back empty, as far as the marks go: a transmitq's frames were taken, and a
/// receiveq's driver drops what is too short to be a frame. So a burst may be lost, and none is garbled.
///
/// A record is that of one run of a ring, known by its size, its address and the base that it started with. A front-end that
/// comes back with the same three, and finds no ring that its driver has made anew, goes on where the record says. One that was
/// told the position (GET_VRING_BASE) knows better, and the record is void.
///
/// SAFETY: `byteCount` bytes, aligned to as many, mapped for as long as any copy is used: `RingSetup.keepsJournal` holds
/// whoever keeps them.
@safe public struct RingJournal: @unchecked Sendable {
  /// Bytes of a record.
  public static let byteCount = 64

  private let base: UnsafeMutableRawPointer

  /// - Parameter base: zeros, or a record.
  public init(_ base: UnsafeMutableRawPointer) { unsafe self.base = unsafe base }

  @inline(always)
  init?(address: UInt) {
    guard let base = unsafe UnsafeMutableRawPointer(bitPattern: address) else { return nil }
    unsafe self.base = unsafe base
  }

  public var address: UInt { UInt(bitPattern: unsafe base) }

  @inline(always)
  private func half(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt16>> {
    unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt16>.self)
  }

  private func word(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  // ---- The ring's user ----

  /// Elements up to `position` are about to be shown.
  @inline(always)
  func intend(_ position: UInt16) {
    unsafe half(2).pointee.store(position, ordering: .relaxed)
  }

  /// They have been.
  @inline(always)
  func settle(_ position: UInt16) {
    unsafe half(0).pointee.store(position, ordering: .releasing)
  }

  // ---- Control ----

  /// The record holds nothing any more.
  public func forget() { unsafe word(8).pointee.store(0, ordering: .releasing) }

  /// Begins the record of a ring's run.
  func begin(_ setup: RingSetup, at position: PackedPosition) {
    forget()
    intend(position.word)
    settle(position.word)
    unsafe word(16).pointee.store(setup.descriptors, ordering: .relaxed)
    unsafe word(24).pointee.store(UInt64(setup.agreedBase), ordering: .relaxed)
    // The size is what makes it valid.
    unsafe word(8).pointee.store(UInt64(setup.size), ordering: .releasing)
  }

  /// Where the ring that `setup` describes goes on; `nil` when the record is of no such ring, or its driver has begun
  /// anew since.
  func position(of setup: RingSetup, _ ring: PackedRing) -> PackedPosition? {
    // One that goes on where it was stopped knows where.
    guard setup.base == setup.agreedBase,
      unsafe word(8).pointee.load(ordering: .acquiring) == UInt64(setup.size),
      unsafe word(16).pointee.load(ordering: .relaxed) == setup.descriptors,
      unsafe word(24).pointee.load(ordering: .relaxed) == UInt64(setup.agreedBase)
    else { return nil }
    let published = PackedPosition(word: unsafe half(0).pointee.load(ordering: .relaxed))
    let intended = PackedPosition(word: unsafe half(2).pointee.load(ordering: .relaxed))
    guard published.index < ring.size, intended.index < ring.size else { return nil }
    // What was shown has the bit USED as the lap has it, and keeps it when the driver makes it available for the next.
    let isShown = (ring.rest(published.index) & PackedRing.used != 0) == published.wrap
    let position = published != intended && isShown ? intended : published
    // Both the ring of a driver that begins and one that was used up in a lap of wrap counter 0 look like this, and go on at
    // the first descriptor. A record that says something else is of a ring that is gone.
    if ring.looksNew { return position.word == 0x8000 ? position : nil }
    if position != published { return position }
    return ring.giveBack(from: published)
  }
}

/// SAFETY: indices are those of positions below the ring's size.
extension PackedRing {
  /// Whether no descriptor has the bit USED, which in a driver's first lap only a device sets, and those that are available
  /// are the first.
  var looksNew: Bool {
    var isAvailable = true
    for index in 0..<size {
      let rest = rest(index)
      if rest & PackedRing.used != 0 { return false }
      let isNext = rest & PackedRing.avail != 0
      if isNext, !isAvailable { return false }
      isAvailable = isNext
    }
    return true
  }

  /// Whether the descriptor is one that the device has used in this lap, and the driver has not made available since.
  private func isMarked(_ position: PackedPosition) -> Bool {
    rest(position.index) & PackedRing.availMask == position.usedBits
  }

  /// Gives back empty what is marked behind `first`, and `first`, which is not, with it; nothing when nothing is marked.
  ///
  /// - Returns: where the ring goes on.
  func giveBack(from first: PackedPosition) -> PackedPosition {
    guard let id = id(at: first), size > 1 else { return first }
    var place = first
    place.advance(by: 1, size: size)
    if !isMarked(place) { return first }
    while place.index != first.index, isMarked(place) {
      let kept = PackedRing.idMask | PackedRing.write
      setUsed(place.index, rest(place.index) & kept | place.usedBits)
      place.advance(by: 1, size: size)
    }
    publishUsed(first.index, UInt64(id) &<< 32 | first.usedBits)
    return place
  }

  /// Id of the buffer that is available at `position`, or was until its other descriptors were marked: that of its last.
  private func id(at position: PackedPosition) -> UInt16? {
    var place = position
    if rest(place.index) & PackedRing.availMask != place.availBits { return nil }
    for _ in 0..<size {
      let rest = rest(place.index)
      if PackedRing.flags(rest) & Descriptor.next == 0 { return PackedRing.id(rest) }
      place.advance(by: 1, size: size)
    }
    return nil
  }
}
