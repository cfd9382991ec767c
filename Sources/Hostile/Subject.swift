internal import ControlAPI
internal import ControlClient
internal import Foundation
internal import Glibc
internal import Linux
internal import VirtioDriver

/// A switch to attack: a process of its own, with vhost-user sockets, which the bystanders (two), the attacker, the
/// witness, a visitor and an accomplice have.
public final class Subject {
  /// How it is started, and where it is to be found.
  public struct Plan: Sendable {
    public var name: String
    public var program: String
    public var arguments: [String]
    /// Of the bystanders, the attacker and the witness, and, if others are to attach meanwhile, of a visitor and of the
    /// attacker's accomplice.
    public var sockets: [String]
    /// Of swivel: its control socket. Others are not asked what they call what happened.
    public var control: String?
    /// Of swivel: the port that is asked about.
    public var port = "attacked"
    /// Where its output goes.
    public var log: String
    /// Milliseconds without a sign of life after which it counts as hung.
    public var patience: Int

    public init(
      name: String, program: String, arguments: [String], sockets: [String], control: String? = nil,
      log: String, patience: Int
    ) {
      self.name = name
      self.program = program
      self.arguments = arguments
      self.sockets = sockets
      self.control = control
      self.log = log
      self.patience = patience
    }
  }

  public let plan: Plan
  private var process = Process()
  /// testpmd ends with its input. Its end of the pipe is closed here when it has been given it.
  private var input = Pipe()

  /// Starts it and waits for its sockets.
  public init(_ plan: Plan) throws {
    self.plan = plan
    try start()
  }

  deinit { stop() }

  /// swiveld, as it comes, in `folder`: hardened as by default, one worker.
  public static func swivel(program: String, folder: String, patience: Int) throws -> Subject {
    let names = ["bystander0", "bystander1", "attacked", "witness", "visitor", "accomplice"]
    let ports = names.map { name in
      let queues = name == "attacked" ? 2 : 1
      return
        "  - { name: \(name), vhost-user: { path: \(folder)/\(name).sock, queues: \(queues) } }"
    }
    let text = """
      control: { socket: \(folder)/control.sock }
      workers: { cpus: [0], poll: adaptive }
      ports:
      \(ports.joined(separator: "\n"))

      """
    try text.write(toFile: "\(folder)/swivel.yaml", atomically: true, encoding: .utf8)
    return try Subject(
      Plan(
        name: "swivel", program: program, arguments: ["--config", "\(folder)/swivel.yaml"],
        sockets: names.map { "\(folder)/\($0).sock" }, control: "\(folder)/control.sock",
        log: "\(folder)/swiveld.log", patience: patience))
  }

  /// Those that run, of all subjects.
  private static let running = Lock<Set<Int32>>([])

  /// Ends every switch that was started here, for a process that is about to end itself.
  public static func killAll() {
    running.withLock { for pid in $0 { kill(pid, SIGKILL) } }
  }

  public var pid: Int32 { process.processIdentifier }
  public var isAlive: Bool { process.isRunning }

  /// How it ended, for a person.
  var end: String {
    guard !process.isRunning else { return "alive" }
    let status = process.terminationStatus
    guard process.terminationReason == .uncaughtSignal else { return "exit status \(status)" }
    let names = [SIGSEGV: "SIGSEGV", SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGILL: "SIGILL"]
    let more = [SIGFPE: "SIGFPE", SIGPIPE: "SIGPIPE", SIGTRAP: "SIGTRAP", SIGSYS: "SIGSYS"]
    return names[status] ?? more[status] ?? "signal \(status)"
  }

  private func start() throws {
    // A server that was killed leaves its sockets.
    for path in plan.sockets { try? FileManager.default.removeItem(atPath: path) }
    process = Process()
    _ = FileManager.default.createFile(atPath: plan.log, contents: nil)
    let log = try FileHandle(forWritingTo: URL(fileURLWithPath: plan.log))
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [plan.program] + plan.arguments
    process.standardOutput = log
    process.standardError = log
    input = Pipe()
    process.standardInput = input
    try process.runUnblocked()
    Subject.running.withLock { [pid] in _ = $0.insert(pid) }
    // A thousand ports take a busy machine its time.
    let ready = Deadline.wait(milliseconds: 120_000) {
      !process.isRunning
        || plan.sockets.allSatisfy { FileManager.default.fileExists(atPath: $0) }
          && (plan.control == nil || port != nil)
    }
    guard ready, process.isRunning else {
      let log = (try? String(contentsOfFile: plan.log, encoding: .utf8)) ?? ""
      stop()
      throw SubjectError(description: "\(plan.name) did not start:\n\(log.suffix(2000))")
    }
  }

  public func stop() {
    defer { forget() }
    guard process.isRunning else { return }
    process.terminate()
    if !Deadline.wait(milliseconds: 5000, { !process.isRunning }) {
      kill(process.processIdentifier, SIGKILL)
      _ = Deadline.wait(milliseconds: 5000) { !process.isRunning }
    }
  }

  private func forget() {
    let pid = process.processIdentifier
    if pid > 0, !process.isRunning { Subject.running.withLock { _ = $0.remove(pid) } }
  }

  /// Ends what is left of it and starts it anew.
  func restart() throws {
    if process.isRunning {
      kill(process.processIdentifier, SIGKILL)
      _ = Deadline.wait(milliseconds: 5000) { !process.isRunning }
    }
    forget()
    try start()
  }

  /// What swivel says of the plan's port; `nil` of any other switch.
  var port: ControlAPI.Port? {
    guard let control = plan.control,
      let reply = try? ControlClient(path: control).get("/v1/ports/\(plan.port)")
    else { return nil }
    return try? JSONDecoder().decode(ControlAPI.Port.self, from: reply)
  }
}

/// Why a switch could not be had.
public struct SubjectError: Error, CustomStringConvertible {
  public let description: String
}

extension Process {
  /// `run`, with no signal blocked: whoever started us may block some, and a child would inherit that.
  func runUnblocked() throws {
    var none = sigset_t()
    var before = sigset_t()
    // SAFETY: the calls read and write these two locals only.
    unsafe sigemptyset(&none)
    unsafe pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { _ = unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
    try run()
  }
}
