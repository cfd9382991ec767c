internal import CLinux
public import Linux
internal import Synchronization

/// One split virtqueue (virtio v1.4, 2.7), seen from the driver.
///
/// Theory of operation. The driver owns the descriptor table and the avail ring, the device the used ring.
/// A buffer is a chain of descriptors named by its first, the *head*, which serves as the buffer's token.
/// `add` writes descriptors and avail entries that nobody sees until `publish` moves `avail.idx` with
/// release ordering; `nextUsed` loads `used.idx` with acquire ordering and gives descriptors back to a
/// stack, so that the ones that are warm in the cache are used first. Every shared word is an atomic: the
/// peer is another thread or process, and a hostile test may rewrite anything at any time.
///
/// What the device does is judged, not trusted: a used entry that names no outstanding buffer, or more
/// bytes than the buffer can take, is a `Violation`. That makes every test that uses a ring a test of the
/// device's conformance.
///
/// The operations without a token array (`add`, `nextUsed`) are for tests; the burst forms
/// (`DriverRing+Burst.swift`) allocate nothing. One thread at a time.
@safe public struct DriverRing: ~Copyable {
  public struct Options: Sendable {
    /// VIRTIO_F_EVENT_IDX was negotiated (2.7.7, 2.7.10).
    public var eventIndex: Bool
    /// Entries of the indirect table kept for each descriptor; 0: there are none, and no chain may ask
    /// for one (VIRTIO_F_INDIRECT_DESC, 2.7.5.3).
    public var tableEntries: Int

    public init(eventIndex: Bool = false, tableEntries: Int = 0) {
      self.eventIndex = eventIndex
      self.tableEntries = tableEntries
    }
  }

  /// What a device did against the specification.
  public enum Violation: Error, Sendable, Equatable {
    /// `used.idx` moved by more than there were buffers outstanding.
    case usedIndexJump(from: UInt16, to: UInt16)
    /// A used entry names no outstanding buffer (2.7.8).
    case unknownToken(UInt32)
    /// A used length is beyond the buffer's device-writable part (2.7.8.2).
    case overlong(token: UInt16, length: UInt32, writable: UInt32)
  }

  /// What the driver remembers of a descriptor; it never reads that back from shared memory.
  struct Shadow {
    var next: UInt16 = 0
    /// Descriptors of the chain that begins here; 0: no outstanding chain begins here.
    var chain: UInt16 = 0
    /// Bytes of the chain that the device may write.
    var writable: UInt32 = 0
  }

  public let size: Int
  public let options: Options
  public let parts: RingParts
  /// Indirect tables, one a descriptor; `nil` without them.
  let tables: GuestBuffer?
  /// Signalled by `kick`; the back-end's kick descriptor.
  public let kickEvent: EventFD
  /// Signalled by the back-end; its call descriptor.
  public let callEvent: EventFD
  /// Keeps the mapping alive that the addresses below point into.
  let memory: GuestMemory

  let descriptors: UnsafeMutablePointer<Atomic<UInt64>>
  let avail: UnsafeMutablePointer<Atomic<UInt16>>
  let used: UnsafeMutablePointer<Atomic<UInt16>>
  let shadow: UnsafeMutablePointer<Shadow>
  let freeStack: UnsafeMutablePointer<UInt16>
  let mask: UInt16

  /// Descriptors that no chain holds.
  public internal(set) var freeCount: Int
  /// Chains the device holds.
  public internal(set) var outstanding = 0
  /// `avail.idx` as the next `publish` will show it.
  var nextAvail: UInt16 = 0
  /// `avail.idx` when a kick was last considered.
  var kickedAvail: UInt16 = 0
  /// The next used entry to take, and `used.idx` as last loaded.
  var nextUsedIndex: UInt16 = 0
  var seenUsed: UInt16 = 0
  /// The impossible `used.idx` that was reported last, so that polling reports it once.
  var seenJump: UInt16?
  /// The device's first offence, and the number of them.
  public internal(set) var violation: Violation?
  public internal(set) var violations = 0
  public internal(set) var kicks = 0

  /// Makes a ring over `parts`, zeroed.
  ///
  /// - Parameter size: a power of two, 1 ... 32768 (2.7).
  /// - Returns: `nil` when the memory has no room for the indirect tables.
  public init?(size: Int, parts: RingParts, in memory: GuestMemory, options: Options = Options())
    throws(SystemError)
  {
    precondition(size >= 1 && size <= 32768 && size & (size - 1) == 0, "a split ring's size")
    precondition(parts.descriptors.length >= RingParts.descriptorBytes(size))
    precondition(parts.avail.length >= RingParts.availBytes(size))
    precondition(parts.used.length >= RingParts.usedBytes(size))
    let kickEvent = try EventFD()
    let callEvent = try EventFD()
    var tables: GuestBuffer?
    if options.tableEntries > 0 {
      tables = memory.allocate(16 * options.tableEntries * size)
      if tables == nil { return nil }
    }
    self.size = size
    self.options = options
    self.parts = parts
    self.tables = tables
    self.kickEvent = kickEvent
    self.callEvent = callEvent
    self.memory = memory
    mask = UInt16(size - 1)
    // SAFETY: the parts are as long as the ring needs (checked above) and `memory` keeps them mapped. An
    // atomic integer is laid out as the integer.
    unsafe descriptors = parts.descriptors.pointer.assumingMemoryBound(to: Atomic<UInt64>.self)
    unsafe avail = parts.avail.pointer.assumingMemoryBound(to: Atomic<UInt16>.self)
    unsafe used = parts.used.pointer.assumingMemoryBound(to: Atomic<UInt16>.self)
    // SAFETY: one element a descriptor; freed by `deinit`.
    unsafe shadow = .allocate(capacity: size)
    unsafe freeStack = .allocate(capacity: size)
    freeCount = 0
    reset()
  }

  deinit {
    unsafe shadow.deallocate()
    unsafe freeStack.deallocate()
  }

  /// Forgets every buffer and zeroes the three parts, as a driver does that starts anew. The device must
  /// not be using the ring.
  public mutating func reset() {
    for index in 0..<size {
      writeDescriptor(index, RawDescriptor(address: 0, length: 0))
      unsafe shadow[index] = Shadow()
      // Descriptor 0 on top: a fresh ring is used in order.
      unsafe freeStack[index] = UInt16(size - 1 - index)
    }
    for word in 0..<RingParts.availBytes(size) / 2 {
      unsafe avail[word].store(0, ordering: .relaxed)
    }
    for word in 0..<RingParts.usedBytes(size) / 2 {
      unsafe used[word].store(0, ordering: .relaxed)
    }
    freeCount = size
    outstanding = 0
    nextAvail = 0
    kickedAvail = 0
    nextUsedIndex = 0
    seenUsed = 0
    seenJump = nil
  }

  /// Whether used buffers are waiting.
  public var hasUsed: Bool { usedIndex != nextUsedIndex }

  // ---- The stack of free descriptors ----

  @inline(always)
  mutating func pop() -> UInt16 {
    freeCount &-= 1
    // SAFETY: callers have checked that the stack is not empty.
    return unsafe freeStack[freeCount]
  }

  @inline(always)
  mutating func push(_ index: UInt16) {
    // A chain is freed once, so the stack never holds more than `size`; checked, as the count depends on
    // what callers of the burst forms hand back.
    precondition(freeCount < size)
    unsafe freeStack[freeCount] = index
    freeCount &+= 1
  }

  /// The head that the next `add` will use, or `nil` when no descriptor is free.
  public var nextHead: UInt16? {
    // SAFETY: below the stack's top.
    freeCount > 0 ? unsafe freeStack[freeCount - 1] : nil
  }
}
