internal import ControlAPI
internal import ControlClient
internal import Foundation
internal import Glibc
internal import VirtioDriver

/// The daemon of a soak as those who act see it: its control socket, its configuration file, its process.
final class Bed: Sendable {
  /// A vhost-user port that is there all the time.
  struct Standing: Sendable {
    var name: String
    var queues = 1
  }

  /// Those of two guests that are left in peace.
  static let steady = [Standing(name: "steady0"), Standing(name: "steady1")]
  static let uplink = "uplink"

  let folder: String
  let pid: Int32
  let patience: Int
  let standing: [Standing]
  /// Where the daemon and its TAPs are; `nil`: it has none.
  let namespace: Namespace?
  private let client: ControlClient
  private let head: String

  /// Where the sockets are: a directory that the daemon makes, so that it is its own, whoever it becomes.
  private static func run(_ folder: String) -> String { "\(folder)/run" }

  /// The socket of a vhost-user port.
  func path(of name: String) -> String { "\(Bed.run(folder))/\(name).sock" }

  /// Starts a daemon.
  ///
  /// - Parameter standing: its ports, in the order of `Subject`'s sockets.
  static func start(
    program: String, folder: String, namespace: Namespace?, workers: [Int], patience: Int,
    standing: [Standing]
  ) throws -> (subject: Subject, bed: Bed) {
    let run = Bed.run(folder)
    var head = """
      control: { socket: \(run)/control.sock }
      workers: { cpus: [\(workers.map(String.init).joined(separator: ", "))], poll: adaptive }
      mac-table: { entries: 4096, age: 60s }
      ports:

      """
    for port in standing {
      head +=
        "  - { name: \(port.name), vhost-user: { path: \(run)/\(port.name).sock, queues: \(port.queues) } }\n"
    }
    if let namespace {
      head += "  - { name: \(uplink), tap: { device: \(namespace.device) } }\n"
    }
    let file = "\(folder)/swivel.yaml"
    try head.write(toFile: file, atomically: true, encoding: .utf8)
    let command = [program, "--config", file]
    let whole = namespace.map { $0.prefix + command } ?? command
    var plan = Subject.Plan(
      name: "swivel", program: whole[0], arguments: Array(whole.dropFirst()),
      sockets: standing.map { "\(run)/\($0.name).sock" }, control: "\(run)/control.sock",
      log: "\(folder)/swiveld.log", patience: patience)
    plan.port = standing[0].name
    let subject = try Subject(plan)
    let bed = Bed(
      folder: folder, pid: subject.pid, patience: patience, standing: standing,
      namespace: namespace, head: head)
    return (subject, bed)
  }

  private init(
    folder: String, pid: Int32, patience: Int, standing: [Standing], namespace: Namespace?,
    head: String
  ) {
    self.folder = folder
    self.pid = pid
    self.patience = patience
    self.standing = standing
    self.namespace = namespace
    self.head = head
    client = ControlClient(
      path: "\(Bed.run(folder))/control.sock", timeout: .milliseconds(patience))
  }

  /// The names of the standing ports.
  var names: [String] { standing.map(\.name) + (namespace == nil ? [] : [Bed.uplink]) }

  // ---- The control socket ----

  func get(_ target: String) throws -> Data { try client.get(target) }

  func ports() throws -> [ControlAPI.Port] {
    try ControlClient.decode([ControlAPI.Port].self, from: get("/v1/ports"))
  }

  func port(_ name: String) throws -> ControlAPI.Port {
    try ControlClient.decode(ControlAPI.Port.self, from: get("/v1/ports/\(name)"))
  }

  func workers() throws -> [ControlAPI.Worker] {
    try ControlClient.decode([ControlAPI.Worker].self, from: get("/v1/workers"))
  }

  func stats() throws -> Stats { try ControlClient.decode(Stats.self, from: get("/v1/stats")) }

  func add(_ request: PortRequest) throws { _ = try client.post("/v1/ports", request) }

  func remove(_ name: String) throws { try client.delete("/v1/ports/\(name)") }

  // ---- The configuration file ----

  /// Writes the standing ports and these to the file, or `text` instead, and asks for a reload.
  func reload(_ ports: [(name: String, queues: Int)], text: String = "") throws {
    let entries = ports.map { port in
      "  - { name: \(port.name), vhost-user: { path: \(path(of: port.name)), queues: \(port.queues) } }\n"
    }
    try (head + entries.joined() + text).write(
      toFile: "\(folder)/swivel.yaml", atomically: true, encoding: .utf8)
    if kill(pid, SIGHUP) != 0 { throw SoakError("swiveld is gone") }
  }

  // ---- The log ----

  var log: [Substring] {
    ((try? String(contentsOfFile: "\(folder)/swiveld.log", encoding: .utf8)) ?? "")
      .split(separator: "\n")
  }

  /// Waits for something; throws that it did not come to be.
  func wait(for what: @autoclosure () -> String, _ condition: () throws -> Bool) throws {
    let deadline = Deadline(milliseconds: patience)
    var pauses = 1
    while try !condition() {
      if deadline.isOver { throw SoakError("waited \(patience / 1000) s in vain for \(what())") }
      // Most conditions ask the daemon, which has other things to do.
      for _ in 0..<pauses { Deadline.pause() }
      pauses = min(2 * pauses, 50)
    }
  }
}
