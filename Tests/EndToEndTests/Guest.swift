import Foundation
import Testing

/// A QEMU guest that scripts/guest boots: Debian's kernel, its virtio-net driver, busybox.
final class Guest {
  let name: String
  private let scratch: Scratch
  private let command: Command

  /// Starts guest `number` (its addresses end in it) on `NAME.sock` of the folder; returns at once.
  init(_ name: String, number: Int, in scratch: Scratch, options: [String] = []) throws {
    self.name = name
    self.scratch = scratch
    try Guest.prepare()
    // What an earlier guest of that name left would pass for this one's.
    try? FileManager.default.removeItem(atPath: scratch.file("guests/\(name)"))
    command = try Command(
      Place.script("guest"),
      [
        name, "--socket", scratch.file("\(name).sock"), "--ip4", "192.0.2.\(number)/24", "--ip6",
        "2001:db8::\(number)/64",
      ] + options, log: scratch.file("qemu-\(name).log"),
      environment: ["SWIVEL_GUESTS": scratch.path + "/guests"])
    let pid = scratch.file("guests/\(name)/pid")
    try wait(upTo: 30, for: "\(name) to start:\n\(command.tail)") {
      guard command.process.isRunning else { throw Failure("\(name) ended:\n\(command.tail)") }
      return access(pid, F_OK) == 0
    }
  }

  deinit {
    command.end()
  }

  /// The image and the accelerator are found once, outside of the deadlines.
  private static func prepare() throws {
    try Command.run(Place.script("guest-image"), within: 180)
    try Command.run(Place.script("accel"), within: 40)
  }

  var isRunning: Bool { command.process.isRunning }

  func end() { command.end() }

  /// Runs a shell command in the guest and returns its output; throws unless it succeeds in time.
  @discardableResult
  func run(_ line: String, within seconds: Int = 30) throws -> String {
    do {
      return try Command.run(
        Place.script("guest-run"), "--timeout", "\(seconds)", name, line,
        within: Double(seconds) + 10, environment: ["SWIVEL_GUESTS": scratch.path + "/guests"])
    } catch {
      let console = FileManager.default.contents(atPath: scratch.file("guests/\(name)/console.log"))
      throw Failure(
        "\(name): \(error)\nconsole: \(String(decoding: console ?? Data(), as: UTF8.self))"
          + "\nQEMU: \(command.tail)")
    }
  }

  /// Waits until it has booted.
  func awaitBoot() throws { try run("true", within: 120) }

  /// Sends echo requests; all must be answered.
  func ping(_ address: String, count: Int = 3) throws {
    // The first may be lost: QEMU comes back to a restarted switch a second later.
    try run(
      "for i in 1 2 3 4 5 6 7 8; do ping -c 1 -W 1 \(address) && break; done >/dev/null;"
        + " ping -c \(count) -i 0.2 -W 10 \(address) && exit; ip neigh; exit 1", within: 60)
  }

  /// Sends 64 MiB over TCP, to another guest or `netns:NAME`; the checksums of both ends must agree.
  func transfer(to place: String, at address: String, mebibytes: Int = 64) throws {
    try Command.run(
      Place.script("transfer"), name, place, address, "\(mebibytes)", within: 270,
      environment: ["SWIVEL_GUESTS": scratch.path + "/guests"])
  }
}

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
}
