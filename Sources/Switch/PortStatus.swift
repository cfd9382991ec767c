internal import ControlAPI
internal import Dataplane
internal import Linux
internal import VhostUser

/// What is known of a vhost-user port at the moment: written by its thread, read by whoever asks.
final class PortStatus: Sendable {
  struct Ring: Sendable {
    var size: Int
    var enabled: Bool
    /// Worker that polls it; meaningless for a receiveq.
    var worker: Int
    var fault: QueueFault?
    /// Interrupting its driver takes too long for a worker.
    var isSlow = false
    /// Grows with every start of a ring of this port: tells one run of a ring from the next.
    var run: Int
    /// Where the front-end wants to hear of a fault.
    var error: OwnedFD?
  }

  /// A ring that ran, and goes on as soon as its own addresses are translated again.
  struct Suspension: Sendable {
    var ring: Ring
    var since: ContinuousClock.Instant
  }

  struct Values: Sendable {
    var connected = false
    var pid: Int?
    /// When that process started (`SavedState.FrontEnd`).
    var started: UInt64?
    var connections = 0
    /// Rings started so far, and as many when the front-end connected that is there now.
    var runs = 0
    var runsBefore = 0
    /// Client mode: why the last attempt to connect failed.
    var waitingFor: String?
    var features: Features = []
    var protocolFeatures: ProtocolFeatures = []
    var deviceStatus: DeviceStatus = []
    var regions: [MemoryRegion] = []
    var memory = SharedFiles()
    var guestNode: Int?
    /// What the port's thread has made of an IOMMU's messages; `nil`: the guest has none.
    var iotlb: IOTLBStatus?
    /// What the front-end asks for, and what came of it.
    var askedMTU: Int?
    var mtu: Int?
    /// By index; `nil`: not running.
    var rings: [Ring?]
    var suspended: [Int: Suspension] = [:]
    var lastError: String?
    /// What has gone wrong since the port was made, by name: `QueueFault.name`, `SessionFault`.
    var faults: [String: UInt64] = [:]
  }

  private let values: Lock<Values>
  private let log = Lock(LogLimit())

  init(queues: Int) {
    values = Lock(Values(rings: [Ring?](repeating: nil, count: queues)))
  }

  func read<Result: Sendable>(_ body: (Values) -> Result) -> Result {
    values.withLock { body($0) }
  }

  func change<Result: Sendable>(_ body: (inout Values) -> Result) -> Result {
    values.withLock { body(&$0) }
  }

  func update(_ body: (inout Values) -> Void) {
    values.withLock { body(&$0) }
  }

  /// Whether a line about something ordinary may be logged now.
  func allowsLine(_ message: String) -> Bool { log.withLock { $0.allows(message) } }

  /// Keeps an error, and counts it by name where it has one; returns whether it deserves a line in the log.
  ///
  /// - Parameters:
  ///   - isCondition: something that is so, and may be of another's making, so that it takes the place of no error.
  ///   - logs: whether the line would be this port's own, and so counts for what it may say.
  func record(
    _ message: String, as name: String?, isCondition: Bool = false, logs: Bool = true
  ) -> Bool {
    values.withLock { values in
      if !isCondition || values.lastError == nil { values.lastError = message }
      if let name { values.faults[name, default: 0] += 1 }
    }
    return !logs || log.withLock { $0.allows(message) }
  }
}

/// What a front-end does wrong outside its rings, by its name in the control interface and in Prometheus labels.
enum SessionFault: String {
  /// Bytes that make no message.
  case malformedMessage = "malformed_message"
  /// A message that asks for what can't be.
  case refusedRequest = "refused_request"
  /// The connection broke, or stalled in mid-message or before a reply.
  case connectionFailed = "connection_failed"
  /// A ring that could not be started as it was set up.
  case ringNotStarted = "ring_not_started"
  /// Another front-end on the same socket.
  case secondFrontEnd = "second_front_end"
  /// Interrupting a driver takes so long that no worker does it.
  case slowInterrupts = "slow_interrupts"

  init(_ kind: ProtocolError.Kind) {
    switch kind {
    case .malformed: self = .malformedMessage
    case .refused: self = .refusedRequest
    case .connection: self = .connectionFailed
    }
  }
}

/// Keeps a front-end from filling the log: the same message once in ten seconds, and no more than ten of
/// any kind in that time.
struct LogLimit {
  private var windowEnd = ContinuousClock.now
  private var seen: Set<String> = []

  mutating func allows(_ message: String) -> Bool {
    let now = ContinuousClock.now
    if now >= windowEnd {
      windowEnd = now + .seconds(10)
      seen = []
    }
    return seen.count < 10 && seen.insert(message).inserted
  }
}

/// Notices a front-end that does nothing but connect and hang up: past a hundred sessions a second each has to
/// wait a little.
struct SessionRate {
  private var windowEnd = ContinuousClock.now
  private var sessions = 0

  /// Counts a session that is about to begin.
  var isExcessive: Bool {
    mutating get {
      let now = ContinuousClock.now
      if now >= windowEnd {
        windowEnd = now + .seconds(1)
        sessions = 0
      }
      sessions += 1
      return sessions > 100
    }
  }
}
