internal import ArgumentParser
internal import ControlAPI
internal import ControlClient
internal import Foundation

struct TopCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top", abstract: "Show what each port carries in a second, until interrupted.")

  @OptionGroup var interval: IntervalOption
  @OptionGroup var common: CommonOptions

  func run() throws {
    var last = try look()
    let style = Style.current
    while true {
      interval.pass()
      let stats = try look()
      guard let rates = PortRate.rates(from: last, to: stats) else { continue }
      last = stats
      if common.json {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        Output.write(String(decoding: try encoder.encode(rates), as: UTF8.self) + "\n")
      } else {
        Output.write(
          (style.terminal ? Screen.cleared : "")
            + TopCommand.text(rates, stats, style) + (style.terminal ? "" : "\n"))
      }
    }
  }

  private func look() throws -> Stats {
    try ControlClient.decode(Stats.self, from: try common.client.get("/v1/stats"))
  }

  static func text(_ rates: [PortRate], _ stats: Stats, _ style: Style) -> String {
    var table = Table([
      ("PORT", .left), ("STATE", .left), ("IN FRAMES/S", .right), ("GBIT/S", .right),
      ("DROPS/S", .right), ("OUT FRAMES/S", .right), ("GBIT/S", .right), ("DROPS/S", .right),
    ])
    for rate in rates {
      table.add(
        [rate.port, style.state(rate.state.rawValue)]
          + [rate.received, rate.sent].flatMap {
            [
              Figures.grouped($0.framesPerSecond), Figures.fixed($0.gigabitsPerSecond, 3),
              Figures.grouped($0.dropsPerSecond),
            ]
          })
    }
    return "swivel \(stats.version), up \(Figures.duration(stats.uptime)), "
      + "\(Figures.grouped(stats.macTable.entries)) addresses\n\n" + table.text
  }
}
