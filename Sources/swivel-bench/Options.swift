import ArgumentParser
import Linux

/// What can be asked for.
struct Options: ParsableArguments {
  @Argument(
    help: """
      What to measure: throughput, zero-loss (the highest rate without loss, RFC 2544), latency (at a given \
      rate), ping (one frame at a time, there and back), cold (the first frame of a silent guest, one way, \
      beside busy ones), burst (the longest without loss), generator (this program alone, \
      without a switch), memcpy (what a core copies of a pair's frames, without a switch).
      """)
  var mode = Mode.throughput

  @Option(
    help: ArgumentHelp("A vhost-user socket to attach to; once for each port.", valueName: "path"))
  var socket: [String] = []

  @Option(
    help: ArgumentHelp("Ports of the swiveld it starts.", valueName: "n"))
  var ports: Int?

  @Option(
    help: ArgumentHelp(
      "Further ports, up to 1000, whose guests are there and silent; with --socket they are the last ones.",
      valueName: "n"))
  var idlePorts = 0

  @Flag(
    help: """
      Beside the busy ports a pair of further ones with one frame of 64 bytes at a time: its times one way, and \
      what it costs the others, which send segmented frames of 65226 bytes if nothing is said. With --socket they \
      are the two after the busy ones.
      """)
  var mixed = false

  @Flag(
    help: """
      In the same run, before and after each size: what one core's memcpy reaches with the same frames, from the \
      senders' buffers to the receivers'.
      """)
  var memcpy = false

  @Option(
    help: ArgumentHelp(
      "In the mode cold, from one silent guest's frame to the next one's.", valueName: "ms"))
  var every: Double?

  @Option(
    help: ArgumentHelp(
      "Bytes of a frame, or several sizes: 64,512,1518; imix; rfc2544; 64k. By default a short series.",
      valueName: "sizes"))
  var size: String?

  @Option(
    help: """
      Who sends to whom: pairs, many-to-one (all others to the first port; also fan-in), or flood (the first port \
      to all others).
      """)
  var pattern = Pattern.pairs

  @Option(
    help: ArgumentHelp(
      "Frames a second that each sending port offers (800k, 5M); without it as fast as they go.",
      valueName: "rate"))
  var rate: Rate?

  @Option(help: ArgumentHelp("How long to measure, each time.", valueName: "s"))
  var seconds: Double?

  @Option(help: ArgumentHelp("How long to send before measuring begins.", valueName: "s"))
  var warmup = 0.5

  @Option(help: ArgumentHelp("Addresses on each port.", valueName: "n"))
  var macs = 1

  @Option(help: "The rings' layout: split or packed.")
  var ring = Ring.split

  @Flag(help: "Buffers used in order (VIRTIO_F_IN_ORDER).")
  var inOrder = false

  @Flag(inversion: .prefixedNo, help: "Mergeable receive buffers.")
  var mergeable = true

  @Flag(help: "Frames sent through indirect tables, the virtio-net header in an entry of its own.")
  var indirect = false

  @Flag(
    help: """
      Frames as a guest's TCP sends them: over IPv4, with checksum and segmentation (1448 bytes) left to the \
      receiver. For sizes like 65226, 45 segments.
      """)
  var segmented = false

  @Option(help: ArgumentHelp("Queue pairs of each port.", valueName: "n"))
  var queues = 1

  @Option(help: ArgumentHelp("Descriptors of each queue, a power of two.", valueName: "n"))
  var ringSize = 256

  @Option(
    help: ArgumentHelp(
      "Bytes of a frame that one mergeable receive buffer holds: by default 2048, or 4096 for longer frames.",
      valueName: "bytes"))
  var bufferSize: Int?

  @Flag(help: "Make and check every byte of every frame, and their order; much slower.")
  var verify = false

  @Option(
    help: ArgumentHelp(
      "Percentage of frames that zero-loss and burst forgive; 0 is RFC 2544's.", valueName: "%"))
  var loss = 0.0

  @Option(
    help: ArgumentHelp(
      "The CPU this program runs on; by default the last but the worker's.", valueName: "cpu"))
  var cpu: Int?

  @Option(
    help: ArgumentHelp("Workers of the swiveld it starts, each on a CPU.", valueName: "n"))
  var workers: Int?

  @Option(
    help: ArgumentHelp(
      "The CPUs of the workers of the swiveld it starts (1, or 1,2); by default the last ones.",
      valueName: "cpus"))
  var workerCpu: CPUList?

  @Option(
    help: ArgumentHelp(
      "The control socket of the swivel whose sockets are given: what it drops is told by name.",
      valueName: "path"))
  var control: String?

  @Option(
    help:
      "Whether the workers of the swiveld it starts sleep when there is nothing to do: adaptive, or busy."
  )
  var poll = Poll.busy

  @Flag(help: "Print the results as JSON.")
  var json = false

  @Option(help: ArgumentHelp("Draw the results into this file.", valueName: "file"))
  var svg: String?

  func validate() throws {
    func check(_ condition: Bool, _ message: String) throws {
      if !condition { throw ValidationError(message) }
    }
    try check(
      workers == nil || socket.isEmpty, "--workers is for a swiveld of its own, without --socket")
    try check(
      control == nil || !socket.isEmpty, "--control is for the sockets of a swivel that runs")
    try check(
      workers == nil || workerCpu == nil || workers == workerCpu?.cpus.count,
      "--worker-cpu must name as many CPUs as there are --workers")
    let usable = Affinity.current.count
    try check(
      workerCpu != nil || (1...max(1, usable)).contains(workers ?? 1),
      "--workers is 1 to the number of CPUs, here \(usable)")
    try check((0...1000).contains(idlePorts), "--idle-ports is 0 to 1000")
    try check(!mode.isAlone || idlePorts == 0, "without a switch there are no idle ports")
    try check(
      !memcpy || mode == .throughput && !mixed && pattern == .pairs,
      "--memcpy is for the throughput of pairs")
    try check(
      mode != .memcpy && !memcpy || sizes.allSatisfy { $0.lengths.count == 1 },
      "memcpy is measured for frames of one size")
    try check(
      idlePorts == 0 || pattern != .flood, "a flood reaches every port: none is idle")
    try check(
      mode != .cold || idlePorts >= 2,
      "cold needs --idle-ports: one that gets the frames, and at least one that sends them")
    try check(every == nil || mode == .cold, "--every is for the mode cold")
    try check((0.01...60_000).contains(every ?? 1), "--every is 0.01 to 60000")
    try check(
      !mixed || mode == .throughput && rate == nil && !verify && pattern != .flood,
      "--mixed is for throughput as fast as it goes, unchecked, and without floods")
    try check(
      socket.isEmpty || socket.count >= 2 + idlePorts + (mixed ? 2 : 0),
      "--socket is needed for each port: twice at least, and once for each idle or mixed one")
    try check(
      socket.isEmpty || ports == nil, "--ports is for a swiveld of its own, without --socket")
    try check((2...64).contains(ports ?? 2), "--ports is 2 to 64")
    try check(socket.count <= 64 + idlePorts, "at most 64 sockets beside those of idle ports")
    if let size {
      do {
        _ = try Sizes.parse(size)
      } catch {
        throw ValidationError("\(error)")
      }
    }
    try check((0.001...3600).contains(seconds ?? 1), "--seconds is 0.001 to 3600")
    try check((0...60).contains(warmup), "--warmup is 0 to 60")
    try check((1...4096).contains(macs), "--macs is 1 to 4096")
    try check((1...16).contains(queues), "--queues is 1 to 16")
    try check(
      (32...32768).contains(ringSize) && ringSize & (ringSize - 1) == 0,
      "--ring-size is a power of two, 32 to 32768")
    try check((64...65536).contains(bufferSize ?? 64), "--buffer-size is 64 to 65536")
    try check((0..<100).contains(loss), "--loss is a percentage below 100")
    try check(mode != .latency || rate != nil, "latency needs a load: --rate")
    try check(
      rate == nil || mode == .latency || mode == .throughput,
      "--rate is for throughput and latency")
    let longest = try sizes.reduce(0) { max($0, $1.longest) }
    try check(
      ring == .split && !inOrder || longest <= 4096 || indirect,
      "frames of more than 4096 bytes are several descriptors: with packed rings or --in-order also --indirect"
    )
    let shortest = try Sizes.parse(size ?? "64").flatMap(\.lengths).min() ?? 64
    try check(!segmented || shortest >= 64, "--segmented frames have 64 bytes at least")
    try check(
      !verify || mode == .throughput, "--verify is for throughput: checking takes time")
    let count = socket.isEmpty ? ports ?? 2 : socket.count - idlePorts - (mixed ? 2 : 0)
    try check(
      mode.isAlone || pattern != .pairs || count % 2 == 0,
      "pairs need an even number of busy ports")
  }

  func plan() throws -> Plan {
    let cpus = Affinity.current
    let workers = workerCpu?.cpus ?? cpus.suffix(self.workers ?? 1)
    let sizes = try self.sizes
    let longest = sizes.reduce(0) { max($0, $1.longest) }
    let given = socket.count - idlePorts - (mixed ? 2 : 0)
    return Plan(
      mode: mode, sizes: sizes, pattern: pattern, rate: rate?.framesPerSecond,
      seconds: seconds ?? usualSeconds, warmup: warmup, macs: macs, ring: ring,
      inOrder: inOrder, mergeable: mergeable, indirect: indirect,
      segmented: segmented || mixed && size == nil, queues: queues,
      ringSize: ringSize, bufferSize: bufferSize ?? (longest > 2048 ? 4096 : 2048), verify: verify,
      loss: loss / 100,
      // Where the workers have all CPUs it shares one with them.
      cpu: cpu ?? cpus.last { !workers.contains($0) } ?? cpus.first, workerCPUs: workers,
      poll: poll,
      ports: socket.isEmpty ? ports ?? (pattern == .pairs ? 2 : 4) : given,
      idlePorts: idlePorts, interval: (every ?? 5) / 1000, mixed: mixed, memcpy: memcpy)
  }

  private var sizes: [Sizes] {
    get throws {
      if let size { return try Sizes.parse(size) }
      if mixed { return [.one(65226)] }
      return mode == .throughput ? Sizes.usual : [.one(64)]
    }
  }

  private var usualSeconds: Double {
    switch mode {
    case .zeroLoss: 1
    // Enough frames for a percentile to mean something.
    case .cold: 5
    default: mixed ? 4 : 2
    }
  }
}
