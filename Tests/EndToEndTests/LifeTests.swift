import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// What guests live through: other numbers of queues, drivers that go and come, reboots, crashes, and a
  /// switch that starts anew. Meanwhile others talk and notice nothing.
  @Suite(
    .enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"),
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Life {
    let scratch: Scratch

    init() throws {
      scratch = try Scratch()
    }

    @Test(
      "ethtool -L, driver reloads, reboots and a killed QEMU of one guest disturb nobody; all outlive swiveld (E101, E102)"
    )
    func life() throws {
      let namespace = try Namespace("swivel-life")
      let guestPorts = [
        Daemon.vhost("vm1", in: scratch, queues: 8), Daemon.vhost("vm2", in: scratch),
      ]
      let daemon = try Daemon(
        ports: guestPorts + [Daemon.tap("uplink", device: "swivellife0")], scratch: scratch)
      try namespace.take("swivellife0")
      let manyQueues = ["--queues", "8", "--cpus", "2", "--reboot"]
      var vm1 = try Guest("vm1", number: 1, in: scratch, options: manyQueues)
      let vm2 = try Guest("vm2", number: 2, in: scratch)
      try vm2.awaitBoot()
      // These two go on talking while the other guest lives its life.
      let others = try Pings(from: namespace, to: "192.0.2.2", log: scratch.file("others.log"))
      try vm1.awaitBoot()
      try vm1.ping("192.0.2.2")

      try changeQueues(vm1, vm2, daemon)

      // The driver goes and comes, with frames for it under way.
      try vm2.run("ping -i 0.05 192.0.2.1 >/dev/null 2>&1 & echo $! >/tmp/pings")
      try vm1.run(
        "for i in 1 2 3 4 5; do rmmod virtio_net && insmod /modules/virtio_net.ko && sh /bin/network"
          + " || exit; done", within: 60)
      try vm1.ping("192.0.2.2")
      for _ in 1...3 {
        #expect(throws: Failure.self) { try vm1.run("reboot -f", within: 90) }
        #expect(vm1.isRunning)
      }
      try vm1.ping("192.0.2.2")
      try vm2.run("kill $(cat /tmp/pings)")

      try vm1.crash()
      try wait(upTo: 10, for: "vm1's port to wait again") {
        try daemon.port("vm1").state == .waiting
      }
      vm1 = try Guest("vm1", number: 3, in: scratch)
      try vm1.awaitBoot()
      try vm2.ping("192.0.2.3")
      #expect(try daemon.port("vm1").vhostUser?.connections == 2)
      let lost = try others.lost()
      #expect(lost <= 1, "\(lost) pings between others were lost: \(others.summary)")
      try daemon.expectAccounted()

      // Guests outlive the switch, stopped or crashed. A new TAP would not be in the namespace: without one.
      try daemon.reload(ports: guestPorts)
      try wait(upTo: 10, for: "the uplink to go") { try daemon.ports().count == 2 }
      try daemon.stop()
      try daemon.restart()
      try vm1.ping("192.0.2.2")
      try daemon.crash()  // its sockets are left, and stale
      try daemon.restart()
      try vm2.ping("2001:db8::3")
      try daemon.stop()
    }

    /// `ethtool -L` up and down while bytes flow both ways; then each number is what the switch sees.
    private func changeQueues(_ vm1: Guest, _ vm2: Guest, _ daemon: Daemon) throws {
      try vm1.run(
        "while [ ! -e /tmp/enough ]; do for n in 8 3 1 2 5; do ethtool -L eth0 combined $n"
          + " && echo $n >>/tmp/changes; sleep 0.2; done; done >/tmp/ethtool 2>&1 &")
      try vm1.exchange(with: vm2, at: "192.0.2.2", own: "2001:db8::1", mebibytes: 8)
      try vm1.run("touch /tmp/enough")
      let changes = try vm1.run("sleep 2; wc -l </tmp/changes; cat /tmp/ethtool")
      let count = Int(changes.split(whereSeparator: \.isWhitespace).first ?? "") ?? 0
      #expect(count >= 10, "queues were changed \(count) times: \(changes)")

      for pairs in [8, 1, 4] {
        // Nothing is to change when the number is the present one: that is an error to some ethtools.
        try vm1.run("ethtool -L eth0 combined \(pairs) || ethtool -l eth0")
        try wait(upTo: 10, for: "\(pairs) enabled queue pairs") {
          let queues = try daemon.port("vm1").queues
          return queues.filter { $0.state == .running }.map(\.index) == Array(0..<2 * pairs)
        }
        try vm1.ping("192.0.2.2", count: 1)
        try vm2.ping("2001:db8::1", count: 1)
      }
    }

    @Test("the first driver a guest runs is iPXE: it boots Linux over the switch, from the uplink")
    func networkBoot() throws {
      let namespace = try Namespace("swivel-boot")
      let daemon = try Daemon(
        ports: [Daemon.vhost("vm1", in: scratch), Daemon.tap("uplink", device: "swivelboot0")],
        scratch: scratch)
      try namespace.take("swivelboot0")
      let image = try Command.run(Place.script("guest-image"), within: 180)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      for file in ["vmlinuz", "initrd"] {
        try FileManager.default.createSymbolicLink(
          atPath: scratch.file(file), withDestinationPath: "\(image)/\(file)")
      }
      try """
      #!ipxe
      echo swivel: iPXE runs the script for ${net0/mac}
      kernel http://192.0.2.254/vmlinuz console=ttyS0 quiet mitigations=off no_timer_check \
      swivel.name=vm1 swivel.ip4=192.0.2.1/24 swivel.ip6=2001:db8::1/64
      initrd http://192.0.2.254/initrd
      boot

      """.write(toFile: scratch.file("boot.ipxe"), atomically: true, encoding: .utf8)
      let server = try namespace.start(
        Place.script("netboot-server"), "swivelboot0", "192.0.2.254", scratch.path, "boot.ipxe",
        log: scratch.file("netboot.log"))
      let vm1 = try Guest("vm1", number: 1, in: scratch, options: ["--netboot"])
      do {
        try vm1.awaitBoot()
      } catch {
        throw Failure("\(error)\nthe server's log:\n\(server.tail)")
      }
      #expect(vm1.console.contains("swivel: iPXE runs the script for 02:"), "\(vm1.console)")
      try vm1.ping("192.0.2.254")
      try namespace.ping("2001:db8::1")
      try daemon.expectAccounted()
      try daemon.stop()
    }
  }
}

/// A ping that goes on from a namespace, until one asks what it has lost.
private final class Pings {
  private let command: Command

  init(from namespace: Namespace, to address: String, log: String) throws {
    command = try namespace.start("ping", "-n", "-i", "0.1", address, log: log)
  }

  /// The line that counts, once `lost` was asked.
  var summary: String {
    command.output.split(separator: "\n").last { $0.contains("packets transmitted") }
      .map(String.init) ?? command.tail
  }

  func lost() throws -> Int {
    command.signal(SIGINT)
    _ = try command.status(within: 10)
    let numbers = summary.split(separator: " ").compactMap { Int($0) }
    guard numbers.count >= 2, numbers[0] > 10 else { throw Failure("ping says: \(command.tail)") }
    return numbers[0] - numbers[1]
  }
}
