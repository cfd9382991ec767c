internal import Glibc
public import Linux
internal import Synchronization

/// The device's IOTLB of one guest: what its IOMMU lets the device reach, as far as the front-end has told
/// (vhost-user.rst, "IOMMU support").
///
/// Theory of operation. With VIRTIO_F_ACCESS_PLATFORM every address that a driver gives, of a buffer, an indirect
/// table or a ring, is one that an IOMMU translates. Control keeps the entries (`Translations`) and, at each
/// change, makes a sorted table of them that never changes, and stores its address in one word. A worker loads
/// that word whenever it needs a translation (`IOTLBView`), and uses what it found no longer than the turn. So
/// a new entry costs nobody anything, and an entry is gone when every worker has ended a turn since
/// (`Dataplane.settle`): then the tables that were replaced are freed too.
///
/// A ring's own parts are translated when it starts and are plain addresses from then on, as without an IOMMU:
/// whoever takes a translation away stops the rings that lie in it (decision 10).
///
/// Control is one thread, the port's. SAFETY: the word holds the address of a table made by `publish`, which is
/// freed by `reclaim` when no worker can hold it, or here, when no ring refers to this object any more; the host
/// addresses in it are of `memory`'s mappings, which it keeps alive.
@safe public final class IOTLB: @unchecked Sendable {
  /// Signalled by a worker that has missed something: `Dataplane.takeMisses` has it.
  public let missed: EventFD
  private var translations = Translations()
  private var memory: GuestMemory
  private var generation: UInt64 = 0
  /// The word that workers load.
  let current: UnsafeMutablePointer<Atomic<UInt>>
  /// Tables that were replaced, which a worker may still hold.
  private var retired: [UnsafeMutableRawPointer] = unsafe []
  /// The frames that wait for each receiveq, by the place of its `IOTLBView`, and bytes of one.
  private var frames: [UInt: WaitingFrames] = [:]
  private let framesCapacity: Int
  /// Counts of the time-stamp counter for which frames and chains may wait for a translation.
  let patience: UInt64

  /// An IOTLB without entries.
  ///
  /// - Parameters:
  ///   - pairs: queue pairs of the port.
  ///   - patience: milliseconds for which frames and chains wait for a translation.
  public init(
    _ memory: GuestMemory, pairs: Int = 1, patience: Int = 4000
  ) throws(SystemError) {
    self.memory = memory
    self.patience = TickClock.counts(microseconds: 1000 * patience)
    framesCapacity = max(WaitingFrames.portCapacity / pairs, WaitingFrames.leastCapacity)
    missed = try EventFD()
    unsafe current = .allocate(capacity: 1)
    unsafe current.initialize(to: Atomic(0))
    publish()
  }

  deinit {
    unsafe free(IOTLBTable(current).base)
    reclaim()
    unsafe current.deallocate()
    for place in frames.values { place.free() }
  }

  /// Where frames wait for the receiveq with this view.
  func frames(of view: IOTLBView) -> WaitingFrames {
    if let place = frames[view.place] { return place }
    let place = WaitingFrames.make(capacity: framesCapacity)
    frames[view.place] = place
    return place
  }

  // ---- Changes ----

  /// Enters a translation. Returns whether it led elsewhere, or allowed more, before: then whoever may use what
  /// it was must end that, as after `remove`.
  public func insert(_ translation: Translation) -> Bool {
    let change = translations.insert(translation)
    if change != .nothing { publish() }
    return change == .replaced
  }

  /// Whether an address leads elsewhere by what is known than by `translation`.
  public func contradicts(_ translation: Translation) -> Bool {
    translations.contradicts(translation)
  }

  /// Some of what is known: `count` addresses, each of which might have been any other.
  public func sample(_ count: Int) -> [TranslationMiss] { translations.sample(count) }

  /// Forgets device addresses `first` to `last`, both included. Workers may use what they knew until
  /// `Dataplane.settle` has returned.
  public func remove(from first: UInt64, through last: UInt64) {
    translations.remove(from: first, through: last)
    publish()
  }

  /// Takes a new memory table; entries that lie outside of it lead nowhere. No ring may be running.
  public func replaceMemory(by new: GuestMemory) {
    memory = new
    publish()
  }

  /// Has workers report anew what they still miss.
  public func renew() { publish() }

  /// Entries kept.
  public var count: Int { translations.entries.count }

  /// Tables that wait for `Dataplane.settle`.
  public var retiredCount: Int { unsafe retired.count }

  private func publish() {
    generation += 1
    var entries: [IOTLBTable.Entry] = []
    entries.reserveCapacity(translations.entries.count)
    for entry in translations.entries { append(entry.translation, to: &entries) }
    let table = unsafe IOTLBTable.allocate(entries, generation: generation)
    let old = unsafe current.pointee.exchange(
      UInt(bitPattern: table), ordering: .acquiringAndReleasing)
    if let old = unsafe UnsafeMutableRawPointer(bitPattern: old) { unsafe retired.append(old) }
  }

  /// Appends the pieces of a translation, one for each region that it goes through.
  private func append(_ translation: Translation, to entries: inout [IOTLBTable.Entry]) {
    var done: UInt64 = 0
    while done < translation.size {
      guard
        let piece = unsafe memory.reach(
          user: translation.user + done, length: translation.size - done)
      else { return }
      let host = unsafe UInt(bitPattern: piece.base)
      entries.append(
        IOTLBTable.Entry(
          start: translation.address + done, size: unsafe piece.length, host: host,
          access: UInt64(translation.access.rawValue)))
      done += unsafe piece.length
    }
  }

  /// Frees the tables that were replaced. No worker may hold one.
  func reclaim() {
    for index in unsafe retired.indices { unsafe free(retired[index]) }
    unsafe retired = []
  }

  // ---- Control's own look-ups ----

  /// As `GuestMemory.node`, at a device address.
  public func node(device address: UInt64) -> Int? {
    guard let place = unsafe place(address, length: 1, access: .read) else { return nil }
    return unsafe NUMA.node(of: place)
  }

  /// The address here of `length` bytes at device address `address`, when all of them are known for `access` and
  /// lie beside each other here.
  func place(_ address: UInt64, length: Int, access: DeviceAccess) -> UnsafeMutableRawPointer? {
    let table = unsafe IOTLBTable(current)
    // Nothing goes on at 0 behind the last address.
    if length > 0, address.addingReportingOverflow(UInt64(length - 1)).overflow { return nil }
    var start: UnsafeMutableRawPointer?
    var done = 0
    while done < length {
      guard
        let piece = unsafe table.reach(
          address &+ UInt64(done), UInt32(clamping: length - done), access)
      else { return nil }
      if let start = unsafe start {
        guard unsafe piece.base == start + done else { return nil }
      } else {
        unsafe start = unsafe piece.base
      }
      done += Int(unsafe piece.length)
    }
    return unsafe start
  }

  /// Whether what was missed is known now.
  public func knows(_ miss: TranslationMiss) -> Bool {
    unsafe IOTLBTable(current).reach(miss.address, 1, miss.access) != nil
  }

  /// What is not known of `length` bytes at device address `address`: one miss for each page.
  func missing(_ address: UInt64, length: Int, access: DeviceAccess) -> [TranslationMiss] {
    let table = unsafe IOTLBTable(current)
    var misses: [TranslationMiss] = []
    var done = 0
    while done < length {
      let (place, overflow) = address.addingReportingOverflow(UInt64(done))
      if overflow { break }
      if let piece = unsafe table.reach(place, UInt32(clamping: length - done), access) {
        done += Int(unsafe piece.length)
      } else {
        misses.append(TranslationMiss(address: place, access: access))
        done += Int(TranslationMiss.page - place % TranslationMiss.page)
      }
    }
    return misses
  }
}

/// A device address that was needed and is not in the IOTLB.
public struct TranslationMiss: Hashable, Sendable {
  /// Bytes of a page: what one miss is taken to be about.
  static let page: UInt64 = 4096

  public var address: UInt64
  public var access: DeviceAccess

  public init(address: UInt64, access: DeviceAccess) {
    self.address = address
    self.access = access
  }
}
