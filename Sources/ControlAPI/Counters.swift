/// What a queue (or the sum of several) has counted since the port was made.
public struct Counters: Codable, Sendable, Equatable {
  /// transmitq: frames taken from the guest, dropped ones too. receiveq: frames delivered.
  public var frames: UInt64
  /// Bytes of those frames, Ethernet header to payload, without virtio-net header and FCS.
  public var bytes: UInt64
  /// Bursts that carried at least one frame.
  public var bursts: UInt64
  /// Interrupts sent to the guest.
  public var notifications: UInt64
  /// transmitq only: copies beyond the first that a flood made. `frames + replicas` of all transmitqs
  /// equals `frames` of all receiveqs plus all `drops`.
  public var replicas: UInt64
  /// Frames that were not delivered, by reason; reasons that have counted nothing are left out.
  public var drops: [String: UInt64]

  public init(
    frames: UInt64 = 0, bytes: UInt64 = 0, bursts: UInt64 = 0, notifications: UInt64 = 0,
    replicas: UInt64 = 0, drops: [String: UInt64] = [:]
  ) {
    self.frames = frames
    self.bytes = bytes
    self.bursts = bursts
    self.notifications = notifications
    self.replicas = replicas
    self.drops = drops
  }

  /// All drops, whatever the reason.
  public var dropped: UInt64 { drops.values.reduce(0, &+) }

  public static func += (sum: inout Counters, other: Counters) {
    sum.frames &+= other.frames
    sum.bytes &+= other.bytes
    sum.bursts &+= other.bursts
    sum.notifications &+= other.notifications
    sum.replicas &+= other.replicas
    sum.drops.merge(other.drops, uniquingKeysWith: &+)
  }
}
