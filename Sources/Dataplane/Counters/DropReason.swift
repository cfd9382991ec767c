/// Why a frame was not delivered. Every frame that came in and did not go out counts under exactly one of
/// these, on the queue where it was lost.
public enum DropReason: UInt8, CaseIterable, Sendable {
  // ---- Counted on the transmitq it came from ----

  /// The descriptor chain points outside guest memory, has the wrong direction, or breaks a rule of
  /// virtio v1.4, 2.7.5.
  case malformedDescriptor
  /// The chain has more descriptors than the ring, or more pieces than a frame may have.
  case chainTooLong
  /// The chain is shorter than the virtio-net header.
  case headerTooShort
  /// Shorter than an Ethernet header: 14 bytes.
  case runt
  /// Longer than any frame may be: `Burst.maximumLength`.
  case oversize
  /// The virtio-net header asks for an offload that was not negotiated (5.1.9.2.2).
  case offloadNotNegotiated
  /// What the virtio-net header asks for can't be done: places outside the frame, segments of no length or
  /// more than anybody needs, headers that are not of the kind it says.
  case malformedOffload
  /// The source address is multicast or zero.
  case invalidSource
  /// A link-local control address (IEEE 802.1Q, table 8-1) that a bridge must not forward.
  case reservedMulticast
  /// The destination was learned on the port the frame came from.
  case hairpin
  /// A port that a flood did not reach, as its burst had cost enough.
  case floodLimit
  /// A flood with no other port up.
  case noDestination
  /// The destination's port is down: no front-end, or no receiveq started and enabled.
  case destinationDown
  /// The transmitq is started but not enabled: vhost-user has its frames discarded. Or its port is cut off.
  case queueDisabled
  /// Another worker held the receiveq for too long.
  case queueBusy

  // ---- Counted on the receiveq (or the TAP queue) it was meant for ----

  /// The guest had no buffer posted.
  case noReceiveBuffer
  /// The posted buffer is too small, and buffers may not be merged.
  case receiveBufferTooSmall
  /// The posted buffer breaks the rules of a descriptor chain; it went back to the guest empty. Or those for the frames
  /// of one burst have so many descriptors that no more are looked at.
  case malformedReceiveBuffer
  /// The address of the posted buffer, or of the ring, is not in the IOTLB, though the front-end was asked for it and the
  /// frame has waited; or too many wait. On a transmitq: a frame's own address, for which it has waited in its ring.
  case addressNotTranslated
  /// The receiveq itself is broken and stopped.
  case queueBroken
  /// Longer than the port's MTU allows.
  case exceedsMTU
  /// The frames of its burst have been cut into as many segments as one burst may cost.
  case segmentLimit
  /// The TAP's queue is full.
  case uplinkBusy
  /// The TAP interface is down.
  case uplinkDown
  /// The kernel refused the frame for another reason.
  case uplinkError

  /// The name in the control interface and in Prometheus labels.
  public var name: String {
    switch self {
    case .malformedDescriptor: "malformed_descriptor"
    case .chainTooLong: "chain_too_long"
    case .headerTooShort: "header_too_short"
    case .runt: "runt"
    case .oversize: "oversize"
    case .offloadNotNegotiated: "offload_not_negotiated"
    case .malformedOffload: "malformed_offload"
    case .invalidSource: "invalid_source"
    case .reservedMulticast: "reserved_multicast"
    case .hairpin: "hairpin"
    case .floodLimit: "flood_limit"
    case .noDestination: "no_destination"
    case .destinationDown: "destination_down"
    case .queueDisabled: "queue_disabled"
    case .queueBusy: "queue_busy"
    case .noReceiveBuffer: "no_receive_buffer"
    case .receiveBufferTooSmall: "receive_buffer_too_small"
    case .malformedReceiveBuffer: "malformed_receive_buffer"
    case .addressNotTranslated: "address_not_translated"
    case .queueBroken: "queue_broken"
    case .exceedsMTU: "exceeds_mtu"
    case .segmentLimit: "segment_limit"
    case .uplinkBusy: "uplink_busy"
    case .uplinkDown: "uplink_down"
    case .uplinkError: "uplink_error"
    }
  }

  /// Places that the counters need: one for each case.
  static let count = allCases.count
}

/// Why a queue was stopped for good. A ring whose memory can no longer be trusted to be a ring runs again when
/// the front-end starts it anew; a TAP whose interface is gone, when the port is made anew.
public enum QueueFault: UInt64, CaseIterable, Sendable {
  /// `avail.idx` moved by more than the ring's size (2.7.13.3).
  case availIndexJump = 1
  /// An entry of the avail ring names a descriptor that is not there (2.7.6).
  case headOutOfRange
  /// The TAP interface was deleted.
  case deviceGone
  /// A chain of a packed ring goes on into a descriptor that is not available, or beyond the ring (2.8.6).
  case chainWithoutEnd
  /// The front-end took memory away that it had shared: shortened the file, say.
  case memoryVanished
  /// Workers had to wait for memory that the front-end was giving back (decision 16).
  case memoryStalls
  /// The front-end does not tell which addresses the guest's IOMMU takes back.
  case invalidationsMissing

  /// The name in the control interface and in Prometheus labels.
  public var name: String {
    switch self {
    case .availIndexJump: "avail_index_jump"
    case .headOutOfRange: "head_out_of_range"
    case .deviceGone: "device_gone"
    case .chainWithoutEnd: "chain_without_end"
    case .memoryVanished: "memory_vanished"
    case .memoryStalls: "memory_stalls"
    case .invalidationsMissing: "invalidations_missing"
    }
  }

  public var explanation: String {
    switch self {
    case .memoryVanished: "the front-end took memory away that it had shared"
    case .memoryStalls:
      "the front-end gave much of its memory back while workers needed it, and they had to wait"
    case .invalidationsMissing:
      "the front-end does not tell which addresses the guest's IOMMU takes back, so that the guest's memory would be read "
        + "and written where it keeps other things now: the card must be behind a root port, with ats=on"
    case .availIndexJump: "avail.idx moved by more than the ring has entries"
    case .headOutOfRange: "the avail ring names a descriptor beyond the table"
    case .chainWithoutEnd: "a chain of a packed ring has no end among the available descriptors"
    case .deviceGone: "the interface was deleted"
    }
  }
}
