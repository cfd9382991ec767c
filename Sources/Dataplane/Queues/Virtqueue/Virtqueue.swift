internal import CLinux
internal import Synchronization

/// A virtqueue of either layout, seen from the device: what split and packed rings (virtio v1.4, 2.7 and 2.8) have
/// in common, and the two ways of a burst through them (`Virtqueue+Transmitq`, `Virtqueue+Receiveq`).
///
/// # Theory of operation
///
/// Here live the rings in guests' memory. `SplitRing` and `PackedRing` alone know where their words lie; `SplitQueue`
/// and `PackedQueue` take and return descriptor chains. Most chains are one descriptor, and are gone through in a short
/// loop of each layout's own; those of a few, as Linux sends, in another (`ShortChain`); every other is walked out of line
/// (`ChainPieces`), by one bounded algorithm. The guest may
/// write any of these words at any moment. So each is loaded once, judged, and then used; a broken rule costs its chain
/// (a named drop) or, where the ring itself can't be trusted any more, its ring (`QueueFault`), and never anybody else.
/// A ring is checked and translated once, when it starts (`RingStart`); addresses behind an IOMMU may have to be waited
/// for (`Virtqueue+Translation`).
///
/// Never used as a type: each function here is compiled once for each layout.
protocol Virtqueue {
  var memory: MemoryView { get }
  /// What outlives the ring: its counters, its call eventfd.
  var state: QueueState { get }
  /// Bytes of the virtio-net header: 12, or 10 for a legacy driver without mergeable buffers (5.1.9).
  var headerSize: UInt32 { get }
  var mergeable: Bool { get }
  /// Whether it stands for a ring whose own parts wait for translations (`SplitQueue.suspended`).
  var isSuspended: Bool { get }
  /// Of a receiveq: what the driver takes over; of a transmitq: what it may ask for.
  var offloads: Offloads { get }

  /// How many chains may be taken now, at most `limit`, or `limit` where that can't be told before; 0: none.
  mutating func available(_ limit: Int) -> Int

  /// Takes frames that lie in one descriptor each with their virtio-net header, for as long as such come, as frames
  /// `first ..< end` of the burst; returns how many.
  ///
  /// - Parameter longest: bytes of the longest frame that is taken.
  mutating func takePlain(_ burst: Burst, from first: Int, to end: Int, longest: Int) -> Int

  /// Takes short chains (`ShortChain`) as frames `first ..< end` of the burst, for as long as such come, and loads their
  /// headers; returns how many.
  ///
  /// - Parameter used: pieces of the burst's table so far; there is room for those of the frames.
  mutating func takeShort(
    _ burst: Burst, from first: Int, to end: Int, pieces used: inout Int
  ) -> Int

  /// Delivers frames into buffers of one descriptor each, for as long as such come; returns how many, and their bytes.
  mutating func placePlain(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) -> (frames: Int, bytes: Int)

  /// Translates the chain that begins `ahead` places behind the next one; `nil` when none is available there, or
  /// the ring has broken. The chain is not taken.
  ///
  /// - Parameters:
  ///   - writable: the direction the queue wants: `true` in a receiveq.
  ///   - output: room for `capacity` pieces.
  ///   - budget: descriptors that may still be looked at. Empty ones take no piece, so `capacity` alone would
  ///     let a guest keep a worker for 32,768 of them, chain after chain.
  mutating func chain(
    ahead: Int, writable: Bool, output: UnsafeMutablePointer<Piece>, capacity: Int,
    budget: inout Int
  ) -> Chain?

  /// The chain that begins `ahead` places behind the next one, if it is one writable descriptor in one region, as most
  /// receive buffers are. `nil`: what there is, `chain` says, which loads it again.
  mutating func plainBuffer(ahead: Int) -> PlainBuffer?

  /// Takes the next chain and gives it back with `written` bytes; the driver sees that after `publish`.
  mutating func use(_ id: UInt16, span: UInt16, written: UInt32)

  /// Shows the driver every chain given back so far.
  mutating func publish()

  /// Whether anything was published since the driver was last considered for an interrupt.
  var hasNews: Bool { get }

  /// Whether the driver wants to hear of what `publish` has shown since it was last considered. A full fence has
  /// come after `publish`.
  mutating func wantsInterrupt() -> Bool

  /// Where the next buffer will be taken, in 16 bits: what was delivered lies before it.
  var mark: UInt16 { get }

  /// Whether the ring has no buffer, and has had none since it started: its driver has never filled it.
  var isUnfilled: Bool { mutating get }

  /// Whether the driver shows that it has taken what was delivered before `mark`: it has made a buffer available in that place
  /// again; or, in a split ring, what it waits for is the buffer there (event index). Neither is always to be seen. May be
  /// asked beside the queue's user.
  func hasSeen(_ mark: UInt16) -> Bool

  /// Asks the driver not to kick.
  func suppressKicks()

  /// Asks the driver to kick at the next buffer. Returns whether there is one already; then no kick need
  /// come, and the caller must look.
  func requestKicks() -> Bool
}

/// A receive chain of one descriptor, translated.
struct PlainBuffer {
  /// As in `Chain`.
  var id: UInt16
  var piece: Piece
}

extension Virtqueue {
  @inline(always)
  var counters: Counters { state.counters }

  /// Whether the next buffer waits for a translation.
  var isWaiting: Bool { memory.iotlb?.isWaiting ?? false }

  /// Asks the driver to kick, unless the ring is broken. A buffer that waits for a translation is nothing to look at:
  /// control wakes the worker when it has come.
  func arm() -> Bool {
    !counters.isBroken && requestKicks() && !isWaiting
  }

  /// The eventfd by which the driver is to be told of what `publish` has shown since the last time, or -1. It is the
  /// caller's to signal, as several go to the kernel at once.
  @inline(always)
  mutating func interrupt() -> CInt {
    if !hasNews { return -1 }
    // The driver writes its wish, then looks for used buffers; we wrote used buffers, then look at its wish. Both
    // must see the other's write, and only a full fence orders a store before a load.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return interruptFenced()
  }

  /// `interrupt`, when a full fence has come after `publish` already.
  @inline(always)
  mutating func interruptFenced() -> CInt {
    if !wantsInterrupt() { return -1 }
    let call = state.call
    if call < 0 { return -1 }
    counters.add(.notifications, 1)
    return call
  }
}
