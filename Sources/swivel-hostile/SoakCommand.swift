internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import Hostile
internal import Linux
internal import Synchronization

/// The signal that asked for the end. A handler's: signals that are blocked would be so in what is started, too.
private let interruption = Atomic<Int>(0)

/// `swivel-hostile soak`.
struct SoakCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soak",
    abstract:
      "Let ports and guests come and go at random beside a hostile one, and account for everything.",
    discussion: """
      Starts a swiveld of its own. Guests of every kind come, exchange checked frames, change, and go, in good order or \
      not; ports are made and removed; the configuration is reloaded; one port is under attack all the time; two guests \
      are left in peace and may lose nothing. Every minute, and at the end, all rest and the books are held against \
      each other. As root it has an uplink too, a TAP in a namespace of its own.

      The seed repeats what each of those who act decides. It does not repeat how their threads take turns.
      """)

  @Option(help: "The swiveld to start; the default is the one beside this program.")
  var swiveld: String?

  @Option(help: "How long, in minutes; fractions will do.")
  var minutes = 30.0

  @Option(help: "Repeats the decisions of another soak; the default is another seed each time.")
  var seed: UInt64?

  @Option(help: "Pairs of guests that come and go.")
  var pairs = 4

  @Option(
    help: ArgumentHelp(
      "CPUs with a worker, by number. Where they have other things to do, one is best: of several, one that waits may keep the others from a queue, and a frame of the steady guests that is dropped as queue_busy is excused.",
      valueName: "a,b"))
  var workers = "0"

  @Option(
    help: ArgumentHelp(
      "Real guests come and go too, started by the scripts in this directory.",
      valueName: "directory"))
  var guests: String?

  @Option(help: "Seconds without a sign of life after which something counts as hung.")
  var patience = 60

  @Flag(help: "Tell each decision as it is made.")
  var verbose = false

  func run() throws {
    StandardStreams.fill()
    for number in [SIGINT, SIGTERM, SIGHUP] {
      // It stores a word and does nothing else, as befits a handler.
      signal(number) { interruption.store(Int($0), ordering: .relaxed) }
    }
    let seed = seed ?? UInt64.random(in: 0...UInt64(UInt32.max))
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("swivel-soak-\(getpid())").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var options = Soak.Options(
      program: try swiveld ?? CatalogueCommand.beside("swiveld"), folder: folder, seed: seed)
    options.minutes = minutes
    options.pairs = pairs
    options.workers = workers.split(separator: ",").compactMap { Int($0) }
    options.scripts = guests
    options.patience = patience
    options.isVerbose = verbose
    SoakCommand.say("soak of \(minutes) minutes, seed \(seed), workers on CPUs \(options.workers)")
    let soak = Soak(options, say: SoakCommand.say)
    // Interrupted, it takes away what it has made all the same.
    _ = try Linux.Thread(name: "signals") {
      while interruption.load(ordering: .relaxed) == 0 {
        _ = try? Poller.wait([], milliseconds: 100)
      }
      soak.interrupt("signal \(interruption.load(ordering: .relaxed))")
    }
    let problems = try soak.run()
    if problems.isEmpty { return SoakCommand.say("soak passed: everything is accounted for") }
    for problem in problems { SoakCommand.say(problem) }
    SoakCommand.say("soak failed: \(problems[0]) (seed \(seed))")
    throw ExitCode(1)
  }

  /// At once, whatever standard output is.
  @Sendable private static func say(_ line: String) {
    FileHandle.standardOutput.write(Data((line + "\n").utf8))
  }
}
