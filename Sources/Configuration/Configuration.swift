public import Control
public import ControlAPI

/// What the daemon is told to do: the configuration file, or the embedded default.
public struct Configuration: Sendable, Equatable {
  public enum Poll: String, Sendable, CaseIterable {
    /// A worker without work sleeps until a guest wakes it.
    case adaptive
    /// Workers never sleep.
    case busy
  }

  public struct Workers: Sendable, Equatable {
    /// One pinned worker for each CPU.
    public var cpus: [Int]
    public var poll = Poll.adaptive
    public var rebalance = Rebalance.off
  }

  /// When queues go to other workers.
  public enum Rebalance: String, Sendable, CaseIterable {
    /// When somebody asks.
    case off
    /// Also when a worker has had too much for a while.
    case auto
  }

  public struct MACTable: Sendable, Equatable {
    /// Addresses the table has room for.
    public var entries = 16384
    /// Seconds of silence after which an address is forgotten.
    public var age = 300
    /// Most addresses of a vhost-user port that says nothing else.
    public var perPort = 1024
    public var loops = Loops.name
  }

  /// What is done about two ports between which addresses move to and fro.
  public enum Loops: String, Sendable, CaseIterable {
    /// They are named, in the log and where they are shown.
    case name
    /// Of two uplinks one is cut off for a minute besides.
    case cut
  }

  /// What a vhost-user port that says nothing else lets its front-end share.
  public struct GuestMemory: Sendable, Equatable {
    /// Bytes. More than a guest of today has, and little enough that 127 ports may have it: all share 2^47 bytes of addresses.
    public var perPort: UInt64 = 1 << 40
    /// Enough for memory hotplug; each costs a mapping, an open file and a line of the table that workers search.
    public var regions = 64
    /// Whether files on disks are taken, for whose pages a worker may have to wait.
    public var onDisks = false
  }

  /// Where the state is.
  public enum State: Sendable, Equatable {
    /// Beside the control socket, under its name.
    case standard
    case file(String)
    case off
  }

  /// The path of the state's file; `nil`: there is none.
  public var statePath: String? {
    switch state {
    case .standard:
      (control.path.hasSuffix(".sock") ? String(control.path.dropLast(5)) : control.path) + ".state"
    case .file(let path): path
    case .off: nil
    }
  }

  public var control = ControlSocket(path: defaultControlSocket)
  /// Where one may look and change nothing; `nil`: nowhere.
  public var reader: ControlSocket?
  public var workers: Workers
  public var ports: [PortRequest] = []
  public var macTable = MACTable()
  public var guestMemory = GuestMemory()
  /// The file in which the daemon leaves what its successor goes on from.
  public var state = State.standard
  public var security = Security()

  /// All sockets of the control interface.
  public var controlSockets: [ControlSocket] { [control] + (reader.map { [$0] } ?? []) }

  /// Without a file: one worker, two guests' sockets and, where the daemon may make one, a TAP uplink.
  public static func embedded(cpu: Int, uplink: Bool) -> Configuration {
    var ports = ["vm1", "vm2"].map {
      PortRequest(name: $0, vhostUser: VhostUserRequest(path: "/run/swivel/\($0).sock"))
    }
    if uplink { ports.append(PortRequest(name: "uplink", tap: TapRequest(device: "swivel0"))) }
    return Configuration(workers: Workers(cpus: [cpu]), ports: ports)
  }
}

/// What is wrong with a configuration file: everything that was found, in the order of the file.
public struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  public struct Problem: Sendable, Equatable {
    /// From 1; 0: the file as a whole.
    public var line: Int
    /// In characters, from 1.
    public var column: Int
    public var message: String
  }

  public var file: String
  public var problems: [Problem]

  /// A line for each problem: `swivel.yaml:7:5: unknown key …`.
  public var description: String {
    problems.map { problem in
      problem.line == 0
        ? "\(file): \(problem.message)"
        : "\(file):\(problem.line):\(problem.column): \(problem.message)"
    }.joined(separator: "\n")
  }
}
