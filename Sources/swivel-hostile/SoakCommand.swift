internal import ArgumentParser
internal import Hostile

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
    let seed = seed ?? UInt64.random(in: 0...UInt64(UInt32.max))
    try LongRun.run("soak", seed: seed) { folder, say in
      var options = Soak.Options(
        program: try swiveld ?? CatalogueCommand.beside("swiveld"), folder: folder, seed: seed)
      options.minutes = minutes
      options.pairs = pairs
      options.workers = workers.split(separator: ",").compactMap { Int($0) }
      options.scripts = guests
      options.patience = patience
      options.isVerbose = verbose
      say("soak of \(minutes) minutes, seed \(seed), workers on CPUs \(options.workers)")
      let soak = Soak(options, say: say)
      return (soak.interrupt, soak.run)
    }
  }
}
