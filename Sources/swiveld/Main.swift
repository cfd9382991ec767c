import ArgumentParser
import Configuration
import ControlAPI
import Glibc
import Linux

/// The daemon's command line.
@main
struct Swiveld: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "swiveld",
    abstract: "A virtual switch for QEMU guests: vhost-user ports, TAP uplinks, pinned workers.",
    discussion: """
      Stays in the foreground. SIGTERM ends it and removes what it made; SIGHUP reads the configuration \
      again. Without --config it starts one worker, the ports vm1 and vm2 at /run/swivel/vm1.sock and \
      vm2.sock and, where it may, an uplink through the TAP device swivel0.
      """,
    version: swivelVersion)

  @Option(help: "The configuration file (YAML).")
  var config: String?

  @Flag(help: "Read the configuration, say what is wrong with it, and end.")
  var check = false

  @Option(
    help: "What to log: trace, debug, info, notice, warning, error or critical.",
    transform: { name in
      guard let level = LogLevel(rawValue: name) else {
        throw ValidationError("there is no log level '\(name)'")
      }
      return level
    })
  var logLevel = LogLevel.info

  @Flag(
    help: """
      Take over from the swiveld that runs on the same control socket: its ports, their guests' connections, its uplinks, \
      addresses and counters. Guests notice a pause of some milliseconds. If it can't be done, the other goes on.
      """)
  var takeOver = false

  @Flag(help: "Print what kind of vhost-user back-end this is, in JSON, and end.")
  var printCapabilities = false

  /// What the conventions for vhost-user back-ends have one say of itself (vhost-user.rst, "Backend program
  /// conventions"; vhost-user.json, `VHostUserBackendCapabilities`).
  static let capabilities = #"{"type": "net"}"#

  static func main() {
    // By those conventions other options are then ignored, were they unknown or wrong.
    if CommandLine.arguments.dropFirst().contains("--print-capabilities") {
      print(capabilities)
    } else {
      main(nil)
    }
  }

  func run() throws {
    // Before anything is opened: a log line must not end up in a guest's socket that took the number 2. And
    // before any thread is started: they inherit the signal mask.
    StandardStreams.fill()
    let signals = try SignalQueue([SIGTERM, SIGINT, SIGHUP])
    // The workers' CPU, when nobody names one: the last of those this process may use; the first tends to
    // have the interrupts.
    let cpus = Affinity.current
    let cpu = cpus.last ?? 0
    let settings: Configuration
    do {
      settings =
        try config.map { path throws(ConfigurationError) in
          try Configuration.load(path: path, cpu: cpu)
        } ?? Configuration.embedded(cpu: cpu, uplink: true)
      if check { return try Daemon.check(settings, cpus: cpus) }
    } catch {
      throw Failure("\(error)")
    }

    let daemon: Daemon
    do {
      // Now: what it takes to open it anew will be out of reach.
      let log = try DaemonLog(level: logLevel)
      daemon = try Daemon(settings, file: config, cpus: cpus, log: log, takesOver: takeOver)
    } catch {
      throw Failure("\(error)")
    }
    while true {
      switch try signals.next() {
      case SIGHUP:
        // Why it failed is in the log.
        _ = try? daemon.reload()
      default:
        try leaveAnyway(when: signals)
        daemon.stop()
        return
      }
    }
  }

  /// Ends the process without further ado if stopping takes ten seconds or a second signal comes: a front-end
  /// may hold one of its port's system calls for as long as it likes.
  private func leaveAnyway(when signals: SignalQueue) throws {
    _ = try Linux.Thread(name: "stop") {
      // A reload asked for now is too late, and no reason to wait longer.
      let deadline = ContinuousClock.now + .seconds(10)
      while true {
        let left = Int(ContinuousClock.now.duration(to: deadline) / .milliseconds(1))
        let signal = try? signals.next(within: max(0, left))
        if left <= 0 || signal.map({ $0 != SIGHUP }) ?? false { _exit(1) }
        // None, or it could not be waited for: not a loop at full speed.
        if signal == nil { usleep(10_000) }
      }
    }
  }

  /// What ends the daemon before it serves: one message, exit status 1.
  private struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
  }
}
