internal import ArgumentParser
internal import ControlAPI
internal import ControlClient

struct WorkersCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "workers",
    abstract: "List the worker threads, add and remove them, or have them share the work.",
    subcommands: [
      WorkersListCommand.self, WorkersAddCommand.self, WorkersRemoveCommand.self,
      WorkersRebalanceCommand.self,
    ],
    defaultSubcommand: WorkersListCommand.self)

  static func text(_ workers: [Worker], _ style: Style) -> String {
    var table = Table([
      ("WORKER", .right), ("CPU", .right), ("NODE", .right), ("STATE", .left), ("TURNS", .right),
      ("BUSY", .right), ("SLEEPS", .right), ("MEMORY", .left), ("QUEUES", .left),
    ])
    for worker in workers {
      let busy =
        worker.turns == 0 ? 0 : 100 * Double(worker.busyTurns) / Double(worker.turns)
      table.add([
        "\(worker.id)", "\(worker.cpu)", "\(worker.node)", style.state(worker.state),
        Figures.grouped(worker.turns), Figures.fixed(busy, 1) + "%",
        Figures.grouped(worker.sleeps), worker.memory.isEmpty ? "-" : worker.memory,
        worker.queues.isEmpty ? "-" : worker.queues.joined(separator: " "),
      ])
    }
    return table.text
  }
}

struct WorkersListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the worker threads.")

  @OptionGroup var common: CommonOptions

  func run() throws {
    try common.show("/v1/workers", as: [Worker].self, WorkersCommand.text)
  }
}

struct WorkersRebalanceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rebalance",
    abstract:
      "Measure for a second, then have workers that do less than others take some of their queues.")

  @OptionGroup var common: CommonOptions

  func run() throws {
    let reply = try common.client.post("/v1/workers/rebalance")
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      let report = try ControlClient.decode(BalanceReport.self, from: reply)
      Output.write("\(report.description)\n")
    }
  }
}
