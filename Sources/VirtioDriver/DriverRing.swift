internal import CLinux
public import Linux
internal import Synchronization

/// One virtqueue, split or packed (virtio v1.4, 2.7 and 2.8), seen from the driver.
///
/// Theory of operation. A buffer has a *token*, a number below the ring's size, by which the caller knows it.
/// `add` writes descriptors that nobody sees until `publish`; `nextUsed` takes back what the device has
/// returned. Tokens are kept on a stack, so that the ones that are warm in the cache are used first. Every
/// shared word is an atomic: the peer is another thread or process, and a hostile test may rewrite anything
/// at any time.
///
/// In a split ring the driver owns the descriptor table and the avail ring, the device the used ring. The
/// token is the *head*, the chain's first descriptor; `publish` moves `avail.idx` with release ordering, and
/// `used.idx` is loaded with acquire ordering.
///
/// In a packed ring both own the one ring of descriptors by turns, as AVAIL and USED of each say. The token
/// is the buffer id. Of what is added, the first descriptor's flags are held back until `publish` stores
/// them with release ordering: the device looks at descriptors one after another, and so at none of them
/// before. Descriptors are written in ring order (`DriverRing+Sequential.swift`), as they are in a split
/// ring with VIRTIO_F_IN_ORDER, where a token therefore is no head either.
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
    /// VIRTIO_F_RING_PACKED (2.8).
    public var packed: Bool
    /// VIRTIO_F_IN_ORDER: buffers come back in the order they were made available, and one used entry may
    /// stand for a batch of them (2.7.9, 2.8.8).
    public var inOrder: Bool

    public init(
      eventIndex: Bool = false, tableEntries: Int = 0, packed: Bool = false, inOrder: Bool = false
    ) {
      self.eventIndex = eventIndex
      self.tableEntries = tableEntries
      self.packed = packed
      self.inOrder = inOrder
    }

    public init(_ features: VirtioFeatures) {
      self.init(
        eventIndex: features.contains(.eventIdx), packed: features.contains(.ringPacked),
        inOrder: features.contains(.inOrder))
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

  /// What the driver remembers of a token; it never reads that back from shared memory.
  struct Shadow {
    /// Next descriptor of the chain, where it is not simply the next in the ring.
    var next: UInt16 = 0
    /// Descriptors of the buffer; 0: it is not outstanding.
    var chain: UInt16 = 0
    /// Bytes of the buffer that the device may write.
    var writable: UInt32 = 0
  }

  /// The descriptor of a token's buffer, where it must be written anew each time: its two words, without
  /// AVAIL and USED.
  struct Image {
    var address: UInt64 = 0
    var rest: UInt64 = 0
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
  let images: UnsafeMutablePointer<Image>
  let freeStack: UnsafeMutablePointer<UInt16>
  /// With `inOrder`, the outstanding tokens, oldest at `orderFront`: a ring of `size`.
  let order: UnsafeMutablePointer<UInt16>
  /// `size - 1` of a split ring.
  let mask: UInt16
  /// Descriptors are used in ring order, whatever the tokens.
  var isSequential: Bool { options.packed || options.inOrder }

  /// Descriptors that no chain holds.
  public internal(set) var freeCount: Int
  /// Tokens on the stack; more than `freeCount` where a chain of several descriptors has only one token.
  var freeTokens = 0
  /// Chains the device holds.
  public internal(set) var outstanding = 0
  /// `avail.idx` as the next `publish` will show it.
  var nextAvail: UInt16 = 0
  /// The next used entry to take, and `used.idx` as last loaded.
  var nextUsedIndex: UInt16 = 0
  var seenUsed: UInt16 = 0
  /// The impossible `used.idx` that was reported last, so that polling reports it once.
  var seenJump: UInt16?
  /// Where the next descriptor goes (the wrap counter is a packed ring's only), and where the device's next
  /// used one comes.
  public internal(set) var availPosition = PackedPosition()
  public internal(set) var usedPosition = PackedPosition()
  /// The descriptor whose second word `publish` is to write, or -1, and the word.
  var heldSlot = -1
  var heldWord: UInt64 = 0
  /// Entries of the avail ring, or descriptors of a packed one, made available since a kick was last considered.
  /// Wider than `avail.idx`, which may have come round any number of times since.
  var unkicked = 0
  /// Place in `order` of the oldest outstanding token, and how many of those at the front the device has
  /// used without an entry of their own, as `batch` says of the one behind them.
  var orderFront = 0
  var skipped = 0
  var batch: Used?
  /// The device has used a buffer that there is not: where its next used descriptor comes is unknown.
  var isLost = false
  /// The device's first offence, and the number of them.
  public internal(set) var violation: Violation?
  public internal(set) var violations = 0
  public internal(set) var kicks = 0

  /// Makes a ring over `parts`, zeroed.
  ///
  /// - Parameter size: 1 ... 32768; a power of two unless the ring is packed (2.7, 2.8).
  /// - Returns: `nil` when the memory has no room for the indirect tables.
  public init?(size: Int, parts: RingParts, in memory: GuestMemory, options: Options = Options())
    throws(SystemError)
  {
    precondition(size >= 1 && size <= 32768, "a ring's size")
    precondition(options.packed || size & (size - 1) == 0, "a split ring's size")
    precondition(parts.descriptors.length >= RingParts.descriptorBytes(size))
    precondition(parts.avail.length >= RingParts.availBytes(size, packed: options.packed))
    precondition(parts.used.length >= RingParts.usedBytes(size, packed: options.packed))
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
    unsafe images = .allocate(capacity: size)
    unsafe freeStack = .allocate(capacity: size)
    unsafe order = .allocate(capacity: size)
    freeCount = 0
    reset()
  }

  deinit {
    unsafe shadow.deallocate()
    unsafe images.deallocate()
    unsafe freeStack.deallocate()
    unsafe order.deallocate()
  }

  /// Forgets every buffer and zeroes the three parts, as a driver does that starts anew. The device must
  /// not be using the ring.
  public mutating func reset() {
    for index in 0..<size {
      writeDescriptor(index, RawDescriptor(address: 0, length: 0))
      unsafe shadow[index] = Shadow()
      unsafe images[index] = Image()
      unsafe order[index] = 0
      // Descriptor 0 on top: a fresh ring is used in order.
      unsafe freeStack[index] = UInt16(size - 1 - index)
    }
    for word in 0..<RingParts.availBytes(size, packed: options.packed) / 2 {
      unsafe avail[word].store(0, ordering: .relaxed)
    }
    for word in 0..<RingParts.usedBytes(size, packed: options.packed) / 2 {
      unsafe used[word].store(0, ordering: .relaxed)
    }
    freeCount = size
    freeTokens = size
    outstanding = 0
    nextAvail = 0
    nextUsedIndex = 0
    seenUsed = 0
    seenJump = nil
    availPosition = PackedPosition()
    usedPosition = PackedPosition()
    heldSlot = -1
    unkicked = 0
    orderFront = 0
    skipped = 0
    batch = nil
    isLost = false
  }

  /// Whether used buffers are waiting.
  public var hasUsed: Bool {
    options.packed
      ? batch != nil || packedUsed(at: usedPosition) != nil : usedIndex != nextUsedIndex
  }

  // ---- The stack of free tokens ----

  /// Takes a token, and with it one descriptor.
  @inline(always)
  mutating func pop() -> UInt16 {
    freeCount &-= 1
    freeTokens &-= 1
    // SAFETY: callers have checked that a descriptor is free, and there is a token for each of those.
    return unsafe freeStack[freeTokens]
  }

  @inline(always)
  mutating func push(_ index: UInt16) {
    // A chain is freed once, so the stack never holds more than `size`; checked, as the count depends on
    // what callers of the burst forms hand back.
    precondition(freeTokens < size)
    unsafe freeStack[freeTokens] = index
    freeTokens &+= 1
    freeCount &+= 1
  }

  /// The token that the next `add` will use, or `nil` when no descriptor is free.
  public var nextToken: UInt16? {
    // SAFETY: below the stack's top.
    freeCount > 0 ? unsafe freeStack[freeTokens - 1] : nil
  }
}
