import Foundation

/// A network namespace, the host's side of a TAP uplink.
final class Namespace {
  let name: String

  init(_ name: String) throws {
    self.name = name
    _ = try? Command.run("ip", "netns", "delete", name)
    try Command.run("ip", "netns", "add", name)
    try Command.run("ip", "-n", name, "link", "set", "lo", "up")
  }

  deinit {
    _ = try? Command.run("ip", "netns", "delete", name)
  }

  /// Takes a network device in and gives it the addresses that end in `fe`.
  func take(_ device: String) throws {
    try Command.run("ip", "link", "set", device, "netns", name)
    try Command.run("ip", "-n", name, "addr", "add", "192.0.2.254/24", "dev", device)
    try Command.run("ip", "-n", name, "addr", "add", "2001:db8::fe/64", "dev", device, "nodad")
    try Command.run("ip", "-n", name, "link", "set", device, "up")
  }

  func has(_ device: String) -> Bool {
    (try? Command.run("ip", "-n", name, "link", "show", device)) != nil
  }

  func ping(_ address: String) throws {
    try Command.run(
      "ip", "netns", "exec", name, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "10", address,
      within: 40)
  }

  /// Runs a shell's line in it and returns its output; throws unless it succeeds.
  @discardableResult
  func run(_ line: String) throws -> String {
    try Command.run("ip", "netns", "exec", name, "sh", "-c", line)
  }

  /// Starts a program in it, which ends with the command.
  func start(_ program: String, _ arguments: String..., log: String) throws -> Command {
    try Command("ip", ["netns", "exec", name, program] + arguments, log: log)
  }
}
