import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// A daemon that takes over from another under its guests.
  @Suite(
    .enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"),
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct HandOver {
    let scratch: Scratch
    let network: Namespace
    let state = "/dev/shm/swivel-e2e-\(UUID().uuidString.prefix(13)).state"

    init() throws {
      scratch = try Scratch()
      network = try Namespace("swivel-over")
    }

    @Test(
      "Two hand-overs under TCP, whoever listens: no guest's link goes down, streams go on, and no count falls; nor when the new daemon dies at any step",
      arguments: ["packed=off", "packed=on"])
    func underTCP(layout: String) throws {
      defer { unlink(state) }
      let names = ["vm1", "vm2", "up", "late"]
      let daemon = try Daemon(
        ports: [
          Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch, mode: .client),
          Daemon.tap("up", device: "swivelover0"),
        ], scratch: scratch, more: "state: \(state)")
      // The host may have the guests' addresses itself, and would answer for them over an uplink in its own namespace.
      try network.take("swivelover0")
      let answer = try daemon.post(
        "{\"name\": \"late\", \"vhost-user\": {\"path\": \"\(scratch.file("late.sock"))\"}}")
      #expect(answer.contains("\"name\":\"late\""), "\(answer)")
      let options = ["--device", layout, "--trace", "vhost_user_event"]
      let vm1 = try Guest("vm1", number: 1, in: scratch, options: options)
      let vm2 = try Guest("vm2", number: 2, in: scratch, options: options + ["--listen"])
      let guests = [vm1, vm2]
      for guest in guests { try guest.awaitBoot() }
      try vm1.ping("192.0.2.2")
      try network.ping("192.0.2.1")
      let links = try guests.map { try link($0) }
      let streams = [
        try Stream.start(from: vm1, to: vm2, at: "192.0.2.2", port: 5001),
        try Stream.start(from: vm2, to: vm1, at: "2001:db8::1", port: 5002),
      ]
      try awaitFrames(daemon, 500)

      for step in ["offer", "stop", "state", "made"] {
        try daemon.failToTakeOver(at: step)
        #expect(try daemon.ports().map(\.name) == names, "\(step)")
        try awaitFrames(daemon, 50)
      }
      for round in 1...2 {
        let before = try daemon.stats()
        try daemon.takeOver()
        expectNoneFell(before, try daemon.stats())
        let ports = try daemon.ports()
        #expect(Set(ports.map(\.name)) == Set(names), "round \(round)")
        for port in ports where port.name.hasPrefix("vm") {
          #expect(port.vhostUser?.connections == 1, "round \(round): \(port)")
          #expect(port.state == .running, "\(port)")
        }
        try awaitFrames(daemon, 500)
      }

      for stream in streams { try stream.finish(vm1) }
      for (guest, before) in zip(guests, links) {
        #expect(try link(guest) == before, "\(guest.name)'s link has been down")
        // One opened, as QEMU says; none closed.
        let events = guest.log.components(separatedBy: "vhost_user_event").count - 1
        #expect(events == 1, "\(guest.log)")
      }
      try vm2.ping("2001:db8::1")
      try network.ping("192.0.2.2")
      try daemon.expectAccounted()
      for guest in guests { guest.end() }
      try daemon.stop()
    }

    /// How often a guest has seen its link come and go.
    private func link(_ guest: Guest) throws -> String {
      let changes = try guest.run("cat /sys/class/net/eth0/carrier_changes")
      return changes.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Waits until so many more frames have come from guests.
    private func awaitFrames(_ daemon: Daemon, _ count: UInt64) throws {
      let before = try daemon.stats().received.frames
      try wait(upTo: 60, for: "\(count) frames; the log:\n\(daemon.log)") {
        try daemon.stats().received.frames > before + count
      }
    }

    private func expectNoneFell(
      _ before: Stats, _ after: Stats, sourceLocation: SourceLocation = #_sourceLocation
    ) {
      let (earlier, later) = (counts(before), counts(after))
      #expect(!earlier.isEmpty, sourceLocation: sourceLocation)
      for (name, count) in earlier {
        #expect(later[name] ?? 0 >= count, "\(name)", sourceLocation: sourceLocation)
      }
    }

    /// Every counter, by its name.
    private func counts(_ stats: Stats) -> [String: UInt64] {
      var counts: [String: UInt64] = [:]
      func note(_ name: String, _ counters: Counters) {
        counts["\(name): frames"] = counters.frames
        counts["\(name): bytes"] = counters.bytes
        counts["\(name): bursts"] = counters.bursts
        counts["\(name): replicas"] = counters.replicas
        for (reason, count) in counters.drops { counts["\(name): \(reason)"] = count }
      }
      note("received", stats.received)
      note("sent", stats.sent)
      for port in stats.ports {
        note("\(port.name) received", port.received)
        note("\(port.name) sent", port.sent)
      }
      return counts
    }
  }
}
