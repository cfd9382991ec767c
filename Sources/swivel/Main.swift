internal import ArgumentParser
internal import ControlAPI
internal import ControlClient
internal import Foundation
internal import Linux
internal import SystemPackage

/// The command line: it asks the daemon over the control socket and shows what it says.
struct Swivel: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "swivel",
    abstract: "Look at and change a running virtual switch (swiveld).",
    discussion: """
      Directions are the switch's: "in" counts frames that came in from a port, "out" those that went \
      out to it.
      """,
    version: swivelVersion,
    subcommands: [
      PortsCommand.self, PortCommand.self, MACsCommand.self, WorkersCommand.self,
      StatsCommand.self, TopCommand.self, HealthCommand.self, ReloadCommand.self,
      LogLevelCommand.self, SupportCommand.self,
    ])
}

@main struct Main {
  static func main() {
    do {
      var command = try Swivel.parseAsRoot()
      try command.run()
    } catch let error as ClientError {
      try? FileHandle.standardError.write(contentsOf: Data("swivel: \(error)\n".utf8))
      exit(1)
    } catch {
      // Help, --version and usage errors (exit status 64).
      Swivel.exit(withError: error)
    }
  }
}

/// What every command takes.
struct CommonOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The daemon's control socket.",
      discussion: "SWIVEL_SOCKET in the environment sets the default.",
      valueName: "path"))
  var socket = ProcessInfo.processInfo.environment["SWIVEL_SOCKET"] ?? defaultControlSocket

  @Flag(help: "Print the daemon's reply as JSON.")
  var json = false

  var client: ControlClient { ControlClient(path: socket) }

  /// Fetches `path` and prints it: as it came with `--json`, else as `text` puts it.
  func show<Value: Decodable>(
    _ path: String, as type: Value.Type, _ text: (Value, Style) -> String
  ) throws {
    let reply = try client.get(path)
    if json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      Output.write(text(try ControlClient.decode(type, from: reply), Style.current))
    }
  }
}

/// How text may look where it goes.
struct Style: Sendable {
  /// Escape sequences are welcome.
  var terminal: Bool
  var colour: Bool

  static let plain = Style(terminal: false, colour: false)

  static var current: Style {
    let terminal = isatty(1) == 1
    // https://no-color.org
    let refused = !(ProcessInfo.processInfo.environment["NO_COLOR"] ?? "").isEmpty
    return Style(terminal: terminal, colour: terminal && !refused)
  }

  /// The state in its colour: green carries frames, red is broken, yellow waits.
  func state(_ state: String) -> String {
    guard colour else { return state }
    let code =
      switch state {
      case "running", "polling": 32
      case "broken": 31
      default: 33
      }
    return "\u{1b}[\(code)m\(state)\u{1b}[0m"
  }
}

enum Output {
  /// Writes to standard output at once; ends the program quietly when nobody reads it any more, and with a word when the
  /// output can't be written.
  static func write(_ text: String) {
    let bytes = Array(text.utf8)
    var sent = 0
    while sent < bytes.count {
      // SAFETY: writes from the array during the call.
      let count = unsafe bytes[sent...].withUnsafeBytes {
        unsafe Foundation.write(1, $0.baseAddress, $0.count)
      }
      if count >= 0 {
        sent += count
      } else if errno == EAGAIN {
        // Somebody has made the descriptor one that does not wait.
        _ = try? Poller.wait([(1, .write)])
      } else if errno != EINTR {
        if errno != EPIPE {
          let why = Errno(rawValue: errno)
          try? FileHandle.standardError.write(
            contentsOf: Data("swivel: the output can't be written: \(why)\n".utf8))
        }
        exit(1)
      }
    }
  }
}
