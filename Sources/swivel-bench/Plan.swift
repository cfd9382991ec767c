/// What is measured and how.
struct Plan: Sendable {
  var mode = Mode.throughput
  var sizes = Sizes.usual
  var pattern = Pattern.pairs
  /// Of each sending port; `nil`: as fast as it goes.
  var rate: Double?
  var seconds = 1.0
  var warmup = 0.1
  /// Addresses on each port.
  var macs = 1
  var ring = Ring.split
  var inOrder = false
  var mergeable = true
  var indirect = false
  /// TCP over IPv4, to be cut into segments.
  var segmented = false
  var queues = 1
  var ringSize = 256
  var bufferSize = 2048
  var verify = false
  /// Share of frames that may be lost in a search.
  var loss = 0.0
  /// The generator's CPU, and those of the workers of an own daemon.
  var cpu: Int?
  var workerCPUs = [0]
  /// How those workers wait.
  var poll = Poll.busy
  /// Ports that are busy.
  var ports = 2
  /// Ports whose guests are silent.
  var idlePorts = 0
  /// Seconds from one frame of a silent guest to the next.
  var interval = 0.005
  /// Beside the busy ports a pair with one small frame at a time.
  var mixed = false
  /// The yardstick is measured too.
  var memcpy = false

  /// Ports at which single frames come and go: with `mixed` two, in the mode `cold` one of the idle ones, which gets
  /// the others' frames.
  var watchedPorts: Int { mixed ? 2 : mode == .cold ? 1 : 0 }
  /// Ports of any kind: busy ones, then watched ones, then idle ones.
  var allPorts: Int { ports + idlePorts + (mixed ? 2 : 0) }

  /// How the guests of watched ports are made: for plain small frames.
  var watched: Plan {
    var plan = self
    plan.sizes = [.one(64)]
    plan.segmented = false
    plan.queues = 1
    plan.bufferSize = 2048
    return plan
  }
}
