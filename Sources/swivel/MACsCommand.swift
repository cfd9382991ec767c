internal import ArgumentParser
internal import ControlAPI
internal import ControlClient

struct MACsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "macs", abstract: "List, enter or forget the addresses of stations.",
    subcommands: [
      MACsListCommand.self, MACsAddCommand.self, MACsRemoveCommand.self, MACsFlushCommand.self,
    ], defaultSubcommand: MACsListCommand.self)

  static func text(_ entries: [MACEntry], _ style: Style) -> String {
    if entries.isEmpty { return "No addresses have been learned.\n" }
    var table = Table([("MAC", .left), ("PORT", .left), ("AGE", .right)])
    for entry in entries.sorted(by: { ($0.port, $0.mac) < ($1.port, $1.mac) }) {
      table.add([
        entry.mac, entry.port, entry.pinned ? "stays" : "\(Figures.grouped(entry.age)) s",
      ])
    }
    return table.text
  }
}

struct MACsListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the addresses that the switch knows.")

  @Option(help: "Only those of this port.") var port: String?
  @Option(help: "Only this address.") var mac: String?
  @OptionGroup var common: CommonOptions

  func run() throws {
    let target = ControlClient.target("/v1/macs", [("port", port), ("mac", mac)])
    try common.show(target, as: [MACEntry].self, MACsCommand.text)
  }
}

struct MACsAddCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Enter an address for a port; it stays, whatever frames say, until it is removed.")

  @Argument(help: "The address, as in 52:54:00:12:34:56.") var mac: String
  @Argument(help: "The port's name.") var port: String
  @OptionGroup var common: CommonOptions

  func run() throws {
    let reply = try common.client.put("/v1/macs/\(ControlClient.segment(mac))", ["port": port])
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      let entry = try ControlClient.decode(MACEntry.self, from: reply)
      Output.write("\(entry.mac) leads to \(entry.port)\n")
    }
  }
}

struct MACsRemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Forget an address, whether it was learned or entered.")

  @Argument(help: "The address, as in 52:54:00:12:34:56.") var mac: String
  @OptionGroup var common: CommonOptions

  func run() throws {
    try common.client.delete("/v1/macs/\(ControlClient.segment(mac))")
    if !common.json { Output.write("\(mac) is forgotten\n") }
  }
}

struct MACsFlushCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "flush",
    abstract: "Forget what was learned; frames are flooded until their stations are heard again.")

  @Option(help: "Only what was learned on this port.") var port: String?
  @OptionGroup var common: CommonOptions

  func run() throws {
    try common.client.delete(ControlClient.target("/v1/macs", [("port", port)]))
    if !common.json {
      Output.write("what was learned\(port.map { " on \($0)" } ?? "") is forgotten\n")
    }
  }
}
