import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// SIGHUP, while guests talk.
  @Suite(.enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Reload {
    @Test("a reload adds and removes ports, a bad one changes nothing, and no ping is lost")
    func reload() throws {
      let scratch = try Scratch()
      let both = [Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch)]
      let daemon = try Daemon(ports: both, scratch: scratch)
      let vm1 = try Guest("vm1", number: 1, in: scratch)
      let vm2 = try Guest("vm2", number: 2, in: scratch)
      try vm1.awaitBoot()
      try vm2.awaitBoot()
      try vm1.ping("192.0.2.2")
      try vm1.run("ping -i 0.1 192.0.2.2 >/tmp/pings 2>&1 & echo $! >/tmp/pid")

      for round in 1...3 {
        let name = "extra\(round)"
        try daemon.reload(ports: both + [Daemon.vhost(name, in: scratch)])
        try wait(upTo: 30, for: "\(name) to appear; the log:\n\(daemon.log)") {
          try daemon.ports().map(\.name) == ["vm1", "vm2", name]
        }
        #expect(access(scratch.file("\(name).sock"), F_OK) == 0)
        try daemon.reload(ports: both)
        try wait(upTo: 30, for: "\(name) to go; the log:\n\(daemon.log)") {
          try daemon.ports().map(\.name) == ["vm1", "vm2"]
        }
        #expect(access(scratch.file("\(name).sock"), F_OK) != 0)
      }

      let before = try daemon.ports().map(\.name)
      for bad in [
        "ports: [ { name: vm1, vhost-user: { path: /tmp/x.sock, mode: sideways } } ]\n",
        "ports:\n  - { name: vm1, no-such-key: 1 }\n",
        "ports: [",
      ] {
        let said = daemon.wholeLog.count
        try daemon.reload(text: bad)
        try wait(upTo: 30, for: "the daemon to say what it refuses; its log:\n\(daemon.log)") {
          daemon.wholeLog.dropFirst(said).contains("swivel.yaml:")
        }
        Thread.sleep(forTimeInterval: 0.3)
        #expect(daemon.isRunning)
        #expect(try daemon.ports().map(\.name) == before)
      }

      try vm1.run("kill -INT $(cat /tmp/pid); sleep 0.5")
      let pings = try vm1.run("cat /tmp/pings")
      // Those still on their way at the end are not lost, and on a busy machine they may be several.
      let answered = pings.split(whereSeparator: \.isWhitespace).compactMap { word in
        word.hasPrefix("seq=") ? Int(word.dropFirst(4)) : nil
      }
      #expect(answered.count >= 10, "\(pings)")
      #expect(answered == Array(0..<answered.count), "\(pings)")
      try daemon.stop()
    }
  }
}
