internal import ControlAPI
internal import ControlClient
internal import Linux
internal import Synchronization
internal import VirtioDriver

/// Whoever asks the control socket for something all the time, changes the configuration file, and makes mistakes.
final class Clerk {
  /// Reloads that were to fail, and so the errors that the log may have.
  static let failure = "reload failed"
  private let player: Player
  private let bed: Bed
  private let mistakes: Mistakes

  /// How many mistakes were made, readable by others.
  final class Mistakes: Sendable {
    let count = Atomic<Int>(0)
  }

  init(_ player: Player, bed: Bed, mistakes: Mistakes) {
    self.player = player
    self.bed = bed
    self.mistakes = mistakes
  }

  func run(_ dice: inout Dice) throws {
    while try player.rest({ try reload([]) }) {
      for _ in 0..<dice.roll(1...20) {
        try ask(&dice)
        player.stage.requests.add(1, ordering: .relaxed)
        // All the time, but others need the processor too.
        for _ in 0..<dice.roll(0...20) { Deadline.pause() }
      }
      try change(&dice)
    }
  }

  private func ask(_ dice: inout Dice) throws {
    let targets = ["/v1/stats", "/v1/ports", "/v1/macs", "/v1/workers", "/metrics"]
    switch dice.roll(0...9) {
    case 0: try refused("a port that is not there") { _ = try bed.port("nobody") }
    case 1:
      try refused("a port whose name is taken") {
        let path = bed.path(of: "another")
        try bed.add(PortRequest(name: "witness", vhostUser: VhostUserRequest(path: path)))
      }
    case 2: try refused("the removal of nothing") { try bed.remove("nobody") }
    default: if try bed.get(dice.pick(targets)).isEmpty { throw SoakError("an empty reply") }
    }
  }

  private func refused(_ what: String, _ body: () throws -> Void) throws {
    do {
      try body()
    } catch is ClientError {
      return
    }
    throw SoakError("\(what) was not refused")
  }

  private func change(_ dice: inout Dice) throws {
    let ports = (0..<3).filter { _ in dice.once(in: 2) }.map { number in
      (name: "floating\(number)", queues: dice.roll(1...4))
    }
    let kind = dice.roll(0...5)
    switch kind {
    case 0:
      player.note("a configuration that is wrong")
      mistakes.count.add(1, ordering: .relaxed)
      let count = mistakes.count.load(ordering: .relaxed)
      try bed.reload(ports, text: "nonsense: true\n")
      try bed.wait(for: "the log to have \(count) failed reloads") {
        bed.log.count { $0.contains(Clerk.failure) } >= count
      }
    case 1:
      guard bed.namespace != nil else { return }
      player.note("a TAP comes and goes")
      let device = "tap\(dice.roll(0...99))"
      try bed.add(PortRequest(name: device, tap: TapRequest(device: device)))
      player.stage.ports.add(1, ordering: .relaxed)
      try bed.remove(device)
    default:
      player.note("a reload: \(ports.map(\.name))")
      try reload(ports)
    }
    player.stage.reloads.add(1, ordering: .relaxed)
  }

  private func reload(_ ports: [(name: String, queues: Int)]) throws {
    try bed.reload(ports)
    try bed.wait(for: "the ports to be those of the file") {
      let there = try bed.ports().filter { $0.name.hasPrefix("floating") }.map {
        "\($0.name) \($0.vhostUser?.queuePairs ?? 0)"
      }
      return Set(there) == Set(ports.map { "\($0.name) \($0.queues)" })
    }
  }
}

/// Whoever is behind the uplink: the kernel, which sends echo requests to guests that may be there.
enum Uplink {
  static func run(_ player: Player, in namespace: Namespace, guests: Int, _ dice: inout Dice) throws
  {
    while try player.rest() {
      let number = 100 + dice.roll(0...guests - 1)
      player.note("echo requests to station \(number)")
      try namespace.knock(at: number, .station(number), count: dice.roll(1...40))
      for _ in 0..<100 { Deadline.pause() }
    }
  }
}
