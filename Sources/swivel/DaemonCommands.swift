internal import ArgumentParser
internal import ControlAPI
internal import ControlClient

struct HealthCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "health", abstract: "Say whether the daemon does its work; ends with 1 if not.")

  @OptionGroup var common: CommonOptions

  func run() throws {
    let reply = try common.client.look("/v1/health")
    let health = try ControlClient.decode(Health.self, from: reply.body)
    Output.write(
      common.json ? String(decoding: reply.body, as: UTF8.self) : HealthCommand.text(health))
    if !health.healthy { throw ExitCode(1) }
  }

  static func text(_ health: Health) -> String {
    let ports = PortState.allCases.compactMap { state in
      health.ports[state.rawValue].map { "\($0) \(state.rawValue)" }
    }
    var text = health.healthy ? "healthy" : "not healthy"
    text += "; ports: \(ports.isEmpty ? "none" : ports.joined(separator: ", "))\n"
    return text + health.problems.map { "  \($0)\n" }.joined()
  }
}

struct ReloadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload",
    abstract: "Have the daemon read its configuration again; says what became of the ports.")

  @OptionGroup var common: CommonOptions

  func run() throws {
    let reply = try common.client.post("/v1/reload")
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      let report = try ControlClient.decode(ReloadReport.self, from: reply)
      Output.write("\(report.description)\n")
    }
  }
}

struct LogLevelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "log-level", abstract: "Say from which level on the daemon logs, or change it.")

  @Argument(
    help: "The new level: trace, debug, info, notice, warning, error or critical.",
    completion: .list(Word.list(LogLevel.self)), transform: Word.of)
  var level: LogLevel?
  @OptionGroup var common: CommonOptions

  func run() throws {
    let reply =
      try level.map { try common.client.put("/v1/log", ["level": $0.rawValue]) }
      ?? common.client.get("/v1/log")
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      let log = try ControlClient.decode(LogStatus.self, from: reply)
      let dropped =
        log.droppedLines == 0 ? "" : "; \(Figures.grouped(log.droppedLines)) lines were not written"
      Output.write("\(log.level.rawValue)\(dropped)\n")
    }
  }
}
