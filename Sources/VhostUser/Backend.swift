public import Linux

/// What a switch port implements so that a front-end (QEMU, DPDK's virtio-user) can drive it: the device
/// behind the protocol. `Session` owns everything the protocol itself asks for (framing, negotiation, the
/// state of each ring) and comes here with a few whole operations.
///
/// Every call of one session comes from the thread that runs it, one after another. Nothing here may wait
/// for the front-end, as the front-end may be waiting for this call's reply.
public protocol Backend: AnyObject {
  /// The virtio and vhost features offered. The same for the life of the port (E102), and to be usable by
  /// any front-end of today with `.vhostUserProtocol` among them.
  var features: Features { get }

  /// The protocol features offered. A request whose protocol feature is not among these is refused.
  var protocolFeatures: ProtocolFeatures { get }

  /// Pairs of a receiveq and a transmitq, 1…128: the answer to GET_QUEUE_NUM, which for a network device
  /// QEMU and DPDK both take as a number of pairs. Ring 2n is receiveq n, ring 2n + 1 is transmitq n.
  var queuePairs: Int { get }

  /// Memory regions that may exist at once: the answer to GET_MAX_MEM_SLOTS. One SET_MEM_TABLE carries
  /// 32 at most, whatever this says.
  var memorySlots: Int { get }

  /// Bytes of memory that the regions may have together, at most 2^46: what would make them more is refused.
  var memoryLimit: UInt64 { get }

  /// Tells what is agreed on, whenever either set changes. For information: each ring is started with the
  /// features that hold for it.
  func negotiated(_ features: Features, _ protocolFeatures: ProtocolFeatures)

  /// Replaces the guest's memory by `regions`, the complete table, which may be empty. No ring is running.
  /// Regions have a size, wrap nowhere and overlap nowhere, neither in guest nor in user addresses; whether
  /// each fits its file is to be judged here (`Mapping` does). A region of the last table that is still
  /// there comes with the same `file` object. On a throw the last table stays in force.
  func setMemory(_ regions: [GuestRegion]) throws(BackendError)

  /// Replaces the log of dirty pages; `nil` ends logging. No ring is running that has `.logAll`. On a throw the last log stays
  /// in force. Called only when `.logShmfd` is offered.
  func setLog(_ log: LogRegion?) throws(BackendError)

  /// Signalled when there may be something for `takeMisses`, while the guest has an IOMMU: once
  /// VIRTIO_F_ACCESS_PLATFORM and VHOST_USER_PROTOCOL_F_BACKEND_REQ are negotiated.
  var missed: EventFD? { get }

  /// The device addresses that were needed and not known, since the last call. May name some again and again.
  func takeMisses() -> [IOTLBMiss]

  /// Enters a translation (E98); whatever was known of its addresses before is void. Its user addresses lie in
  /// one region. Returns the running rings that are to be stopped, as they lie where addresses lead elsewhere now;
  /// of these nothing else is in use when it returns.
  ///
  /// - Parameter isCheck: it answers one of `translationsToCheck`. The front-end says that an address leads elsewhere
  ///   without having said that it led there no more: then it is not to be trusted.
  func insert(_ entry: IOTLBEntry, isCheck: Bool) -> [Int]

  /// Some of what is known, for the front-end to be asked for it once more.
  func translationsToCheck(_ count: Int) -> [IOTLBMiss]

  /// Forgets the translation of device addresses `first` to `last`, both included. Returns as `insert` does.
  func removeTranslations(from first: UInt64, through last: UInt64) -> [Int]

  /// The front-end was asked for so many translations that were missed.
  func noteQuestions(_ count: Int)

  /// Has everything that is still missed be told once more.
  func renewMisses()

  /// Begins to work on stopped rings, each of them named once, and at least one. With `enabled == false` a
  /// transmitq's frames are taken and discarded and a receiveq is left alone (E76).
  ///
  /// Whatever starts together comes in one call, as a back-end may have to wait for its workers, and then waits
  /// once.
  ///
  /// - Returns: why each ring did not start, in the order given; `nil`: it runs. A ring that did not start is
  ///   stopped, and keeps no other from starting. `.notTranslated`: the IOTLB does not know its parts, which is a
  ///   miss; it is started again when the IOTLB has changed.
  func startRings(_ rings: [RingConfiguration]) -> [BackendError?]

  /// Rings that were suspended, or did not start as they are `.notTranslated`, are not to be started any more.
  func abandonRings(_ indices: [Int])

  /// As `stopRings`, of rings whose own addresses are not known any more, and which are to be started as soon as they are:
  /// frames for the receiveqs among them may wait until then, or until `abandonRings`.
  func suspendRings(_ indices: [Int]) -> [UInt32]

  /// Ends the work on running rings, each of them named once, and at least one; also on those that were
  /// quarantined meanwhile. Returns when no worker touches their memory or descriptors any more and every page
  /// written is logged (E79). Whatever stops together comes in one call, as with `startRings`.
  ///
  /// - Returns: what GET_VRING_BASE answers for each ring, in the order given: the next avail index of a split
  ///   ring; of a packed one avail index and wrap counter in bits 0–15, used index and wrap counter in bits 16–31.
  func stopRings(_ indices: [Int]) -> [UInt32]

  /// The front-end knows where stopped rings go on, or has them begin anew: what was noted of that for a front-end that does
  /// not is void.
  func forgetPositions(_ indices: [Int])

  /// Has a running ring's driver be told of used buffers by another eventfd (SET_VRING_CALL); `nil`: by none. On
  /// return nothing uses the old one any more.
  func setCall(_ descriptor: OwnedFD?, of index: Int)

  /// Has the fault of a running ring be told by another eventfd (SET_VRING_ERR); `nil`: by none. On return nothing
  /// uses the old one any more.
  func setError(_ descriptor: OwnedFD?, of index: Int)

  /// Has a running ring's driver tell of new buffers by another eventfd (SET_VRING_KICK); `nil`: by none, so that
  /// they are polled for. What was made available before is looked at, whatever the old descriptor was told, and on
  /// return nothing uses that one any more. On a throw the ring runs on, but may hear no kicks: it is stopped next.
  func setKick(_ descriptor: OwnedFD?, of index: Int) throws(BackendError)

  /// Enables or disables a running ring (SET_VRING_ENABLE), as `RingConfiguration.enabled` does one that starts.
  /// When it returns, no worker acts by the old state any more.
  func setEnabled(_ enabled: Bool, of index: Int)

  /// Sets the host's MTU, 68…65,535 bytes of payload a frame.
  func setMTU(_ mtu: Int) throws(BackendError)

  /// Announces the guest at its new place: a RARP broadcast from this port. `mac` has six bytes.
  func sendRARP(mac: [UInt8]) throws(BackendError)

  /// The driver's device status changed (only with `.status` negotiated). The rings follow it by themselves.
  func statusChanged(_ status: DeviceStatus)

  /// The session is over; every ring has been stopped. Forget memory, log and negotiation.
  func reset()
}

extension Backend {
  public func setLog(_ log: LogRegion?) throws(BackendError) {
    throw BackendError("this back-end keeps no log of dirty pages")
  }

  // A back-end that does not offer VIRTIO_F_ACCESS_PLATFORM.
  public var missed: EventFD? { nil }
  public func takeMisses() -> [IOTLBMiss] { [] }
  public func insert(_ entry: IOTLBEntry, isCheck: Bool) -> [Int] { [] }
  public func translationsToCheck(_ count: Int) -> [IOTLBMiss] { [] }
  public func removeTranslations(from first: UInt64, through last: UInt64) -> [Int] { [] }
  public func noteQuestions(_ count: Int) {}
  public func renewMisses() {}
  public func abandonRings(_ indices: [Int]) {}
  public func forgetPositions(_ indices: [Int]) {}
  public func suspendRings(_ indices: [Int]) -> [UInt32] { stopRings(indices) }
}

/// Why a back-end would not do what it was asked: one sentence for a person.
public struct BackendError: Error, Equatable, Sendable, CustomStringConvertible {
  public let message: String

  public init(_ message: String) { self.message = message }

  public var description: String { message }

  /// From `startRings` alone.
  public static let notTranslated = BackendError("the IOTLB does not know the ring's addresses yet")
}

/// One region of the guest's memory: bytes `mmapOffset ..< mmapOffset + size` of `file`, which the guest
/// sees at `guestAddress` and the front-end at `userAddress`. All in bytes, none necessarily page-aligned.
public struct GuestRegion: Sendable {
  public let guestAddress: UInt64
  public let size: UInt64
  public let userAddress: UInt64
  public let mmapOffset: UInt64
  public let file: OwnedFD

  public init(
    guestAddress: UInt64, size: UInt64, userAddress: UInt64, mmapOffset: UInt64, file: OwnedFD
  ) {
    self.guestAddress = guestAddress
    self.size = size
    self.userAddress = userAddress
    self.mmapOffset = mmapOffset
    self.file = file
  }
}

/// The log of dirty pages: `size` bytes from `offset` of `file`, one bit for each 4 KiB of guest-physical
/// memory, to be set atomically. `notify`, when there is one, may be signalled after a change.
public struct LogRegion: Sendable {
  public let size: UInt64
  public let offset: UInt64
  public let file: OwnedFD
  public let notify: OwnedFD?

  public init(size: UInt64, offset: UInt64, file: OwnedFD, notify: OwnedFD?) {
    self.size = size
    self.offset = offset
    self.file = file
    self.notify = notify
  }
}

/// All that is needed to work on one ring.
public struct RingConfiguration: Sendable {
  /// 0 ..< 2 × `queuePairs`; even: a receiveq, odd: a transmitq.
  public let index: Int
  /// Descriptors: 1…32,768, a power of two unless the ring is packed.
  public let size: Int
  /// Where the descriptor area, the driver area (avail) and the device area (used) lie, as user addresses
  /// of the front-end, or, when the guest has an IOMMU, as device addresses (E82). Neither translated nor checked
  /// for alignment and bounds.
  public let descriptors: UInt64
  public let driver: UInt64
  public let device: UInt64
  /// The guest-physical address at which writes to the device area are logged; `nil`: they are not.
  /// It may lie outside the memory table but must lie inside the log (E90): check it.
  public let logAddress: UInt64?
  /// Where to begin, as in `stopRings`'s result.
  public var base: UInt32
  /// What the front-end takes for the base; another when the ring has run and goes on elsewhere.
  public let agreedBase: UInt32
  /// What the driver accepted, `.logAll` included.
  public let features: Features
  public var enabled: Bool
  /// Non-blocking eventfds. No kick: poll. No call: the driver polls. The error one is signalled when the
  /// ring breaks.
  public var kick: OwnedFD?
  public var call: OwnedFD?
  public var error: OwnedFD?

  public init(
    index: Int, size: Int, descriptors: UInt64, driver: UInt64, device: UInt64,
    logAddress: UInt64?, base: UInt32, agreedBase: UInt32, features: Features, enabled: Bool,
    kick: OwnedFD?,
    call: OwnedFD?, error: OwnedFD?
  ) {
    self.index = index
    self.size = size
    self.descriptors = descriptors
    self.driver = driver
    self.device = device
    self.logAddress = logAddress
    self.base = base
    self.agreedBase = agreedBase
    self.features = features
    self.enabled = enabled
    self.kick = kick
    self.call = call
    self.error = error
  }
}
