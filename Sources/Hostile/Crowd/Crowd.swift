internal import ControlAPI
internal import Foundation
internal import Linux
internal import VirtioDriver

/// A thousand ports whose front-ends come and go as fast as a few threads can make them, beside two guests that exchange
/// frames at a steady rate and must lose none, nor wait for long: what control does for one port is not to be felt at
/// another.
///
/// It measures what two builds of the daemon can be compared by: the pair's gaps, and the time that the ports' threads
/// run for each guest that comes.
public final class Crowd: Sendable {
  public struct Options: Sendable {
    /// The swiveld to start.
    public var program: String
    /// A directory for everything, which exists; short, as sockets' paths are.
    public var folder: String
    public var seed: UInt64
    public var seconds = 60.0
    /// Ports beside the pair's.
    public var ports = 1000
    /// Threads that play the guests.
    public var threads = 4
    /// Frames a second that each of the pair sends.
    public var rate = 5000
    /// CPUs with a worker; empty: the first there is.
    public var workers: [Int] = []
    /// Seconds without a sign of life after which something counts as hung.
    public var patience = 60
    /// Whether to tell each decision.
    public var isVerbose = false

    public init(program: String, folder: String, seed: UInt64) {
      self.program = program
      self.folder = folder
      self.seed = seed
    }
  }

  let options: Options
  let stage: Stage
  let tally = Tally()
  let say: @Sendable (String) -> Void

  /// - Parameter say: called with each line for a person.
  public init(_ options: Options, say: @escaping @Sendable (String) -> Void) {
    self.options = options
    self.say = say
    stage = Stage(
      seed: options.seed, patience: 1000 * options.patience, tell: options.isVerbose ? say : nil)
  }

  /// Ends it before its time, as a failure that says `why`; from any thread.
  public func interrupt(_ why: String) { stage.fail(why) }

  /// Runs it. Returns what went wrong, a clause each, the last words of the daemon among them; empty: nothing did.
  public func run() throws -> [String] {
    // A guest holds a dozen descriptors and more.
    OpenFiles.raiseLimit()
    let cpus = Affinity.current
    let workers = options.workers.isEmpty ? Array(cpus.prefix(1)) : options.workers
    let crowd = (0..<options.ports).map { number in
      Bed.Standing(name: "crowd\(number)", queues: Crowd.queues(of: number))
    }
    let (subject, bed) = try Bed.start(
      program: options.program, folder: options.folder, namespace: nil, workers: workers,
      patience: stage.patience, standing: Bed.steady + crowd)
    defer { subject.stop() }
    // Only now: the daemon would inherit it.
    try separate(from: workers, cpus)
    let pair = try Pair(
      Bed.steady.map { bed.path(of: $0.name) }, rate: options.rate, timeout: stage.patience)
    guard pair.advance(by: 1, milliseconds: stage.patience) else {
      throw SubjectError(description: "swivel carries no frames")
    }
    if !pair.hasPriority {
      say("the pair's thread can't be preferred: gaps are the scheduler's, too")
    }
    try enter(bed, crowd)
    do { try watch(subject, bed, pair) } catch { stage.fail("\(error)") }
    stage.end()
    pair.stop()
    if let offence = pair.offences.first { stage.fail(offence) }
    if stage.problems.isEmpty {
      do { try bed.leave(subject) } catch { stage.fail("\(error)") }
    }
    if !subject.isAlive, subject.end != "exit status 0" {
      stage.fail("swiveld ended: \(subject.end)")
    }
    if stage.problems.isEmpty { return [] }
    return stage.problems + ["Last done:"] + stage.diaries + ["The log's end:"]
      + bed.log.suffix(20).map(String.init)
  }

  /// Queue pairs of a port: most have one, some several, and one of sixteen has sixteen.
  private static func queues(of number: Int) -> Int {
    switch number % 16 {
    case 15: 16
    case 7: 4
    case 3: 2
    default: 1
    }
  }

  /// Keeps the pair and the crowd from the workers' CPUs, if there are others.
  private func separate(from workers: [Int], _ cpus: [Int]) throws {
    let others = cpus.filter { !workers.contains($0) }
    if others.isEmpty {
      return say("no CPU but the workers' \(workers): gaps are the scheduler's, not the switch's")
    }
    say("workers on CPUs \(workers), the pair and the crowd on \(others)")
    try Affinity.confine(to: others)
  }

  private func enter(_ bed: Bed, _ ports: [Bed.Standing]) throws {
    for thread in 0..<options.threads {
      let shares = ports.enumerated().filter { $0.offset % options.threads == thread }
      try stage.enter("gate\(thread)") { [stage, tally] player, dice in
        let berths = shares.map { number, port in
          Berth(port, number: 1000 + number, bed: bed, stage: stage, tally: tally)
        }
        try Gate(player, berths: berths).run(&dice)
      }
    }
  }

  /// Lets everybody come once, looks, lets them come and go until the time is over, and looks again.
  private func watch(_ subject: Subject, _ bed: Bed, _ pair: Pair) throws {
    let audit = CrowdAudit(bed, pair: pair, tally: tally)
    // Resting, all have gone.
    guard stage.pause(isLast: true) else { return }
    try audit.begin()
    let measured = try CrowdResult.Beginning(bed, pair, tally)
    stage.resume()
    let end = Deadline(milliseconds: Int(1000 * options.seconds))
    while !end.isOver, !stage.isOver {
      for _ in 0..<100 { Deadline.pause() }
      if !subject.isAlive { return stage.fail("swiveld ended") }
    }
    guard !stage.isOver, stage.pause(isLast: true) else { return }
    pair.rest(milliseconds: min(5000, stage.patience))
    let result = try CrowdResult(since: measured, bed, pair, tally)
    for line in result.lines { say(line) }
    // What was measured is worth reading, whatever comes now.
    try audit.end()
  }
}
