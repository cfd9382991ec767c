import ControlAPI
import Foundation
import Testing

/// A running swiveld with a configuration file and sockets in a folder of its own.
final class Daemon {
  let scratch: Scratch
  private var command: Command
  var configuration: String { scratch.file("swivel.yaml") }
  let control: String
  /// What else stands in its configuration.
  private let more: String
  /// The last lines of its log, for a message; `wholeLog` to look for something.
  var log: String { command.tail }
  var wholeLog: String { command.output }

  /// Starts the daemon with these entries of `ports:` and waits until it answers.
  ///
  /// - Parameters:
  ///   - control: its control socket; `nil`: one in `scratch`.
  ///   - more: further lines of its configuration.
  init(ports: [String], scratch: Scratch, control: String? = nil, more: String = "") throws {
    self.scratch = scratch
    self.control = control ?? scratch.file("control.sock")
    self.more = more
    try Daemon.write(ports: ports, control: self.control, more: more, in: scratch)
    command = try Daemon.start(in: scratch)
    try awaitAnswer()
  }

  deinit {
    command.end()
  }

  /// A `vhost-user` entry whose socket is `NAME.sock` in the folder.
  static func vhost(
    _ name: String, in scratch: Scratch, mode: SocketMode = .server, queues: Int = 1,
    offloads: String = "all"
  ) -> String {
    "{ name: \(name), vhost-user: { path: \(scratch.file("\(name).sock")), mode: \(mode.rawValue),"
      + " queues: \(queues), offloads: \(offloads) } }"
  }

  static func tap(_ name: String, device: String) -> String {
    "{ name: \(name), tap: { device: \(device) } }"
  }

  private static func write(
    ports: [String], control: String, more: String, in scratch: Scratch
  ) throws {
    let text = """
      control: { socket: \(control) }
      workers: { cpus: [0], poll: adaptive }
      ports:
      \(ports.map { "  - \($0)" }.joined(separator: "\n"))
      \(more)

      """
    try text.write(toFile: scratch.file("swivel.yaml"), atomically: true, encoding: .utf8)
  }

  private static func start(in scratch: Scratch) throws -> Command {
    try Command(
      Place.program("swiveld"), ["--config", scratch.file("swivel.yaml")],
      log: scratch.file("swiveld.log"))
  }

  private func awaitAnswer() throws {
    try wait(upTo: 15, for: "swiveld to answer; its log:\n\(log)") {
      guard command.process.isRunning else { throw Failure("swiveld ended at once:\n\(log)") }
      return (try? ports()) != nil
    }
  }

  // MARK: what it says

  func get<Reply: Decodable>(_ path: String, as type: Reply.Type = Reply.self) throws -> Reply {
    let body = try Command.run(
      "curl", "--silent", "--show-error", "--fail", "--max-time", "5", "--unix-socket", control,
      "http://swivel\(path)")
    return try JSONDecoder().decode(Reply.self, from: Data(body.utf8))
  }

  /// Asks for a port, and returns what the daemon answers, a refusal too.
  func post(_ port: String) throws -> String {
    try Command.run(
      "curl", "--silent", "--max-time", "5", "--unix-socket", control, "--data", port,
      "http://swivel/v1/ports")
  }

  /// The lines of /proc/PID/status, by name; numbers are a space apart.
  func kernelStatus() throws -> [String: String] {
    let text = try String(
      contentsOfFile: "/proc/\(command.process.processIdentifier)/status", encoding: .utf8)
    return text.split(separator: "\n").reduce(into: [:]) { lines, line in
      let words = line.split(whereSeparator: \.isWhitespace)
      lines[String(words[0].dropLast())] = words.dropFirst().joined(separator: " ")
    }
  }

  func ports() throws -> [ControlAPI.Port] { try get("/v1/ports") }
  func port(_ name: String) throws -> ControlAPI.Port { try get("/v1/ports/\(name)") }
  func stats() throws -> Stats { try get("/v1/stats") }
  func macs() throws -> [MACEntry] { try get("/v1/macs") }

  /// The figures once nothing moves any more.
  func settledStats() throws -> Stats {
    var last = try stats()
    try wait(upTo: 20, for: "the counters to stand still") {
      Thread.sleep(forTimeInterval: 0.5)
      let next = try stats()
      defer { last = next }
      return next.received == last.received && next.sent == last.sent
    }
    return last
  }

  /// Holds the equation: what came in, and the copies a flood made, went out or was dropped by name.
  func expectAccounted(sourceLocation: SourceLocation = #_sourceLocation) throws {
    let stats = try settledStats()
    let into = stats.received.frames + stats.received.replicas
    let out = stats.sent.frames + stats.received.dropped + stats.sent.dropped
    #expect(into == out, "\(stats)", sourceLocation: sourceLocation)
    #expect(stats.received.frames > 0, sourceLocation: sourceLocation)
  }

  // MARK: what one does to it

  /// Writes other ports (or, as `text`, anything) to the configuration file and asks for a reload.
  func reload(ports: [String]) throws {
    try Daemon.write(ports: ports, control: control, more: more, in: scratch)
    command.signal(SIGHUP)
  }

  func reload(text: String) throws {
    try text.write(toFile: configuration, atomically: true, encoding: .utf8)
    command.signal(SIGHUP)
  }

  var isRunning: Bool { command.process.isRunning }

  /// Bytes of its own memory that are there; guests' memory, of which it touches ever more, is not its own.
  var residentMemory: Int {
    get throws {
      let path = "/proc/\(command.process.processIdentifier)/status"
      let status = try String(contentsOfFile: path, encoding: .utf8)
      let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") })
      return try #require(Int(line.split(whereSeparator: \.isWhitespace)[1])) * 1024
    }
  }

  /// Ends it with SIGTERM: it must succeed, and take its sockets and TAP devices with it.
  func stop(sourceLocation: SourceLocation = #_sourceLocation) throws {
    let before = try ports()
    command.signal(SIGTERM)
    let status = try command.status(within: 10)
    #expect(status == 0, "swiveld's log:\n\(log)", sourceLocation: sourceLocation)
    for port in before {
      if let vhostUser = port.vhostUser, vhostUser.mode == .server {
        #expect(
          !exists(vhostUser.path), "\(vhostUser.path) is left", sourceLocation: sourceLocation)
      }
      if let tap = port.tap, tap.made {
        #expect(
          !exists("/sys/class/net/\(tap.device)"), "\(tap.device) is left",
          sourceLocation: sourceLocation)
      }
    }
    #expect(!exists(control), "the control socket is left", sourceLocation: sourceLocation)
  }

  /// Ends it without a chance to clear away, as a crash would.
  func crash() throws {
    command.signal(SIGKILL)
    _ = try command.status(within: 10)
  }

  /// Starts it again on what lies in its folder.
  func restart() throws {
    command = try Daemon.start(in: scratch)
    try awaitAnswer()
  }

  /// Has another take over, on what lies in its folder; it must say that it has, and the one before end well.
  func takeOver(sourceLocation: SourceLocation = #_sourceLocation) throws {
    let before = command
    command = try Command(
      Place.program("swiveld"), ["--config", configuration, "--take-over"],
      log: scratch.file("swiveld-\(UUID().uuidString.prefix(8)).log"))
    try wait(upTo: 30, for: "swiveld to take over; its log:\n\(log)") {
      guard command.process.isRunning else {
        throw Failure("swiveld did not take over:\n\(command.output)\n\(before.tail)")
      }
      return command.output.contains("took over ")
    }
    let status = try before.status(within: 10)
    #expect(status == 0, "\(before.tail)", sourceLocation: sourceLocation)
    try awaitAnswer()
  }

  /// Has another try to take over, and die at a step of it.
  func failToTakeOver(
    at step: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let other = try Command(
      Place.program("swiveld"), ["--config", configuration, "--take-over"],
      log: scratch.file("swiveld-\(step).log"),
      environment: ["SWIVELD_TAKE_OVER_DIES_AT": step])
    let status = try other.status(within: 30)
    #expect(status == 70, "\(step): \(other.output)", sourceLocation: sourceLocation)
    try wait(upTo: 10, for: "the daemon to go on; its log:\n\(log)") {
      wholeLog.components(separatedBy: "was not taken over, and goes on").count
        > wholeLog.components(separatedBy: "wants to take over").count - 1
    }
  }

  private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
}
