import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// Linux guests with their stock virtio-net driver, and a namespace of the host behind the TAP uplink.
  @Suite(
    .enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"),
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Guests {
    let scratch: Scratch

    init() throws {
      scratch = try Scratch()
    }

    @Test("two guests and the uplink's namespace talk to one another; 64 MiB arrive as sent")
    func talk() throws {
      let namespace = try Namespace("swivel-test")
      let daemon = try Daemon(
        ports: [
          Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch),
          Daemon.tap("uplink", device: "swiveltest0"),
        ], scratch: scratch)
      try namespace.take("swiveltest0")
      let vm1 = try Guest("vm1", number: 1, in: scratch)
      let vm2 = try Guest("vm2", number: 2, in: scratch)
      try vm1.awaitBoot()
      try vm2.awaitBoot()

      try vm1.ping("192.0.2.2")
      try vm2.ping("2001:db8::1")
      try vm1.ping("192.0.2.254")
      try vm2.ping("2001:db8::fe")
      try namespace.ping("192.0.2.1")
      try namespace.ping("2001:db8::2")
      try vm1.transfer(to: "vm2", at: "192.0.2.2")
      try vm2.transfer(to: "netns:swivel-test", at: "2001:db8::fe", mebibytes: 16)

      // What the daemon says of it.
      for name in ["vm1", "vm2"] {
        let port = try daemon.port(name)
        #expect(port.state == .running)
        #expect(port.vhostUser?.features.contains("VIRTIO_F_VERSION_1") == true)
        #expect(port.vhostUser?.memoryRegions.isEmpty == false)
        #expect(port.received.frames > 0 && port.sent.frames > 0)
      }
      let learned = try Dictionary(grouping: daemon.macs(), by: \.port)
      #expect(learned["vm1"]?.count == 1)
      #expect(learned["vm2"]?.count == 1)
      #expect(learned["uplink"]?.isEmpty == false)
      try daemon.expectAccounted()

      vm1.end()
      vm2.end()
      try wait(upTo: 10, for: "the ports to wait for front-ends again") {
        try ["vm1", "vm2"].allSatisfy { try daemon.port($0).state == .waiting }
      }
      try daemon.stop()
      #expect(!namespace.has("swiveltest0"))
    }

    @Test("ports in client mode: QEMU listens, swivel connects, whoever comes first, and again")
    func clientMode() throws {
      let daemon = try Daemon(
        ports: [
          Daemon.vhost("vm1", in: scratch, mode: .client),
          Daemon.vhost("vm2", in: scratch, mode: .client),
        ], scratch: scratch)
      var vm1 = try Guest("vm1", number: 1, in: scratch, options: ["--listen"])
      let vm2 = try Guest("vm2", number: 2, in: scratch, options: ["--listen"])
      try vm1.awaitBoot()
      try vm2.awaitBoot()
      try vm1.ping("192.0.2.2")

      vm1.end()
      vm1 = try Guest("vm1", number: 1, in: scratch, options: ["--listen"])
      try vm1.awaitBoot()
      try vm2.ping("2001:db8::1")
      try daemon.stop()
    }
  }
}
