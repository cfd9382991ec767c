internal import ControlAPI
internal import ControlClient
internal import Foundation
internal import Linux

/// What the daemon says of itself, and what the system knows of its process.
extension SupportArchive {
  /// - Parameter configuration: the file to take where the daemon does not tell its own.
  mutating func addDaemon(_ client: ControlClient, configuration: String) {
    for (part, target) in [
      ("stats.json", "/v1/stats"), ("ports.json", "/v1/ports"), ("workers.json", "/v1/workers"),
      ("log-status.json", "/v1/log"), ("metrics.txt", "/metrics"),
    ] {
      add("daemon/\(part)") { try client.get(target) }
    }
    // A daemon that is ill says so with a status of its own.
    add("daemon/health.json") { try client.look("/v1/health").body }

    let process = client.daemon
    let known = process.flatMap(DaemonProcess.init)
    add("daemon/process.txt") {
      guard let process else {
        throw SupportError("no process answers at the control socket, or one of another namespace")
      }
      guard let known else {
        throw SupportError("process \(process) is not this user's to look at")
      }
      return Data(known.description.utf8)
    }
    add("configuration.yaml") { try SupportArchive.configuration(of: known, else: configuration) }
    add("log.txt") {
      try HostCommand("journalctl", "--unit=swiveld", "--lines=1000", "--no-pager").output()
    }
    // A system call that the daemon was refused, or the end it met for want of memory, is in the kernel's.
    add("kernel-log.txt") {
      try HostCommand(
        "journalctl", "--dmesg", "--grep=swiveld|oom-kill|hugetlb", "--lines=200", "--no-pager"
      ).output()
    }
    add("unit.txt") {
      try HostCommand("systemctl", "cat", "--no-pager", "swiveld.service").output()
        + HostCommand("systemctl", "status", "--no-pager", "--lines=0", "swiveld.service").output()
    }
  }

  /// The file that the daemon reads; if that is not known, `file`. Its first line says which it is.
  private static func configuration(of daemon: DaemonProcess?, else file: String) throws -> Data {
    if let daemon, daemon.configuration == nil {
      throw SupportError("process \(daemon.number) was started without --config")
    }
    let path = daemon?.configuration ?? file
    let size = (try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
    if size > 1 << 24 { throw SupportError("\(path) has \(size) bytes") }
    let doubt = daemon == nil ? ", which the daemon may not have read" : ""
    return Data("# \(path)\(doubt)\n".utf8) + (try Data(contentsOf: URL(fileURLWithPath: path)))
  }
}

/// What /proc says of the daemon.
struct DaemonProcess: CustomStringConvertible {
  let number: Int
  private let arguments: [String]

  /// `nil`: there is no such process, or it is not this user's to look at.
  init?(_ number: Int) {
    guard let line = SmallFile.read("/proc/\(number)/cmdline"), !line.isEmpty else { return nil }
    self.number = number
    arguments = line.split(separator: "\0").map(String.init)
  }

  /// The file that it was told to read, as this process finds it.
  var configuration: String? {
    guard let path = DaemonProcess.configuration(in: arguments) else { return nil }
    if path.hasPrefix("/") { return path }
    let folder = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(number)/cwd")
    return folder.map { "\($0)/\(path)" } ?? path
  }

  /// What follows `--config`; the last one counts.
  static func configuration(in arguments: [String]) -> String? {
    var found: String?
    for (index, argument) in arguments.enumerated() {
      if argument == "--config", index + 1 < arguments.count { found = arguments[index + 1] }
      if argument.hasPrefix("--config=") { found = String(argument.dropFirst("--config=".count)) }
    }
    return found
  }

  var description: String {
    var text = arguments.joined(separator: " ") + "\n"
    for name in ["status", "limits", "cgroup"] {
      text += "\n[\(name)]\n\(SmallFile.read("/proc/\(number)/\(name)") ?? "can't be read\n")"
    }
    text += "\n[threads: number, name, CPUs it may use, CPU it ran on last]\n"
    let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(number)/task")) ?? []
    for task in tasks.compactMap({ Int($0) }).sorted() {
      let folder = "/proc/\(number)/task/\(task)"
      let name = SmallFile.read("\(folder)/comm")?.split(separator: "\n").first ?? "?"
      let status = SmallFile.read("\(folder)/status") ?? ""
      let cpus = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }?
        .split(separator: "\t").last
      let last = Affinity.cpu(ofThread: task).map(String.init) ?? "?"
      text += "\(task)  \(name)  \(cpus ?? "?")  \(last)\n"
    }
    return text
  }
}
