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
  /// How many QEMUs have been started.
  private var starts = 0

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

  /// Starts the guest's next QEMU: at the first place, at the other, and so on.
  private func start(_ options: String...) throws -> Guest {
    let index = starts % 2
    starts += 1
    let attached = way == .tap ? ["--tap", Migration.device(index)] : []
    let guest = try Guest(
      "vm\(index + 1)", number: 1, in: scratches[index % scratches.count],
      options: ["--device", layout, "--mac", Migration.mac, "--qmp", monitor(starts)] + attached
        + options)
    if way == .tap { try join(index) }
    return guest
  }

  /// Where a QEMU listens for what it is to do.
  private func monitor(_ start: Int) -> String { scratches[0].file("qmp-\(start)") }

  /// The guest, booted, before it moves.
  func boot() throws -> Guest {
    let guest = try start()
    try guest.awaitBoot()
    try guest.ping(Migration.peer)
    try guest.run("ip addr add \(Migration.quiet)/24 dev eth0")
    return guest
  }

  /// Moves the guest to the other place, and returns it there, and how long it stood still.
  private func move(
    _ guest: Guest, meanwhile: (() throws -> Void)? = nil
  ) throws -> (Guest, downtime: Int) {
    let from = monitor(starts)
    let place = scratches[0].file("move-\(starts)")
    let next = try start("--incoming", "unix:\(place)")
    try wait(upTo: 30, for: "the other place to wait for the guest") { access(place, F_OK) == 0 }
    let downtime = try Monitor(from).migrate(to: "unix:\(place)", meanwhile: meanwhile)
    try guest.moved(to: next)
    return (next, downtime)
  }

  /// Moves the guest while the network asks for it every ten milliseconds.
  ///
  /// - Returns: the guest at its new place; for how long it stood still, by what QEMU says, and for how long nobody had an answer of it,
  ///   in milliseconds.
  func moveUnderPings(_ guest: Guest) throws -> (guest: Guest, downtime: Int, gap: Int) {
    let ping = try network.start(
      "ping", "-n", "-D", "-i", "0.01", Migration.address, log: scratches[0].file("ping"))
    let (next, downtime) = try move(guest)
    try wait(upTo: 5, for: "the guest to announce itself") { try isAnnounced() }
    Thread.sleep(forTimeInterval: 1)
    ping.signal(SIGINT)
    _ = try ping.status(within: 5)
    return (next, downtime, try Migration.gap(ping.output))
  }

  /// Moves the guest with frames in its ring that came when all of its memory had been copied, and that it reads at its new place. TCP
  /// would hide it when they are garbled.
  ///
  /// - Returns: the guest, and checksums of what was sent and of what it read.
  func moveWithFramesWaiting(_ guest: Guest) throws -> (guest: Guest, sent: String, read: String) {
    // The driver may have left half of the ring without buffers.
    let (count, size) = (100, 1400)
    let data = scratches[0].file("datagrams")
    try network.run("dd if=/dev/urandom of=\(data) bs=\(size) count=\(count)")
    try network.run(
      "ip neigh replace \(Migration.address) lladdr \(Migration.mac) nud permanent dev bridge")
    let port = "vm\((starts - 1) % 2 + 1)"
    let daemon = daemons[(starts - 1) % daemons.count]
    // A driver that is down leaves its buffers in the ring, and reads nothing; when it is up it reads before the interface has its address
    // back, so that another must have it too. Meanwhile other memory is written, and not
    // with zeros, which QEMU sends in no time.
    try guest.run(
      "rm -f /tmp/moved; head -c 4194304 /dev/urandom >/tmp/noise; echo 4000000 >/proc/sys/net/core/rmem_default;"
        + " nc.openbsd -d -k -u -l 5003 >/tmp/datagrams 2>/dev/null &"
        + " { while [ ! -e /tmp/moved ]; do cat /tmp/noise >/tmp/dirt; done; } &"
        + " sleep 0.5; ip addr add \(Migration.address)/32 dev lo; ip link set eth0 down")
    let (next, _) = try move(guest) { [network] in
      let before = try daemon.port(port).sent
      try network.run(
        "bash -c 'dd if=\(data) bs=\(size) >/dev/udp/\(Migration.address)/5003'")
      var sent = before
      try wait(upTo: 20, for: "\(count) frames in the guest's ring: \(before), \(sent)") {
        sent = try daemon.port(port).sent
        return sent.frames >= before.frames + UInt64(count)
      }
    }
    let read = try next.run(
      "touch /tmp/moved; ip link set eth0 up; for i in $(seq 50); do"
        + " [ $(wc -c </tmp/datagrams) -ge \(count * size) ] && break; sleep 0.1; done;"
        + " md5sum </tmp/datagrams"
    )
    return (next, try network.run("md5sum <\(data)"), read)
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
        + " \(Stream.untilListening(5001))")
    let folder = scratches[0].file("there")
    // All of the pipe ends with it, or nobody could wait for the end.
    let command = try network.start(
      "timeout", "300", "bash", "-c",
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
      "timeout", "300", "bash", "-c", "nc.openbsd -d -l 5002 | md5sum >\(sum)",
      log: scratches[0].file("back.log"))
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
