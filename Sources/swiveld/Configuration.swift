import Control
import ControlAPI

/// What the daemon is told to do: the configuration file, or the embedded default.
struct Configuration: Sendable, Equatable {
  enum Poll: String, Sendable, CaseIterable {
    /// A worker without work sleeps until a guest wakes it.
    case adaptive
    /// Workers never sleep.
    case busy
  }

  struct Workers: Sendable, Equatable {
    /// One pinned worker for each CPU.
    var cpus: [Int]
    var poll = Poll.adaptive
  }

  struct MACTable: Sendable, Equatable {
    /// Addresses the table has room for.
    var entries = 16384
    /// Seconds of silence after which an address is forgotten.
    var age = 300
  }

  var control = ControlSocket(path: defaultControlSocket)
  var workers: Workers
  var ports: [PortRequest] = []
  var macTable = MACTable()

  /// Without a file: one worker, two guests' sockets and, where the daemon may make one, a TAP uplink.
  static func embedded(cpu: Int, uplink: Bool) -> Configuration {
    var ports = ["vm1", "vm2"].map {
      PortRequest(name: $0, vhostUser: VhostUserRequest(path: "/run/swivel/\($0).sock"))
    }
    if uplink { ports.append(PortRequest(name: "uplink", tap: TapRequest(device: "swivel0"))) }
    return Configuration(workers: Workers(cpus: [cpu]), ports: ports)
  }
}

/// What is wrong with a configuration file: everything that was found, in the order of the file.
struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  struct Problem: Sendable, Equatable {
    /// From 1; 0: the file as a whole.
    var line: Int
    /// In characters, from 1.
    var column: Int
    var message: String
  }

  var file: String
  var problems: [Problem]

  /// A line for each problem: `swivel.yaml:7:5: unknown key …`.
  var description: String {
    problems.map { problem in
      problem.line == 0
        ? "\(file): \(problem.message)"
        : "\(file):\(problem.line):\(problem.column): \(problem.message)"
    }.joined(separator: "\n")
  }
}
