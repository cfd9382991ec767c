internal import ArgumentParser
internal import ControlAPI
internal import Foundation

/// How often a command that goes on asks again.
struct IntervalOption: ParsableArguments {
  @Option(help: ArgumentHelp("Seconds between two looks, 0.1 to 3600.", valueName: "s"))
  var interval = 1.0

  func validate() throws {
    // Not a range's `contains` alone: it says no to a NaN, as it should.
    guard (0.1...3600).contains(interval) else {
      throw ValidationError("--interval must be 0.1 to 3600 seconds")
    }
  }

  func pass() { Foundation.Thread.sleep(forTimeInterval: interval) }
}

struct StatsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stats", abstract: "Show the whole switch's counters.")

  @Flag(help: "Show them again and again, until interrupted.")
  var watch = false
  @OptionGroup var interval: IntervalOption
  @OptionGroup var common: CommonOptions

  func run() throws {
    while true {
      // With --json each look is a line of its own, for the program that reads them.
      if watch && !common.json && Style.current.terminal { Output.write(Screen.cleared) }
      try common.show("/v1/stats", as: Stats.self, StatsCommand.text)
      if !watch { return }
      interval.pass()
      if !common.json && !Style.current.terminal { Output.write("\n") }
    }
  }

  static func text(_ stats: Stats, _ style: Style) -> String {
    var text = "swivel \(stats.version), up \(Figures.duration(stats.uptime))\n\n"
    var table = Table([
      ("PORT", .left), ("STATE", .left), ("IN FRAMES", .right), ("IN BYTES", .right),
      ("IN DROPS", .right), ("OUT FRAMES", .right), ("OUT BYTES", .right), ("OUT DROPS", .right),
    ])
    func add(_ name: String, _ state: String, _ received: Counters, _ sent: Counters) {
      table.add(
        [name, state]
          + [received, sent].flatMap {
            [
              Figures.grouped($0.frames), Figures.grouped($0.bytes), Figures.grouped($0.dropped),
            ]
          })
    }
    for port in stats.ports {
      add(port.name, style.state(port.state.rawValue), port.received, port.sent)
    }
    add("all, ever", "", stats.received, stats.sent)
    text += table.text
    text += drops(stats)
    let macs = stats.macTable
    text += """

      MAC table: \(Figures.grouped(macs.entries)) of \(Figures.grouped(macs.capacity)) entries; \
      \(Figures.grouped(macs.learned)) learned, \(Figures.grouped(macs.moved)) moved, \
      \(Figures.grouped(macs.limited)) gone by their ports' limits, \(Figures.grouped(macs.evicted)) evicted, \
      \(Figures.grouped(macs.aged)) aged, \(Figures.grouped(macs.deferred)) frames not learned from

      """
    if let security = stats.security { text += "\nsecurity: \(security.description)\n" }
    return text
  }

  private static func drops(_ stats: Stats) -> String {
    let reasons = Set(stats.received.drops.keys).union(stats.sent.drops.keys).sorted()
    if reasons.isEmpty { return "\nNo frame was dropped.\n" }
    var table = Table([("DROP REASON", .left), ("IN", .right), ("OUT", .right)])
    for reason in reasons {
      table.add([
        reason, Figures.grouped(stats.received.drops[reason] ?? 0),
        Figures.grouped(stats.sent.drops[reason] ?? 0),
      ])
    }
    return "\n" + table.text
  }
}

enum Screen {
  /// To the top left corner, and everything below away.
  static let cleared = "\u{1b}[H\u{1b}[2J"
}
