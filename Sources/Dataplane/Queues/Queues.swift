internal import Linux

/// What a worker takes frames from and gives frames to, whatever it is.
///
/// # Theory of operation
///
/// Here live the kinds of queues: a split or packed virtqueue in a guest's memory (`Virtqueue/`), a queue of a TAP
/// interface. A worker knows them as `Queue`: the address of a value of one of these types, and which of them it is. It
/// takes a burst from a queue, judges and switches it, delivers frames to other queues, and shows both sides what it
/// has done (`publish`). What a kind needs for that, what it counts as its own state between two bursts, how it is
/// asked to wake a worker that sleeps, and what must be done so that it does: all of it is the queue's own business.
/// Neither `Worker` nor the bridge asks which kind a queue is. docs/new-port-kind.md says what a new one needs.
///
/// A queue takes frames or delivers them, never both: a TAP port has two for each of its descriptors. A queue that is taken from
/// belongs to the one worker that polls it; one that is delivered to belongs, for a burst, to the worker that holds
/// its lock (`QueueState`), or to the only worker there is. Control makes a queue, in a block of the arena, before any
/// worker knows it, and gives the block back when none can know it any more (`Dataplane.stopQueues`). What outlives
/// a queue lies in its `QueueState`.
///
/// An enum of addresses, and no protocol: the calls are direct, the compiler sees through them, and the two
/// kinds of rings are looked for first, so that they pay nothing for there being others.
///
/// SAFETY: what it points to outlives every plan and every output that names it (`Quiescence`).
@safe enum Queue {
  case split(UnsafeMutablePointer<SplitQueue>)
  case packed(UnsafeMutablePointer<PackedQueue>)
  case tap(UnsafeMutablePointer<TapQueue>)

  // ---- Workers ----

  /// Takes up to a burst of frames. Each is one of `burst`'s, or a named drop.
  @inline(always)
  func take(_ burst: Burst) -> Gathered {
    switch self {
    case .split(let queue): unsafe queue.pointee.gather(burst)
    case .packed(let queue): unsafe queue.pointee.gather(burst)
    case .tap(let queue): unsafe queue.pointee.gather(burst)
    }
  }

  /// Delivers frames of a burst in the order given; those that find no place are dropped by name.
  ///
  /// - Parameters:
  ///   - order: `count` frames.
  ///   - limit: bytes of the longest untagged frame that the port takes.
  @inline(always)
  func deliver(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) -> Delivered {
    switch self {
    case .split(let queue): unsafe queue.pointee.deliver(burst, order, count, limit: limit)
    case .packed(let queue): unsafe queue.pointee.deliver(burst, order, count, limit: limit)
    case .tap(let queue): unsafe queue.pointee.deliver(burst, order, count, limit: limit)
    }
  }

  /// Whether frames wait to be delivered to it, as `deliver` has said. Others may be at it.
  var hasWaiting: Bool {
    switch self {
    case .split(let queue): unsafe queue.pointee.hasWaiting
    case .packed(let queue): unsafe queue.pointee.hasWaiting
    case .tap: false
    }
  }

  /// Delivers what waits, or drops it when that has taken too long.
  ///
  /// - Parameter burst: its room for buffers is used.
  func deliverWaiting(_ burst: Burst) -> Delivered {
    switch self {
    case .split(let queue): unsafe queue.pointee.deliverWaiting(burst)
    case .packed(let queue): unsafe queue.pointee.deliverWaiting(burst)
    case .tap: Delivered()
    }
  }

  /// Shows the other side what was taken or delivered since the last time.
  @inline(always)
  func publish() {
    switch self {
    case .split(let queue): unsafe queue.pointee.publish()
    case .packed(let queue): unsafe queue.pointee.publish()
    case .tap: break
    }
  }

  /// The eventfd by which the other side is to be told of what `publish` has shown, or -1. It is the caller's to
  /// signal, as several go to the kernel at once.
  @inline(always)
  func interrupt() -> CInt {
    switch self {
    case .split(let queue): unsafe queue.pointee.interrupt()
    case .packed(let queue): unsafe queue.pointee.interrupt()
    case .tap: -1
    }
  }

  /// `interrupt`, when a full fence has come after `publish` already.
  @inline(always)
  func interruptFenced() -> CInt {
    switch self {
    case .split(let queue): unsafe queue.pointee.interruptFenced()
    case .packed(let queue): unsafe queue.pointee.interruptFenced()
    case .tap: -1
    }
  }

  /// What outlives the queue.
  var state: QueueState {
    switch self {
    case .split(let queue): unsafe queue.pointee.state
    case .packed(let queue): unsafe queue.pointee.state
    case .tap(let queue): unsafe queue.pointee.state
    }
  }

  /// Whether a look at the queue is a system call, which is no look to take often; and the kernel lets several threads give to
  /// it at the same time.
  @inline(always)
  var isReadByCall: Bool {
    if case .tap = self { true } else { false }
  }

  /// Whether what is in the queue waits for something that no doorbell tells of.
  var isWaiting: Bool {
    switch self {
    case .split(let queue): unsafe queue.pointee.isWaiting
    case .packed(let queue): unsafe queue.pointee.isWaiting
    case .tap: false
    }
  }

  // ---- Steering among the receiveqs of a port ----

  /// How far the queue is filled, as `hasSeen` understands it; asked by who may deliver to it.
  @inline(always)
  var mark: UInt16 {
    switch self {
    case .split(let queue): unsafe queue.pointee.mark
    case .packed(let queue): unsafe queue.pointee.mark
    case .tap: 0
    }
  }

  /// Whether the other side shows that it has taken all that was delivered up to a mark. Any worker may ask. `false`
  /// where that can't be told.
  func hasSeen(_ mark: UInt16) -> Bool {
    switch self {
    case .split(let queue): unsafe queue.pointee.hasSeen(mark)
    case .packed(let queue): unsafe queue.pointee.hasSeen(mark)
    // The kernel takes a frame in the call that gives it.
    case .tap: true
    }
  }

  /// Whether nothing was delivered to the queue since it started, and there is no place for anything either: its driver
  /// has never filled it. Asked by who may deliver to it.
  @inline(always)
  var isUnfilled: Bool {
    switch self {
    case .split(let queue): unsafe queue.pointee.isUnfilled
    case .packed(let queue): unsafe queue.pointee.isUnfilled
    case .tap: false
    }
  }

  /// Has the queue wake its worker by its doorbell when there is something to take. Returns whether there is already;
  /// then the doorbell need not come, and the worker must look.
  func arm() -> Bool {
    switch self {
    case .split(let queue): unsafe queue.pointee.arm()
    case .packed(let queue): unsafe queue.pointee.arm()
    // Its descriptor is ready for as long as there is a frame.
    case .tap: false
    }
  }

  /// The worker is awake and looks by itself.
  func disarm() {
    switch self {
    case .split(let queue): unsafe queue.pointee.suppressKicks()
    case .packed(let queue): unsafe queue.pointee.suppressKicks()
    case .tap(let queue): unsafe queue.pointee.disarm()
    }
  }

  // ---- Control ----

  /// Where a queue that goes on here begins, as GET_VRING_BASE answers (vhost-user: "A vring state description"); 0
  /// where there is no such thing.
  var position: UInt32 {
    switch self {
    case .split(let queue): UInt32(unsafe queue.pointee.nextAvail)
    case .packed(let queue): UInt32(unsafe queue.pointee.next.word) &* 0x1_0001
    case .tap: 0
    }
  }
}

/// What a queue is made from: one case for each kind.
public enum QueueSetup: Sendable {
  /// A virtqueue, whose parts and buffers lie in `memory`. Behind an IOMMU all its addresses are translated by
  /// `iotlb`, which must know those of its parts (`RingSetup.misses`).
  case ring(RingSetup, memory: GuestMemory, iotlb: IOTLB? = nil)
  case tap(TapSetup)

  /// Makes the queue, of which no worker knows yet. Throws a `DataplaneError` when what was asked for can't be.
  func make(_ place: QueuePlace) throws -> RunningQueue {
    switch self {
    case .ring(let setup, let memory, let iotlb): try setup.make(place, memory, iotlb)
    case .tap(let setup): try setup.make(place)
    }
  }
}

/// Where a queue is made.
struct QueuePlace {
  let arena: Arena
  /// What outlives it.
  let state: QueueState
  /// Whether frames are taken from it; else they are delivered to it.
  let isTransmitq: Bool
}

/// Control's record of a queue that runs, and of what must stay alive for as long as it does.
@safe final class RunningQueue {
  let queue: Queue
  /// The block of the arena that it lies in.
  let block: UnsafeMutableRawPointer
  let byteCount: Int
  /// Mappings, descriptors: whatever the queue refers to.
  let resources: [any Sendable & AnyObject]
  /// Of a virtqueue: what its addresses mean.
  let space: (any RingSpace)?
  /// Of a virtqueue that is logged.
  let log: DirtyLog?
  /// Bytes of the virtio-net header before each frame taken from it.
  let headerSize: UInt8
  /// What frames taken from it may ask for.
  let offloads: Offloads
  /// Frames are delivered; else those taken are discarded, and nothing is delivered.
  var isEnabled: Bool
  /// It stands for a receiveq whose own parts are not translated (`SplitQueue.suspended`).
  var isSuspended = false
  /// What tells that there is something to take; `nil`: its worker must look.
  var doorbell: Doorbell?
  /// Worker that polls it, of a transmitq, its slot there, and what tells it from others that had the slot.
  var worker = 0
  var slot = -1
  var serial: UInt32 = 0
  /// The eventfd that interrupts its driver.
  var call: OwnedFD?

  init(
    _ queue: Queue, at block: UnsafeMutableRawPointer, bytes: Int,
    resources: [any Sendable & AnyObject],
    space: (any RingSpace)? = nil, log: DirtyLog? = nil, headerSize: UInt8, offloads: Offloads,
    isEnabled: Bool,
    doorbell: Doorbell?, call: OwnedFD? = nil
  ) {
    self.queue = queue
    unsafe self.block = unsafe block
    byteCount = bytes
    self.resources = resources
    self.space = space
    self.log = log
    self.headerSize = headerSize
    self.offloads = offloads
    self.isEnabled = isEnabled
    self.doorbell = doorbell
    self.call = call
  }
}

extension RunningQueue {
  /// Why the queue is broken. What is to be said of a ring in memory that has vanished is that, and workers are told.
  func inspect(_ state: QueueState) -> QueueFault? {
    // Before the look at the memory: then a fault that came of the loss is not taken for another.
    let fault = state.counters.fault
    // Without its log, pages that were written go unnoticed: as bad as memory that is not there.
    guard space?.hasVanished == true || log?.hasVanished == true else { return fault }
    state.counters.setFault(.memoryVanished)
    return .memoryVanished
  }
}

/// A descriptor whose readiness ends a worker's sleep.
struct Doorbell {
  var descriptor: OwnedFD
  /// Watched edge-triggered, so that the worker never has to read a descriptor that belongs to a stranger: reading
  /// could block (decision 2).
  var isEdge: Bool
}

/// Why the data plane refused something: one sentence for a person.
public struct DataplaneError: Error, Sendable, Equatable, CustomStringConvertible {
  public let description: String
  /// There are as many of something as there can be.
  public let isLimit: Bool

  init(_ description: String, isLimit: Bool = false) {
    self.description = description
    self.isLimit = isLimit
  }
}
