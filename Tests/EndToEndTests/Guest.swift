import Foundation
import Testing

/// A QEMU guest that scripts/guest boots: Debian's kernel, its virtio-net driver, busybox.
final class Guest {
  let name: String
  private let scratch: Scratch
  private let command: Command

  /// What its console shows: kernel, or BIOS and iPXE.
  var console: String {
    let text = FileManager.default.contents(atPath: scratch.file("guests/\(name)/console.log"))
    return String(decoding: text ?? Data(), as: UTF8.self)
  }

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

  /// What QEMU has said.
  var log: String { command.output }

  func end() { command.end() }

  /// Ends it as a crash would.
  func crash() throws {
    command.signal(SIGKILL)
    _ = try command.status(within: 10)
  }

  /// Runs a shell command in the guest and returns its output; throws unless it succeeds in time.
  @discardableResult
  func run(_ line: String, within seconds: Int = 30) throws -> String {
    do {
      return try Command.run(
        Place.script("guest-run"), "--timeout", "\(seconds)", name, line,
        within: Double(seconds) + 10, environment: ["SWIVEL_GUESTS": scratch.path + "/guests"])
    } catch {
      throw Failure("\(name): \(error)\nconsole: \(console)\nQEMU: \(command.tail)")
    }
  }

  /// It runs as `other` from now on, which it has migrated to: that answers at once, as it has long booted.
  func moved(to other: Guest) throws {
    end()
    let ready = other.scratch.file("guests/\(other.name)/ready")
    guard FileManager.default.createFile(atPath: ready, contents: nil) else {
      throw Failure("cannot write \(ready)")
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

  /// Sends one echo request with each of these many bytes of payload; all must be answered.
  func sweep(_ address: String, sizes: [Int]) throws {
    let list = sizes.map(String.init).joined(separator: " ")
    // Each has a second chance: a slow peer's receiveq may have been full.
    try run(
      "for s in \(list); do ping -c 1 -W 10 -s $s \(address) >/dev/null"
        + " || ping -c 1 -W 10 -s $s \(address) >/dev/null"
        + " || { echo no answer to $s bytes; exit 1; }; done", within: 180)
  }

  /// Datagrams of IPv4 that it has sent or received in pieces.
  func fragments() throws -> Int {
    let text = try run("awk '/^Ip: [0-9]/ { print $15 + $20 }' /proc/net/snmp")
    guard let count = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
      throw Failure("\(name) does not say how many fragments it has seen: \(text)")
    }
    return count
  }

  /// Segments that it has sent again: nstat's TcpRetransSegs.
  func retransmissions() throws -> Int {
    let text = try run("awk '/^Tcp: [0-9]/ { print $13 }' /proc/net/snmp")
    guard let count = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
      throw Failure("\(name) does not say how many segments it has sent again: \(text)")
    }
    return count
  }

  /// Sends bytes over TCP, to another guest or `netns:NAME`; the checksums of both ends must agree.
  func transfer(to place: String, at address: String, mebibytes: Int = 64) throws {
    try finish(startTransfer(to: place, at: address, mebibytes: mebibytes))
  }

  /// The rate of such a transfer in Mbit/s.
  func rate(to place: String, at address: String, mebibytes: Int) throws -> Double {
    let transfer = try startTransfer(to: place, at: address, mebibytes: mebibytes)
    try finish(transfer)
    guard let match = transfer.output.firstMatch(of: /in ([0-9.]+) s,/),
      let seconds = Double(match.1)
    else { throw Failure("no time in \(transfer.output)") }
    return Double(mebibytes) * 8 * 1.048576 / seconds
  }

  /// The same at the same time both ways, with a guest that `address` belongs to.
  func exchange(with other: Guest, at address: String, own: String, mebibytes: Int) throws {
    let there = try startTransfer(to: other.name, at: address, mebibytes: mebibytes)
    let back = try other.startTransfer(to: name, at: own, mebibytes: mebibytes)
    try finish(there)
    try finish(back)
  }

  func startTransfer(to place: String, at address: String, mebibytes: Int) throws -> Command {
    try Command(
      Place.script("transfer"), [name, place, address, "\(mebibytes)"],
      log: scratch.file("transfer-\(name)-\(place.filter(\.isLetter)).log"),
      environment: ["SWIVEL_GUESTS": scratch.path + "/guests"])
  }

  func finish(_ transfer: Command) throws {
    let status = try transfer.status(within: 270)
    guard status == 0 else { throw Failure("transfer: status \(status)\n\(transfer.output)") }
  }
}
