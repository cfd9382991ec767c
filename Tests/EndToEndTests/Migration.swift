import ControlAPI
import Foundation

/// A guest that is to move, from one QEMU to another, and the network that talks to it: a bridge in a namespace of its own, which
/// joins both places and has an address of a peer.
final class Migration {
  /// What is between the guest and the network.
  enum Way: String {
    /// A daemon each, as on two hosts.
    case hosts = "two daemons"
    /// Two ports of one daemon.
    case ports = "two ports"
    /// QEMU's own back-end, without swivel, to compare.
    case tap = "QEMU's TAP"
  }

  static let peer = "192.0.2.254"
  static let address = "192.0.2.1"
  /// An address of the guest's that nobody asks for: the peer knows where it is when the guest has said so itself.
  static let quiet = "192.0.2.101"
  static let mac = "02:73:77:6d:69:67"

  let way: Way
  let scratches: [Scratch]
  let daemons: [Daemon]
  private let network: Namespace
  private let layout: String

  init(_ way: Way, layout: String) throws {
    self.way = way
    self.layout = layout
    network = try Namespace("swmignet")
    try network.run("ip link add bridge type bridge")
    try network.run("ip addr add \(Migration.peer)/24 dev bridge && ip link set bridge up")
    // An announcement makes an entry, as at a router that cares.
    try network.run("echo 1 >/proc/sys/net/ipv4/conf/bridge/arp_accept")
    let scratches = [try Scratch()] + (way == .hosts ? [try Scratch()] : [])
    self.scratches = scratches
    switch way {
    case .hosts:
      daemons = try zip(scratches, ["vm1", "vm2"]).enumerated().map { index, place in
        try Daemon(
          ports: [
            Daemon.vhost(place.1, in: place.0), Daemon.tap("up", device: Migration.device(index)),
          ], scratch: place.0)
      }
    case .ports:
      daemons = [
        try Daemon(
          ports: ["vm1", "vm2"].map { Daemon.vhost($0, in: scratches[0]) }
            + [Daemon.tap("up", device: Migration.device(0))], scratch: scratches[0])
      ]
    case .tap: daemons = []
    }
    for index in daemons.indices { try join(index) }
  }

  private static func device(_ index: Int) -> String { "swmig\(index)" }

  /// Puts an end of the network into it; its name reaches nothing else.
  private func join(_ index: Int) throws {
    let device = Migration.device(index)
    try wait(upTo: 20, for: "\(device) to be there") {
      access("/sys/class/net/\(device)", F_OK) == 0
    }
    try Command.run("ip", "link", "set", device, "netns", network.name)
    try network.run("ip link set \(device) master bridge up")
  }

  /// Where the guest's QEMU listens for what is to be done.
  private var monitor: String { scratches[0].file("qmp") }

  /// Starts the guest's first QEMU (`vm1`), or the one that waits for it (`vm2`).
  private func start(_ name: String, options: [String]) throws -> Guest {
    let index = name == "vm1" ? 0 : 1
    let attached = way == .tap ? ["--tap", Migration.device(index)] : []
    let guest = try Guest(
      name, number: 1, in: scratches[index % scratches.count],
      options: ["--device", layout, "--mac", Migration.mac] + attached + options)
    if way == .tap { try join(index) }
    return guest
  }

  /// The guest, booted, before it moves.
  func boot() throws -> Guest {
    let guest = try start("vm1", options: ["--qmp", monitor])
    try guest.awaitBoot()
    try guest.ping(Migration.peer)
    try guest.run("ip addr add \(Migration.quiet)/24 dev eth0")
    return guest
  }

  /// Moves the guest while the network asks for it every ten milliseconds.
  ///
  /// - Returns: the guest at its new place; for how long it stood still, by what QEMU says, and for how long nobody had an answer of it,
  ///   in milliseconds.
  func move(_ guest: Guest) throws -> (guest: Guest, downtime: Int, gap: Int) {
    let place = scratches[0].file("move")
    let next = try start("vm2", options: ["--incoming", "unix:\(place)"])
    try wait(upTo: 30, for: "vm2 to wait for the guest") { access(place, F_OK) == 0 }
    let ping = try network.start(
      "ping", "-n", "-D", "-i", "0.01", Migration.address, log: scratches[0].file("ping"))
    Thread.sleep(forTimeInterval: 1)
    let downtime = try Monitor(monitor).migrate(to: "unix:\(place)")
    try guest.moved(to: next)
    try wait(upTo: 5, for: "the guest to announce itself") { try isAnnounced() }
    Thread.sleep(forTimeInterval: 1)
    ping.signal(SIGINT)
    _ = try ping.status(within: 5)
    return (next, downtime, try Migration.gap(ping.output))
  }

  /// Whether the network has been told of the address that nobody asks for.
  func isAnnounced() throws -> Bool {
    try network.run("ip neigh show \(Migration.quiet)").contains(Migration.mac)
  }

  /// The end of the network at which the guest's address is.
  func place() throws -> String? {
    try network.run("bridge fdb show br bridge").split(separator: "\n")
      .first { $0.hasPrefix(Migration.mac) }
      .flatMap { $0.split(separator: " ").dropFirst(2).first.map(String.init) }
  }

  /// The longest time between two answers, in milliseconds, by the times that ping gives.
  private static func gap(_ output: String) throws -> Int {
    let times = output.split(separator: "\n").compactMap { line -> Double? in
      guard line.contains("bytes from"), let end = line.firstIndex(of: "]") else { return nil }
      return Double(line[..<end].dropFirst())
    }
    guard let longest = zip(times, times.dropFirst()).map({ $1 - $0 }).max() else {
      throw Failure("ping had no answers: \(output.suffix(500))")
    }
    return Int(1000 * longest)
  }

  /// Random bytes to the guest, in bursts that fill much of its ring.
  func streamToGuest(_ guest: Guest) throws -> Stream {
    try guest.run(
      "{ nc.openbsd -d -l 5001 | md5sum >/tmp/sum; mv /tmp/sum /tmp/received; } >/dev/null 2>&1 &"
        + " for i in $(seq 100); do netstat -ltn | grep -q ':5001 ' && exit; sleep 0.1; done; exit 1"
    )
    let folder = scratches[0].file("there")
    let command = try network.start(
      "bash", "-c",
      Stream.sender(
        of: "head -c 262144 /dev/urandom", to: Migration.address, port: 5001, in: folder),
      log: scratches[0].file("there.log"))
    return Stream(
      stop: { _ in try Command.run("touch", "\(folder)/stop") },
      sent: { _ in
        guard try command.status(within: 60) == 0 else { throw Failure(command.tail) }
        return try String(contentsOfFile: "\(folder)/sent", encoding: .utf8)
      },
      received: { try $0.run(Stream.awaited("/tmp/received"), within: 60) })
  }

  /// The guest's to the network: one block again and again, each time behind its number, as fresh bytes would take its CPU.
  func streamFromGuest(_ guest: Guest) throws -> Stream {
    let sum = scratches[0].file("received")
    let listener = try network.start(
      "bash", "-c", "nc.openbsd -d -l 5002 | md5sum >\(sum)", log: scratches[0].file("back.log"))
    try wait(upTo: 20, for: "the peer to listen") {
      try network.run("ss -Hltn 'sport = 5002'").contains(":5002")
    }
    let sender = Stream.sender(
      of: "i=$((i + 1)); printf %08d $i; cat /tmp/block", to: Migration.peer, port: 5002,
      in: "/tmp/back")
    try guest.run(
      "head -c 65528 /dev/urandom >/tmp/block; { \(sender); } >/dev/null 2>&1 &")
    return Stream(
      stop: { try $0.run("touch /tmp/back/stop") },
      sent: { try $0.run(Stream.awaited("/tmp/back/sent"), within: 60) },
      received: { _ in
        guard try listener.status(within: 60) == 0 else { throw Failure(listener.tail) }
        return try String(contentsOfFile: sum, encoding: .utf8)
      })
  }
}
