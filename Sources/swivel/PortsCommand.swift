internal import ArgumentParser
internal import ControlAPI

struct PortsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ports", abstract: "List the ports.")

  @OptionGroup var common: CommonOptions

  func run() throws {
    try common.show("/v1/ports", as: [Port].self, PortsCommand.text)
  }

  static func text(_ ports: [Port], _ style: Style) -> String {
    if ports.isEmpty { return "There are no ports.\n" }
    var table = Table([
      ("NAME", .left), ("KIND", .left), ("STATE", .left), ("QUEUES", .right), ("NODE", .right),
      ("WORKERS", .left), ("MACS", .right), ("IN", .right), ("OUT", .right), ("DROPS", .right),
      ("AT", .left),
    ])
    for port in ports {
      let carrying = port.queues.count { $0.state == .running }
      table.add([
        port.name, port.kind.rawValue, style.state(port.state.rawValue),
        "\(carrying)/\(port.queues.count)", Figures.optional(port.guestNode), workers(of: port),
        Figures.grouped(port.macs), Figures.grouped(port.received.frames),
        Figures.grouped(port.sent.frames),
        Figures.grouped(port.received.dropped &+ port.sent.dropped),
        port.status?.place ?? "-",
      ])
    }
    return table.text
  }

  /// The workers that poll the port, with their nodes: `0@0 1@1`.
  private static func workers(of port: Port) -> String {
    var seen: [String] = []
    for queue in port.queues {
      guard let worker = queue.worker else { continue }
      let text = "\(worker)@\(Figures.optional(queue.workerNode))"
      if !seen.contains(text) { seen.append(text) }
    }
    return seen.isEmpty ? "-" : seen.joined(separator: " ")
  }
}
