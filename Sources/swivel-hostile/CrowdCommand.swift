internal import ArgumentParser
internal import Hostile

/// `swivel-hostile crowd`.
struct CrowdCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "crowd",
    abstract: "Let front-ends come and go at a thousand ports beside two guests, and measure both.",
    discussion: """
      Starts a swiveld of its own. Two guests exchange checked frames at a steady rate. Beside them a few threads have \
      front-ends come to a thousand ports, negotiate in every way, share memory, start rings, change what they have \
      given, and go, politely or not, as fast as they can. The two may lose nothing, and in the end nothing may be left.

      It tells how long the two waited for each other's frames, and what processor time the daemon spent on a coming, so \
      that two builds of it can be compared: with the same seed, while the machine has nothing else to do.
      """)

  @Option(help: "The swiveld to start; the default is the one beside this program.")
  var swiveld: String?

  @Option(help: "How long, in seconds.")
  var seconds = 60.0

  @Option(help: "Ports beside those of the two guests; at most 1022.")
  var ports = 1000

  @Option(help: "Threads that have front-ends come and go.")
  var threads = 4

  @Option(help: "Frames a second that each of the two guests sends.")
  var rate = 5000

  @Option(
    help: ArgumentHelp(
      "CPUs with a worker, by number; the default is the first there is.", valueName: "a,b"))
  var workers = ""

  @Option(help: "Repeats the decisions of another crowd; the default is another seed each time.")
  var seed: UInt64?

  @Option(help: "Seconds without a sign of life after which something counts as hung.")
  var patience = 60

  @Flag(help: "Tell each decision as it is made.")
  var verbose = false

  func validate() throws {
    guard (1...1022).contains(ports), threads > 0, (1...1_000_000).contains(rate) else {
      throw ValidationError("1 to 1022 ports, a thread or more, and 1 to 1000000 frames a second")
    }
  }

  func run() throws {
    let seed = seed ?? UInt64.random(in: 0...UInt64(UInt32.max))
    try LongRun.run("crowd", seed: seed) { folder, say in
      var options = Crowd.Options(
        program: try swiveld ?? CatalogueCommand.beside("swiveld"), folder: folder, seed: seed)
      options.seconds = seconds
      options.ports = ports
      options.threads = threads
      options.rate = rate
      options.workers = workers.split(separator: ",").compactMap { Int($0) }
      options.patience = patience
      options.isVerbose = verbose
      say("crowd at \(ports) ports for \(seconds) s, seed \(seed)")
      let crowd = Crowd(options, say: say)
      return (crowd.interrupt, crowd.run)
    }
  }
}
