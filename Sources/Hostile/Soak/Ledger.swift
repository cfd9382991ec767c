internal import ControlAPI
internal import Linux
internal import Synchronization
internal import VirtioDriver

/// Holds everything that a daemon says and has against what was done to it, while nothing moves.
final class Ledger {
  private let bed: Bed
  private let bystanders: Bystanders
  private let witness: GuestPort
  private let mistakes: Clerk.Mistakes
  private let stage: Stage
  private let hasOneWorker: Bool
  private let begin = ContinuousClock.now
  private let holdings: Holdings
  private(set) var stats: Stats?

  init(
    _ bed: Bed, bystanders: Bystanders, witness: GuestPort, mistakes: Clerk.Mistakes,
    stage: Stage, hasOneWorker: Bool
  ) {
    self.bed = bed
    holdings = Holdings(of: bed)
    self.hasOneWorker = hasOneWorker
    self.bystanders = bystanders
    self.witness = witness
    self.mistakes = mistakes
    self.stage = stage
  }

  // ---- All at once ----

  /// Accounts for everything; all who act rest. Throws what is not as it should be.
  func audit() throws {
    stats = try bed.balance()
    try count("steady0") { bystanders.statistics[0] }
    try count("steady1") { bystanders.statistics[1] }
    try count("witness") {
      while witness.receive() != nil {}
      return witness.statistics
    }
    try countUplink()
    try inspectPorts()
    try holdings.inspect(isDisturbed: stage.isDisturbed)
    try inspectLog()
    try inspectBystanders()
  }

  private func count(_ name: String, _ guest: () -> QueuePair.Statistics) throws {
    var text = ""
    // Somebody slow may broadcast meanwhile.
    try bed.wait(for: "the counts of \(name) to be its guest's: \(text)") {
      let port = try bed.port(name)
      let own = guest()
      text = "\(port.received.frames) taken, \(port.sent.frames) given; \(own)"
      return Int(port.received.frames) == own.sentFrames
        && Int(port.sent.frames) == own.receivedFrames
    }
  }

  private func countUplink() throws {
    guard let namespace = bed.namespace else { return }
    var text = ""
    // A front-end may have addresses announced, and the switch's own frames count on no port: no more than one of an
    // attack, with luck. The kernel may have something to say at any time.
    let announced = UInt64(stage.attacks.load(ordering: .relaxed))
    try bed.wait(for: "the uplink's counts to be the kernel's: \(text)") {
      let kernel = try namespace.frames()
      let port = try bed.port(Bed.uplink)
      text = "\(kernel), \(port.received.frames) taken and \(port.sent.frames) given"
      return kernel.given == port.received.frames
        && (port.sent.frames...port.sent.frames + announced).contains(kernel.taken)
    }
  }

  private func inspectPorts() throws {
    let ports = try bed.ports()
    let names = Set(ports.map(\.name))
    if !stage.isDisturbed, names != Set(bed.names) {
      throw SoakError("the ports are \(names.sorted())")
    }
    // The hostile one's front-end has gone, and its faults with it.
    for port in ports where port.state == .broken {
      throw SoakError("\(port.name) is broken: \(port.explanation)")
    }
  }

  // ---- The log ----

  /// Errors are those that were made, warnings those of the hostile port, and there is no more than is allowed of
  /// anything.
  func inspectLog() throws {
    let lines = bed.log
    var failures = 0
    for line in lines {
      switch line.split(separator: " ", maxSplits: 2).dropFirst().first {
      case "error", "critical":
        if line.contains(Clerk.failure) { failures += 1 } else { throw SoakError("log: \(line)") }
      case "warning":
        let isExpected =
          line.contains("'attacked'") || Bed.isOrdinary(warning: line)
        if !isExpected { throw SoakError("log: \(line)") }
      default: break
      }
    }
    let mistakes = mistakes.count.load(ordering: .relaxed)
    if failures != mistakes {
      throw SoakError("\(mistakes) mistakes, but \(failures) errors in the log")
    }
    // A port writes at most a line a second, whatever its front-end does; what an operator changes has a few lines.
    let changes = stage.ports.load(ordering: .relaxed) + stage.reloads.load(ordering: .relaxed)
    let requests = stage.requests.load(ordering: .relaxed)
    let seconds = Int((ContinuousClock.now - begin) / .seconds(1)) + 10
    let bound = 100 + 30 * seconds + 20 * changes + requests
    if lines.count > bound {
      throw SoakError("the log has \(lines.count) lines, more than \(bound)")
    }
  }

  private func inspectBystanders() throws {
    let reading = bystanders.reading
    var busy: UInt64 = 0
    var drops: [String] = []
    for name in Bed.steady.map(\.name) {
      let port = try bed.port(name)
      busy += port.received.drops["queue_busy"] ?? 0
      drops.append("\(name) has dropped \(port.received.drops) and \(port.sent.drops)")
    }
    // One worker that is taken off its CPU in the middle of a delivery may keep another from the same receiveq for too
    // long; that is the machine's doing, and named.
    let excused = hasOneWorker ? 0 : Int(busy)
    if reading.missing > excused || reading.reordered + reading.corrupt > 0 {
      throw SoakError(
        "the steady guests miss \(reading.missing) frames, \(reading.reordered) came out of order, "
          + "\(reading.corrupt) were not whole; \(drops.joined(separator: ", "))")
    }
    if let offence = (bystanders.offences + witness.offences).first { throw SoakError(offence) }
  }

  // ---- For a person ----

  var line: String {
    guard let stats, let usage = holdings.usage else { return "" }
    func load(_ counter: borrowing Atomic<Int>) -> Int { counter.load(ordering: .relaxed) }
    let drops = stats.received.drops.merging(stats.sent.drops, uniquingKeysWith: +)
      .sorted { $0.value > $1.value }.map { "\($0.key) \($0.value)" }
    let seconds = Int((ContinuousClock.now - begin) / .seconds(1))
    let time = "\(seconds / 60):\(seconds % 60 < 10 ? "0" : "")\(seconds % 60)"
    let machines = load(stage.machines)
    return "\(time) \(load(stage.ports)) ports made, \(load(stage.guests)) guests"
      + (machines == 0 ? "" : " and \(machines) machines")
      + ", \(stats.received.frames) frames, \(stats.received.replicas) copies"
      + " (steady \(bystanders.reading.arrived), missing \(bystanders.reading.missing)), \(load(stage.attacks)) attacks, "
      + "\(load(stage.requests)) requests, \(load(stage.reloads)) reloads; dropped: "
      + "\(drops.isEmpty ? "nothing" : drops.joined(separator: ", ")); \(usage.memory >> 10) KiB, "
      + "\(usage.descriptors) descriptors, \(usage.threads) threads, \(usage.mappings) mappings"
  }
}
