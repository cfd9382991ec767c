internal import Foundation
internal import Glibc
internal import VirtioDriver

/// A network namespace in which a daemon runs, so that its TAPs are nowhere else; gone with this object.
final class Namespace: Sendable {
  let name: String
  /// The uplink's device.
  let device = "uplink0"

  /// - Parameter name: no namespace must have it yet.
  init(_ name: String) throws {
    self.name = name
    try Tool.run(["ip", "netns", "add", name])
    // What the kernel says of itself there is nobody's traffic; where this can't be changed, there is a little more.
    _ = try? Tool.run(prefix + ["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
  }

  deinit { _ = try? Tool.run(["ip", "netns", "delete", name]) }

  /// Before a command: runs it in here. The process becomes the command's.
  var prefix: [String] { ["ip", "netns", "exec", name] }

  func ip(_ arguments: String...) throws { try Tool.run(["ip", "-n", name] + arguments) }

  /// Gives the uplink the address 192.0.2.254 and lets it have frames.
  func raise() throws {
    try ip("addr", "add", "192.0.2.254/24", "dev", device)
    try ip("link", "set", device, "up")
  }

  /// Sends `count` echo requests, which nobody needs to answer, to 192.0.2.`number` at `address`.
  func knock(at number: Int, _ address: EthernetAddress, count: Int) throws {
    try ip(
      "neigh", "replace", "192.0.2.\(number)", "lladdr", "\(address)", "dev", device, "nud",
      "permanent")
    // Status 1: nobody has answered.
    _ = try? Tool.run(
      prefix + [
        "ping", "-n", "-q", "-i", "0.01", "-W", "0.1", "-c", "\(count)", "192.0.2.\(number)",
      ])
  }

  func has(_ device: String) -> Bool {
    (try? Tool.run(["ip", "-n", name, "link", "show", device])) != nil
  }

  /// Frames that the uplink's device has got from the daemon, and given to it.
  func frames() throws -> (taken: UInt64, given: UInt64) {
    func read(_ what: String) throws -> UInt64 {
      let path = "/sys/class/net/\(device)/statistics/\(what)"
      let text = try Tool.run(prefix + ["cat", path]).trimmingCharacters(
        in: .whitespacesAndNewlines)
      guard let count = UInt64(text) else { throw SoakError("\(path): \(text)") }
      return count
    }
    return (try read("rx_packets"), try read("tx_packets"))
  }
}

/// A program that is run to its end.
enum Tool {
  /// Returns what it printed; throws unless it ends in time with status 0.
  @discardableResult
  static func run(
    _ command: [String], milliseconds: Int = 60_000, environment: [String: String] = [:]
  ) throws -> String {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = environment.map { "\($0)=\($1)" } + command
    process.standardOutput = pipe
    process.standardError = pipe
    process.standardInput = FileHandle.nullDevice
    try process.runUnblocked()
    let pid = process.processIdentifier
    // What is printed here is less than a pipe holds.
    if !Deadline.wait(milliseconds: milliseconds, { !process.isRunning }) {
      kill(pid, SIGKILL)
      throw SoakError("\(command.joined(separator: " ")) took more than \(milliseconds / 1000) s")
    }
    let output = String(
      decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    guard process.terminationStatus == 0, process.terminationReason == .exit else {
      throw SoakError(
        "\(command.joined(separator: " ")): status \(process.terminationStatus): \(output)")
    }
    return output
  }
}
