import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// Guests that move from one host to another: two daemons, whose uplinks a bridge in a namespace of its own joins.
  @Suite(
    .enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"),
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Migration {
    let hosts: [Scratch]
    let network: Namespace
    /// Moves in a test; scripts/migrate-many wants more.
    static let moves =
      ProcessInfo.processInfo.environment["SWIVEL_MIGRATIONS"].flatMap { Int($0) } ?? 2

    init() throws {
      hosts = [try Scratch(), try Scratch()]
      network = try Namespace("swmignet")
    }

    private func inNetwork(_ words: String...) throws -> String {
      try Command.run("sh", "-c", "ip netns exec \(network.name) \(words.joined(separator: " "))")
    }

    private func device(_ host: Int) -> String { "swmig\(host)" }

    /// Both daemons, and the bridge between them, which has the address of a peer.
    private func daemons() throws -> [Daemon] {
      let daemons = try hosts.enumerated().map { index, host in
        try Daemon(
          ports: [Daemon.vhost("vm1", in: host), Daemon.tap("up", device: device(index))],
          scratch: host)
      }
      _ = try inNetwork("ip link add bridge type bridge")
      for index in hosts.indices {
        try Command.run("ip", "link", "set", device(index), "netns", network.name)
        _ = try inNetwork("ip link set \(device(index)) master bridge up")
      }
      _ = try inNetwork("ip addr add 192.0.2.254/24 dev bridge")
      _ = try inNetwork("ip link set bridge up")
      return daemons
    }

    /// A shell's loop that says a file of 64 KiB again and again, for longer than the moves take.
    private func stream(_ file: String, pause: String) -> String {
      "i=0; while [ $i -lt \(150 * Self.moves) ]; do i=$((i + 1)); printf %08d $i; cat \(file); \(pause); done"
    }

    private func word(_ text: String) -> String {
      text.split(whereSeparator: \.isWhitespace).first.map(String.init) ?? ""
    }

    @Test(
      "A guest moves to another host and back: its streams go on both ways, and it is found there at once (E88, E92)",
      arguments: ["packed=off", "packed=on"])
    func moves(layout: String) throws {
      let daemons = try daemons()
      let options = ["--device", layout]
      func start(_ host: Int, incoming: String? = nil) throws -> Guest {
        try Guest(
          "vm1", number: 1, in: hosts[host],
          options: options + ["--qmp", hosts[host].file("qmp")]
            + (incoming.map { ["--incoming", $0] } ?? []))
      }
      var guest = try start(0)
      try guest.awaitBoot()
      try guest.ping("192.0.2.254")

      // A stream each way, of the same bytes.
      let there = hosts[0].file("received")
      let listener = try network.start(
        "sh", "-c", "nc.openbsd -d -l 5002 | md5sum > \(there)", log: hosts[0].file("nc.log"))
      try guest.run(
        "head -c 65536 /dev/urandom > /tmp/block; (\(stream("/tmp/block", pause: ":"))) | md5sum > /tmp/sent"
      )
      try guest.run(
        "{ nc.openbsd -d -l 5001 | md5sum > /tmp/sum; mv /tmp/sum /tmp/received; } >/dev/null 2>&1 &"
      )
      try guest.run(
        "{ (\(stream("/tmp/block", pause: "sleep 0.05"))) | nc.openbsd -N 192.0.2.254 5002; } >/dev/null 2>&1 &"
      )
      let block = hosts[0].file("block")
      try Command.run("sh", "-c", "head -c 65536 /dev/urandom > \(block)")
      let sent = try Command.run("sh", "-c", "(\(stream(block, pause: ":"))) | md5sum")
      let back = try network.start(
        "sh", "-c",
        "sleep 1; (\(stream(block, pause: "sleep 0.05"))) | nc.openbsd -N 192.0.2.1 5001",
        log: hosts[0].file("back.log"))
      Thread.sleep(forTimeInterval: 2)
      #expect(back.process.isRunning && listener.process.isRunning, "\(back.tail) \(listener.tail)")

      for move in 1...Self.moves {
        let target = move % 2
        let place = "unix:\(hosts[target].file("move"))"
        let next = try start(target, incoming: place)
        let log = hosts[0].file("ping-\(move)")
        let ping = try network.start("ping", "-n", "-D", "-i", "0.01", "192.0.2.1", log: log)
        Thread.sleep(forTimeInterval: 1)
        let downtime = try Monitor(hosts[1 - target].file("qmp")).migrate(to: place)
        try guest.moved(to: next)
        // Its network hears of it before it answers anybody.
        let address = try #require(
          try daemons[target].macs().first { $0.port == "vm1" }?.mac, "move \(move)")
        let known = try inNetwork("bridge fdb show br bridge")
        #expect(
          known.split(separator: "\n").contains {
            $0.hasPrefix(address) && $0.contains(device(target))
          }, "move \(move): \(known)")
        Thread.sleep(forTimeInterval: 1)
        ping.signal(SIGINT)
        _ = try ping.status(within: 5)
        print(
          "move \(move), \(layout): downtime \(downtime) ms, silence \(silence(ping.output)) ms")
        guest = next
      }

      try wait(upTo: 120, for: "the streams to end") {
        !back.process.isRunning && !listener.process.isRunning
      }
      let arrived = try guest.run(
        "for i in $(seq 100); do [ -e /tmp/received ] && break; sleep 0.2; done; cat /tmp/received",
        within: 40)
      #expect(word(arrived) == word(sent) && !word(sent).isEmpty)
      #expect(
        word(try String(contentsOfFile: there, encoding: .utf8))
          == word(try guest.run("cat /tmp/sent")))
      for daemon in daemons {
        let port = try daemon.port("vm1")
        #expect(port.faults.filter { $0.key != "slow_interrupts" } == [:], "\(port)")
      }
      guest.end()
      for daemon in daemons { try daemon.stop() }
    }

    /// The longest time between two answers, in milliseconds, by the times that ping gives.
    private func silence(_ output: String) -> Int {
      let times = output.split(separator: "\n").compactMap { line -> Double? in
        guard line.contains("bytes from"), let end = line.firstIndex(of: "]") else { return nil }
        return Double(line.dropFirst().prefix(upTo: end))
      }
      return Int(1000 * (zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? -1))
    }
  }
}
