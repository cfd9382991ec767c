internal import ControlAPI
internal import Foundation
internal import Glibc
internal import Synchronization
internal import VirtioDriver

/// Two real guests, booted by scripts/guest, again and again: they ping each other and the uplink, reboot, and are
/// killed.
final class Machines {
  private let player: Player
  private let bed: Bed
  private let scripts: String
  private var processes: [Process?] = [nil, nil]
  private var environment: [String: String] { ["SWIVEL_GUESTS": "\(bed.folder)/guests"] }

  /// - Parameter scripts: the directory of `guest` and `guest-run`.
  init(_ player: Player, bed: Bed, scripts: String) {
    self.player = player
    self.bed = bed
    self.scripts = scripts
  }

  private func name(_ number: Int) -> String { "machine\(number)" }

  func run(_ dice: inout Dice) throws {
    defer { for number in 0..<2 { end(number, signal: SIGKILL) } }
    while try player.rest() {
      for number in 0..<2 { try boot(number, &dice) }
      defer { for number in 0..<2 { end(number, signal: SIGKILL) } }
      for number in 0..<2 { try command(number, "true", seconds: 240) }
      try ping(0, "192.0.2.12")
      if bed.namespace != nil { try ping(1, "192.0.2.254") }
      if dice.once(in: 2) {
        player.note("\(name(0)) reboots")
        // Whether the answer still comes is the guest's affair.
        _ = try? command(0, "reboot -f", seconds: 20)
        try bed.wait(for: "\(name(0)) to run") { processes[0]?.isRunning == true }
        // A command that was given before it went down is answered with that it did.
        try bed.wait(for: "\(name(0)) to boot again") {
          (try? command(0, "true", seconds: 240)) != nil
        }
        try ping(1, "192.0.2.11")
      }
      for number in 0..<2 {
        let signal = dice.pick([SIGKILL, SIGTERM])
        player.note("\(name(number)) is ended by signal \(signal)")
        end(number, signal: signal)
        if dice.once(in: 2) {
          try bed.wait(for: "\(name(number)) to be gone") {
            try bed.port(name(number)).state == .waiting
          }
        }
        try bed.remove(name(number))
      }
    }
  }

  private func boot(_ number: Int, _ dice: inout Dice) throws {
    let queues = dice.pick([1, 1, 2])
    let options = dice.pick(["", "packed=on", "mrg_rxbuf=off", "rx_queue_size=512,event_idx=off"])
    player.note("\(name(number)) boots, \(queues) queues, \(options)")
    try bed.add(
      PortRequest(
        name: name(number),
        vhostUser: VhostUserRequest(path: bed.path(of: name(number)), queues: queues)))
    player.stage.ports.add(1, ordering: .relaxed)
    // What the guest before it left would pass for this one's.
    try? FileManager.default.removeItem(atPath: "\(bed.folder)/guests/\(name(number))")
    let process = Process()
    let log = "\(bed.folder)/\(name(number)).log"
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    process.executableURL = URL(fileURLWithPath: "\(scripts)/guest")
    process.arguments =
      [
        name(number), "--socket", bed.path(of: name(number)), "--ip4", "192.0.2.\(11 + number)/24",
        "--queues", "\(queues)", "--reboot",
      ] + (options.isEmpty ? [] : ["--device", options])
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: log)
    process.standardError = FileHandle(forWritingAtPath: log)
    try process.runUnblocked()
    processes[number] = process
    let pid = "\(bed.folder)/guests/\(name(number))/pid"
    try bed.wait(for: "\(name(number)) to start") {
      guard process.isRunning else { throw SoakError("\(name(number)) did not start: see \(log)") }
      return FileManager.default.fileExists(atPath: pid)
    }
    player.stage.machines.add(1, ordering: .relaxed)
  }

  private func command(_ number: Int, _ line: String, seconds: Int) throws {
    try Tool.run(
      ["\(scripts)/guest-run", "--timeout", "\(seconds)", name(number), line],
      milliseconds: 1000 * (seconds + 20), environment: environment)
  }

  /// The first requests may be lost: a guest that has just booted is not known yet.
  private func ping(_ number: Int, _ address: String) throws {
    player.note("\(name(number)) pings \(address)")
    try command(
      number,
      "for i in 1 2 3 4 5 6 7 8; do ping -c 1 -W 2 \(address) && break; done >/dev/null;"
        + " ping -c 3 -W 10 \(address)", seconds: 90)
  }

  private func end(_ number: Int, signal: CInt) {
    guard let process = processes[number] else { return }
    processes[number] = nil
    kill(process.processIdentifier, signal)
    if !Deadline.wait(milliseconds: 20_000, { !process.isRunning }) {
      kill(process.processIdentifier, SIGKILL)
      _ = Deadline.wait(milliseconds: 20_000) { !process.isRunning }
    }
  }
}
