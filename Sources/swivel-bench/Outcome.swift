import VirtioDriver

/// What one measurement found; a row of the table.
struct Outcome: Codable, Sendable, Equatable {
  /// Times that frames took, in microseconds.
  struct Latency: Codable, Sendable, Equatable {
    var samples: Int
    var minimum: Double
    var mean: Double
    var maximum: Double
    /// Percentile (50, 90, 99 …) and the time that so many per cent of the frames did not exceed.
    var percentiles: [Point]

    struct Point: Codable, Sendable, Equatable {
      var percentile: Double
      var microseconds: Double
    }
  }

  /// Every byte of every frame was checked.
  struct Verification: Codable, Sendable, Equatable {
    var whole: UInt64
    var corrupt: UInt64
    var disordered: UInt64
  }

  /// Single frames beside the busy ports.
  struct Single: Codable, Sendable, Equatable {
    var offered = 0
    /// Those that did not arrive within a second.
    var missed = 0
    /// Those for which the switch had asked to be kicked; `nil`: not counted.
    var kicked: Int?
  }

  /// What kept the rate from being higher.
  enum Limit: String, Codable, Sendable {
    /// The switch: its transmitqs were full.
    case `switch`
    /// This program: the switch waited for it.
    case generator
    /// The rate that was to be offered.
    case rate
  }

  var mode: Mode
  /// As the user calls them.
  var size: String
  /// Time of the measurement, without warming up.
  var seconds = 0.0
  /// Frames a second that were to be offered, of all ports together.
  var offeredRate: Double?
  var sentFrames: UInt64 = 0
  var receivedFrames: UInt64 = 0
  /// Frames a second received by all ports together, in millions.
  var mpps = 0.0
  /// Their bits, from the first of the addresses to the end of the payload, in thousands of millions.
  var gbps = 0.0
  /// Frames that did not arrive anywhere, warming up included, and their share.
  var lostFrames: UInt64 = 0
  var lostShare = 0.0
  /// What the switch has dropped by its own account, by its names for it, from the first frame of this row to the
  /// last; `nil`: it was not asked.
  var drops: [String: UInt64]?
  /// Of the times a lane was looked at, those when there was nothing to do.
  var idleShare: Double?
  /// Of the transmit buffers, those that the switch held, on average.
  var heldShare: Double?
  var limit: Limit?
  /// Share of the time in which this program had its CPU: less than all on a machine that others use.
  var cpuShare: Double?
  var latency: Latency?
  var verification: Verification?
  /// Of the mode `cold` and with `--mixed`; the latency is theirs.
  var single: Single?
  /// What `gbps` was in the same run without the single frames, the two in turn.
  var gbpsAlone: Double?
  /// What one core's memcpy reached with the same frames, in thousands of millions of bits a second.
  var memcpyGbps: Double?
  /// Frames of the longest burst without loss, of each port.
  var burstFrames: UInt64?
  /// Nanoseconds that a frame costs the generator.
  var generatorNanoseconds: Double?

  init(mode: Mode, size: String) {
    self.mode = mode
    self.size = size
  }

  /// Whether everything that was checked is as it should be.
  var isClean: Bool { verification.map { $0.corrupt == 0 && $0.disordered == 0 } ?? true }
}
