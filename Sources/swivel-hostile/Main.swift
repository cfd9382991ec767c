internal import ArgumentParser
internal import ControlAPI
internal import Foundation
internal import Glibc
internal import Hostile
internal import Linux

/// `swivel-hostile catalogue`, which is what it does when nobody says otherwise.
struct CatalogueCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "catalogue",
    abstract:
      "Try what guests and front-ends have done to virtual switches.",
    discussion: """
      Each case of the catalogue is tried on one port while two other guests exchange checked frames. A switch passes \
      when it lives, the others lose nothing and never wait, nothing is leaked, a new front-end on the same socket \
      works, and, of swivel alone, a counter or the port's state names what happened.

      A switch that dies or hangs is started anew, and the next case is tried.
      """)

  @Option(help: "The swiveld to attack; the default is the one beside this program.")
  var swiveld: String?

  @Flag(help: "Don't attack a swiveld, only the other switch.")
  var noSwivel = false

  @Option(
    help: ArgumentHelp(
      "The command, for sh, that starts another vhost-user switch to attack, which stays in the foreground.",
      valueName: "command"))
  var other: String?

  @Option(help: "What to call the other switch.")
  var otherName = "other"

  @Option(
    help: ArgumentHelp(
      "The other switch's sockets: of two bystanders, the attacker, and one its frames go to.",
      valueName: "a,b,c,d"))
  var sockets: String?

  @Option(help: "Only cases whose name contains this.")
  var filter = ""

  @Option(help: "Seconds without a sign of life after which a switch counts as hung.")
  var patience = 5

  @Flag(help: "Print the table as Markdown.")
  var markdown = false

  @Flag(help: "Print the names of all cases.")
  var list = false

  func run() throws {
    StandardStreams.fill()
    let cases = Catalogue.cases.filter { filter.isEmpty || $0.name.contains(filter) }
    if list {
      for entry in cases { print("\(entry.name): \(entry.summary)") }
      return
    }
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("swivel-hostile-\(getpid())").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    // Before there are other threads: they inherit the signal mask.
    let signals = try SignalQueue([SIGINT, SIGTERM, SIGHUP])
    _ = try Linux.Thread(name: "signals") {
      guard let signal = try? signals.next() else { return }
      Subject.killAll()
      try? FileManager.default.removeItem(atPath: folder)
      _exit(128 + signal)
    }
    var columns: [Column] = []
    if !noSwivel {
      let program = try swiveld ?? CatalogueCommand.beside("swiveld")
      columns.append(
        try attack(
          Subject.swivel(program: program, folder: folder, patience: 1000 * patience), cases))
    }
    if let other {
      let paths = (sockets ?? "").split(separator: ",").map(String.init)
      guard paths.count == 4 else { throw ValidationError("--other needs four --sockets") }
      let plan = Subject.Plan(
        name: otherName, program: "sh", arguments: ["-c", "exec \(other)"], sockets: paths,
        log: "\(folder)/other.log", patience: 1000 * patience)
      columns.append(try attack(Subject(plan), cases))
    }
    print(Report(cases: cases, columns: columns).text(markdown: markdown))
    // What others do is for the table; what swivel does is for the exit status.
    if !noSwivel, let swivel = columns.first, !swivel.passed { throw ExitCode(1) }
  }

  private func attack(_ subject: Subject, _ cases: [Case]) throws -> Column {
    defer { subject.stop() }
    let ground = try ProvingGround(subject)
    var column = Column(name: subject.plan.name)
    for entry in cases {
      let verdict = try ground.run(entry)
      column.verdicts.append(verdict)
      let pause = String(format: "%.1f ms", 1000 * verdict.bystanders.longestPause)
      note("\(subject.plan.name): \(entry.name): \(verdict.text) (\(pause))")
    }
    column.remarks = ground.finish()
    for remark in column.remarks { note("\(subject.plan.name): all cases together: \(remark)") }
    return column
  }

  private func note(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
  }

  static func beside(_ name: String) throws -> String {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    return URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent(name).path
  }
}

/// The command line.
@main struct SwivelHostile: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "swivel-hostile",
    abstract: "Play the hostile guest.",
    version: swivelVersion,
    subcommands: [CatalogueCommand.self, SoakCommand.self, CrowdCommand.self],
    defaultSubcommand: CatalogueCommand.self)
}
