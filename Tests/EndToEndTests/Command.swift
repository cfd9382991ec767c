import Foundation

/// A child process whose output goes to a file, so that nothing it leaves running can hold us up.
final class Command {
  let process = Process()
  let log: String

  /// Starts `program` (a path, or a name to find in PATH).
  init(
    _ program: String, _ arguments: [String], log: String, environment: [String: String] = [:],
    input: Pipe? = nil
  ) throws {
    self.log = log
    guard FileManager.default.createFile(atPath: log, contents: nil) else {
      throw Failure("cannot write \(log)")
    }
    let output = try FileHandle(forWritingTo: URL(filePath: log))
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [program] + arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardOutput = output
    process.standardError = output
    process.standardInput = input ?? FileHandle.nullDevice
    // Tests run on threads that block all signals, and a child would inherit that: `end` could not ask it to.
    var none = sigset_t()
    var before = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
  }

  deinit {
    end()
  }

  var output: String {
    String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
  }

  /// The last lines of its output, for a message.
  var tail: String {
    output.split(separator: "\n", omittingEmptySubsequences: false).suffix(25)
      .joined(separator: "\n")
  }

  func signal(_ number: Int32) {
    if process.isRunning { kill(process.processIdentifier, number) }
  }

  /// Waits for its end and returns the exit status; a process ended by a signal counts as 128 + number.
  func status(within seconds: Double) throws -> Int32 {
    try wait(upTo: seconds, for: "the end of \(process.arguments ?? []):\n\(tail)") {
      !process.isRunning
    }
    return process.terminationStatus + (process.terminationReason == .uncaughtSignal ? 128 : 0)
  }

  /// Ends it, politely first.
  func end() {
    guard process.isRunning else { return }
    process.terminate()
    if (try? status(within: 5)) == nil { signal(SIGKILL) }
    process.waitUntilExit()
  }

  /// Runs a command to its end and returns what it said; throws unless it succeeded.
  @discardableResult
  static func run(
    _ program: String, _ arguments: String..., within seconds: Double = 20,
    environment: [String: String] = [:]
  ) throws -> String {
    let scratch = try Scratch()
    let command = try Command(
      program, arguments, log: scratch.file("output"), environment: environment)
    let status = try command.status(within: seconds)
    guard status == 0 else {
      let line = ([program] + arguments).joined(separator: " ")
      throw Failure("\(line): status \(status)\n\(command.output)")
    }
    return command.output
  }
}
