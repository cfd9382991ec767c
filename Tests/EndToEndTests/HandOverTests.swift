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
    let state = "/dev/shm/swivel-e2e-\(UUID().uuidString.prefix(13)).state"

    init() throws {
      scratch = try Scratch()
    }

    @Test(
      "Two hand-overs under TCP, after failures at every step: no guest connects again, no frame is dropped, no count falls",
      arguments: ["packed=off", "packed=on"])
    func underTCP(layout: String) throws {
      defer { unlink(state) }
      let device = "swh\(UInt16.random(in: 1000...9999))"
      let daemon = try Daemon(
        ports: [
          Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch, mode: .client),
          Daemon.tap("up", device: device),
        ], scratch: scratch, more: "state: \(state)")
      let answer = try daemon.post(
        "{\"name\": \"late\", \"vhost-user\": {\"path\": \"\(scratch.file("late.sock"))\"}}")
      #expect(answer.contains("\"name\":\"late\""), "\(answer)")
      let options = ["--device", layout]
      let vm1 = try Guest("vm1", number: 1, in: scratch, options: options)
      let vm2 = try Guest("vm2", number: 2, in: scratch, options: options + ["--listen"])
      try vm1.awaitBoot()
      try vm2.awaitBoot()
      try vm1.ping("192.0.2.2")
      let there = try vm1.startTransfer(to: "vm2", at: "192.0.2.2", mebibytes: 12)
      let back = try vm2.startTransfer(to: "vm1", at: "2001:db8::1", mebibytes: 12)
      for step in ["offer", "stop", "state", "made"] {
        try daemon.failToTakeOver(at: step)
        #expect(try daemon.ports().map(\.name) == ["vm1", "vm2", "up", "late"], "\(step)")
      }
      for round in 1...2 {
        let before = try daemon.stats()
        try daemon.takeOver()
        let after = try daemon.stats()
        #expect(after.received.frames >= before.received.frames, "round \(round)")
        let ports = try daemon.ports()
        #expect(Set(ports.map(\.name)) == ["vm1", "vm2", "up", "late"], "round \(round)")
        for port in ports where port.name.hasPrefix("vm") {
          #expect(port.vhostUser?.connections == 1, "round \(round): \(port)")
          #expect(port.state == .running, "\(port)")
        }
        try wait(upTo: 60, for: "frames after hand-over \(round)") {
          let isDone = !there.process.isRunning && !back.process.isRunning
          return try isDone || daemon.stats().received.frames > after.received.frames + 500
        }
      }
      try vm1.finish(there)
      try vm2.finish(back)
      try vm1.ping("192.0.2.2")
      try vm2.ping("2001:db8::1")
      try daemon.stop()
    }
  }
}
