public import Linux

/// What a ring is started with.
public struct RingSetup: Sendable {
  /// Entries: 1 to 32,768, a power of two unless the ring is packed.
  public var size: Int
  /// Front-end user addresses (behind an IOMMU, device addresses) of a split ring's descriptor table (16-byte aligned), avail ring (2) and used ring (4)
  /// (virtio v1.4, 2.7), or of a packed ring's descriptors (16), driver event suppression (4) and device event
  /// suppression (4) (2.8.10.1).
  public var descriptors: UInt64
  public var avail: UInt64
  public var used: UInt64
  /// Where to begin: a split ring's next avail entry, unless its used ring says otherwise (`SplitQueue.goOnAtUsed`); of a packed
  /// ring the next descriptor to be used and its wrap counter in bits 16–31, or, where these are 0, the next to be taken in
  /// bits 0–15. In what `Dataplane.stopQueues` returns they are the same, as nothing is taken then that was not used.
  public var base: UInt32
  /// What the front-end takes for the base. Another one than `base` once the ring has run and goes on elsewhere.
  public var agreedBase: UInt32
  /// VIRTIO_F_RING_PACKED.
  public var packed: Bool
  /// VIRTIO_F_IN_ORDER.
  public var inOrder: Bool
  public var eventIndex: Bool
  public var indirect: Bool
  public var mergeable: Bool
  /// VIRTIO_F_VERSION_1: the virtio-net header has 12 bytes whatever else holds.
  public var version1: Bool
  /// Of a transmitq what the driver may ask for, of a receiveq what it takes over.
  public var offloads: Offloads
  public var enabled: Bool
  /// `nil`: the driver does not kick, the worker must poll.
  public var kick: OwnedFD?
  /// `nil`: the driver polls and wants no interrupts.
  public var call: OwnedFD?
  /// Where a packed ring's position is kept for whoever comes after this process; `nil`: nowhere.
  public var journal: RingJournal?
  /// Where what is written to the guest's memory is marked (VHOST_F_LOG_ALL); `nil`: nowhere.
  public var log: DirtyLog?
  /// Where writes to the device area (split: the used ring) are marked besides (VHOST_VRING_F_LOG): a guest physical address,
  /// behind an IOMMU the device's.
  public var logAddress: UInt64?
  /// What the journal's memory lives by.
  public var keepsJournal: (any AnyObject & Sendable)?

  public init(
    size: Int, descriptors: UInt64, avail: UInt64, used: UInt64, base: UInt32,
    agreedBase: UInt32? = nil, packed: Bool = false, inOrder: Bool = false, eventIndex: Bool,
    indirect: Bool, mergeable: Bool, version1: Bool,
    offloads: Offloads = .none, enabled: Bool, kick: OwnedFD?, call: OwnedFD?
  ) {
    self.size = size
    self.descriptors = descriptors
    self.avail = avail
    self.used = used
    self.base = base
    self.agreedBase = agreedBase ?? base
    self.packed = packed
    self.inOrder = inOrder
    self.eventIndex = eventIndex
    self.indirect = indirect
    self.mergeable = mergeable
    self.version1 = version1
    self.offloads = offloads
    self.enabled = enabled
    self.kick = kick
    self.call = call
  }
}
