import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// A switch that dies and starts again under its guests.
  @Suite(
    .enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"),
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Restart {
    let scratch: Scratch
    /// Positions of rings are kept in memory, where /tmp may be on a disk.
    let state = "/dev/shm/swivel-e2e-\(UUID().uuidString.prefix(13)).state"

    init() throws {
      scratch = try Scratch()
    }

    @Test(
      "kill -9 under TCP, three times: streams go on, of split rings and packed ones, whoever listens; what came by API is back",
      arguments: ["packed=off", "packed=on"])
    func killed(layout: String) throws {
      defer { unlink(state) }
      let daemon = try Daemon(
        ports: [
          Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch, mode: .client),
        ], scratch: scratch, more: "state: \(state)")
      let answer = try daemon.post(
        "{\"name\": \"late\", \"vhost-user\": {\"path\": \"\(scratch.file("late.sock"))\"}}")
      #expect(answer.contains("\"name\":\"late\""), "\(answer)")
      let device = ["--device", layout]
      let vm1 = try Guest("vm1", number: 1, in: scratch, options: device)
      let vm2 = try Guest("vm2", number: 2, in: scratch, options: device + ["--listen"])
      try vm1.awaitBoot()
      try vm2.awaitBoot()
      try vm1.ping("192.0.2.2")
      let there = try vm1.startTransfer(to: "vm2", at: "192.0.2.2", mebibytes: 12)
      let back = try vm2.startTransfer(to: "vm1", at: "2001:db8::1", mebibytes: 12)
      for round in 1...3 {
        let before = try daemon.stats().received.frames
        try wait(upTo: 60, for: "frames before kill \(round)") {
          let isDone = !there.process.isRunning && !back.process.isRunning
          return try isDone || daemon.stats().received.frames > before + 500
        }
        // What was learned is kept by the second.
        Thread.sleep(forTimeInterval: 1.5)
        try daemon.crash()
        try daemon.restart()
        #expect(try daemon.ports().map(\.name) == ["vm1", "vm2", "late"], "round \(round)")
        #expect(daemon.log.contains("goes on from the daemon before: "), "\(daemon.log)")
      }
      try vm1.finish(there)
      try vm2.finish(back)
      try vm1.ping("192.0.2.2")
      try vm2.ping("2001:db8::1")
      for name in ["vm1", "vm2"] {
        let port = try daemon.port(name)
        #expect(port.state == .running, "\(port)")
        #expect(port.faults.filter { $0.key != "slow_interrupts" } == [:], "\(port)")
      }
      try daemon.stop()
    }
  }
}
