internal import ArgumentParser
internal import ControlAPI
internal import ControlClient

struct PortsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ports", abstract: "List the ports.")

  @Option(
    help: ArgumentHelp("Only ports of this kind.", valueName: "kind"),
    completion: .list(Word.list(PortKind.self)), transform: Word.of)
  var kind: PortKind?
  @Option(
    help: ArgumentHelp("Only ports in this state.", valueName: "state"),
    completion: .list(Word.list(PortState.self)), transform: Word.of)
  var state: PortState?
  @OptionGroup var common: CommonOptions

  func run() throws {
    let target = ControlClient.target(
      "/v1/ports", [("kind", kind?.rawValue), ("state", state?.rawValue)])
    try common.show(target, as: [Port].self, PortsCommand.text)
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

/// One of an enumeration's words, as an argument.
enum Word {
  static func of<Value: RawRepresentable<String> & CaseIterable>(_ text: String) throws -> Value {
    guard let value = Value(rawValue: text) else {
      throw ValidationError("it must be one of \(list(Value.self).joined(separator: ", "))")
    }
    return value
  }

  static func list<Value: RawRepresentable<String> & CaseIterable>(_ type: Value.Type) -> [String] {
    type.allCases.map(\.rawValue)
  }
}
