import Foundation
import Glibc
import Linux
import VirtioDriver

/// A swiveld started for the measurement, with sockets in a temporary folder; gone when it is over.
final class OwnDaemon {
  let folder: String
  let sockets: [String]
  /// The path of its control socket.
  var control: String { "\(folder)/control.sock" }
  private let process = Process()

  /// Starts a daemon with a worker on each of the plan's CPUs; `cleaner` ends it.
  init(_ plan: Plan, _ cleaner: Cleaner) throws {
    guard let program = OwnDaemon.find() else {
      throw BenchError(
        "there is no swiveld beside this program nor in PATH; name the sockets of a running switch with --socket"
      )
    }
    folder =
      FileManager.default.temporaryDirectory
      .appendingPathComponent("swivel-bench-\(getpid())").path
    let folder = folder
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    sockets = (1...plan.allPorts).map { "\(folder)/p\($0).sock" }
    var text = """
      control: { socket: \(folder)/control.sock }
      workers: { cpus: \(plan.workerCPUs), poll: \(plan.poll.rawValue) }
      ports:

      """
    for (index, path) in sockets.enumerated() {
      text += "  - { name: p\(index + 1), vhost-user: { path: \(path), queues: \(plan.queues) } }\n"
    }
    cleaner.daemon = self
    do {
      try text.write(toFile: "\(folder)/swivel.yaml", atomically: true, encoding: .utf8)
      let log = "\(folder)/swiveld.log"
      _ = FileManager.default.createFile(atPath: log, contents: nil)
      process.executableURL = URL(fileURLWithPath: program)
      process.arguments = ["--config", "\(folder)/swivel.yaml", "--log-level", "warning"]
      process.standardError = FileHandle(forWritingAtPath: log)
      process.standardInput = FileHandle.nullDevice
      try process.run()
      try awaitSockets()
    } catch {
      cleaner.clean()
      throw error
    }
  }

  /// Waits until the sockets are there.
  private func awaitSockets() throws {
    // SAFETY: reads the path during the call.
    let there = Deadline.wait(milliseconds: 10_000 + 20 * sockets.count) {
      !process.isRunning || sockets.allSatisfy { unsafe access($0, F_OK) == 0 }
    }
    guard there, process.isRunning else {
      let log = (try? String(contentsOfFile: "\(folder)/swiveld.log", encoding: .utf8)) ?? ""
      throw BenchError("swiveld did not start\n" + log)
    }
  }

  /// Ends the daemon and removes the folder.
  func stop() {
    if process.isRunning {
      process.terminate()
      if !Deadline.wait(milliseconds: 5000, { !process.isRunning }) {
        kill(process.processIdentifier, SIGKILL)
      }
    }
    try? FileManager.default.removeItem(atPath: folder)
  }

  private static func find() -> String? {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    let beside = URL(fileURLWithPath: own).deletingLastPathComponent().path
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    return ([beside] + path.split(separator: ":").map(String.init))
      .map { "\($0)/swiveld" }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }
}

/// Takes away what was made, also when a signal ends the program.
final class Cleaner: @unchecked Sendable {
  private let lock = Lock<OwnDaemon?>(nil)

  var daemon: OwnDaemon? {
    get { nil }
    set { lock.withLock { $0 = newValue } }
  }

  /// Call it before there are other threads: they inherit the signal mask.
  init() throws {
    let signals = try SignalQueue([SIGINT, SIGTERM, SIGHUP])
    _ = try Linux.Thread(name: "signals") { [self] in
      guard let signal = try? signals.next() else { return }
      clean()
      _exit(128 + signal)
    }
  }

  func clean() {
    let daemon = lock.withLock { daemon in
      defer { daemon = nil }
      return daemon
    }
    daemon?.stop()
  }
}
