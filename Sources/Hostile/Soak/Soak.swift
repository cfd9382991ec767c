internal import ControlAPI
internal import Foundation
internal import Glibc
internal import Linux
internal import Synchronization
internal import VirtioDriver

/// Ports and guests come and go at random while a hostile guest does its worst, and a switch must lose nothing, leak
/// nothing and account for everything.
///
/// Each of those who act has a thread and decisions of its own, which the seed repeats; how the threads take turns it
/// does not. From time to time all rest, and the books are held against each other (`Ledger`).
public final class Soak: Sendable {
  public struct Options: Sendable {
    /// The swiveld to start.
    public var program: String
    /// A directory for everything, which exists; short, as sockets' paths are.
    public var folder: String
    public var minutes = 30.0
    public var seed: UInt64
    /// Pairs of guests that come and go.
    public var pairs = 4
    /// CPUs with a worker.
    public var workers: [Int] = [0]
    /// The directory of scripts/guest: real guests come and go too; `nil`: none do.
    public var scripts: String?
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

  private let options: Options
  private let stage: Stage
  private let say: @Sendable (String) -> Void
  private let mistakes = Clerk.Mistakes()

  /// - Parameter say: called with each line for a person.
  public init(_ options: Options, say: @escaping @Sendable (String) -> Void) {
    self.options = options
    self.say = say
    stage = Stage(
      seed: options.seed, patience: 1000 * options.patience, tell: options.isVerbose ? say : nil)
  }

  /// Runs it. Returns what went wrong, a clause each, the last words of the daemon among them; empty: nothing did.
  public func run() throws -> [String] {
    let namespace = try geteuid() == 0 ? Namespace("swivel-soak-\(getpid())") : nil
    if namespace == nil { say("no uplink: a TAP in a namespace of its own needs root") }
    let (subject, bed) = try Bed.start(
      program: options.program, folder: options.folder, namespace: namespace,
      workers: options.workers, patience: stage.patience,
      standing: Bed.steady + [.init(name: "attacked", queues: 2), .init(name: "witness")])
    defer { subject.stop() }
    try namespace?.raise()
    let bystanders = try Bystanders(
      Array(subject.plan.sockets.prefix(2)), ringSize: 1024)
    let witness = try ProvingGround.witness(of: subject)
    let ledger = Ledger(
      bed, bystanders: bystanders, witness: witness, mistakes: mistakes, stage: stage,
      hasOneWorker: options.workers.count == 1)
    guard bystanders.advance(by: 1, milliseconds: stage.patience) else {
      throw SubjectError(description: "swivel carries no frames")
    }
    try enter(bed, witness)
    watch(subject, bystanders, ledger)
    stage.end()
    bystanders.stop()
    witness.disconnect()
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

  /// Ends it before its time, as a failure that says `why`; from any thread.
  public func interrupt(_ why: String) { stage.fail(why) }

  private func enter(_ bed: Bed, _ witness: GuestPort) throws {
    for number in 0..<options.pairs {
      try stage.enter("pair\(number)") { player, dice in
        try Encounter(player, bed: bed, number: number).run(&dice)
      }
    }
    try stage.enter("attacker") { player, dice in
      try Attacker(player, bed: bed, witness: witness).run(&dice)
    }
    try stage.enter("clerk") { [mistakes] player, dice in
      try Clerk(player, bed: bed, mistakes: mistakes).run(&dice)
    }
    if let namespace = bed.namespace {
      try stage.enter("uplink") { [options] player, dice in
        try Uplink.run(player, in: namespace, guests: 2 * options.pairs, &dice)
      }
    }
    if let scripts = options.scripts {
      try stage.enter("machines", isSlow: true) { player, dice in
        try Machines(player, bed: bed, scripts: scripts).run(&dice)
      }
    }
  }

  /// Looks after everything until the time is over or something is wrong.
  private func watch(_ subject: Subject, _ bystanders: Bystanders, _ ledger: Ledger) {
    let whole = Int(60_000 * options.minutes)
    let end = Deadline(milliseconds: whole)
    // What is only made at the first use is no leak: the first time all have been there before.
    var next = Deadline(milliseconds: min(20_000, whole / 3))
    while !end.isOver, !stage.isOver {
      for _ in 0..<100 { Deadline.pause() }
      if !subject.isAlive { return stage.fail("swiveld ended") }
      if bystanders.reading.longestPause > Double(options.patience) {
        return stage.fail("the steady guests wait for \(options.patience) s")
      }
      if next.isOver {
        audit(bystanders, ledger, isLast: false)
        next = Deadline(milliseconds: min(60_000, whole / 3))
      }
    }
    if !stage.isOver { audit(bystanders, ledger, isLast: true) }
  }

  /// Lets all rest, the steady guests too, and accounts for everything.
  private func audit(_ bystanders: Bystanders, _ ledger: Ledger, isLast: Bool) {
    let pause = bystanders.reading.longestPause
    guard stage.pause(isLast: isLast) else { return }
    bystanders.rest(true)
    do {
      try ledger.audit()
      let longest = max(pause, bystanders.reading.longestPause)
      say("\(ledger.line); longest pause of the steady guests \(Int(1000 * longest)) ms")
    } catch {
      stage.fail("\(error)")
    }
    bystanders.rest(false)
    if !stage.isOver, !bystanders.advance(by: 1, milliseconds: stage.patience) {
      stage.fail("the steady guests don't go on")
    }
    bystanders.forgetPauses()
    stage.resume()
  }
}
