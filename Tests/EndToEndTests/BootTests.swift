import Foundation
import Testing

extension EndToEnd {
  /// Drivers that come before an operating system's, or after another one's that has said no farewell.
  @Suite(
    .enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"),
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Boots {
    let scratch: Scratch
    let namespace: Namespace
    let daemon: Daemon
    /// Hands out the guest's kernel and initrd, by TFTP and HTTP.
    let server: Command

    init() throws {
      scratch = try Scratch()
      namespace = try Namespace("swivel-boots")
      daemon = try Daemon(
        ports: [
          Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch),
          Daemon.tap("uplink", device: "swivelboots0"),
        ], scratch: scratch)
      try namespace.take("swivelboots0")
      let image = try Command.run(Place.script("guest-image"), within: 180)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      for file in ["vmlinuz", "initrd"] {
        try FileManager.default.createSymbolicLink(
          atPath: scratch.file(file), withDestinationPath: "\(image)/\(file)")
      }
      server = try namespace.start(
        Place.script("netboot-server"), "swivelboots0", "192.0.2.254", scratch.path, "vmlinuz",
        log: scratch.file("netboot.log"))
    }

    @Test(
      "a kernel started from another one, under traffic (kexec), finds the rings as its predecessor left them",
      arguments: Compatibility.results == nil ? ["packed=on"] : ["", "packed=on"])
    func kexec(device: String) throws {
      let options = ["--memory", "384"] + (device.isEmpty ? [] : ["--device", device])
      let guest = try Guest("vm1", number: 1, in: scratch, options: options)
      let peer = try Guest("vm2", number: 2, in: scratch)
      try guest.awaitBoot()
      try peer.awaitBoot()
      try peer.run("ping -i 0.02 192.0.2.1 >/dev/null 2>&1 & echo $! >/tmp/pings")
      try guest.run(
        "cd /tmp && for f in vmlinuz initrd; do wget -q http://192.0.2.254/$f || exit; done",
        within: 90)
      let line = try guest.run("cat /proc/cmdline").trimmingCharacters(in: .whitespacesAndNewlines)
      #expect(throws: Failure.self) {
        try guest.run("kexec /tmp/vmlinuz /tmp/initrd '\(line) swivel.again=1'", within: 60)
      }
      try guest.awaitBoot()
      #expect(try guest.run("cat /proc/cmdline").contains("swivel.again=1"))
      try guest.ping("192.0.2.2")
      try guest.exchange(with: peer, at: "192.0.2.2", own: "2001:db8::1", mebibytes: 2)
      try peer.run("kill $(cat /tmp/pings)")
      guest.end()
      peer.end()
      try record("Linux, kexec under traffic", device.isEmpty ? "(defaults)" : device)
      try finish()
    }

    /// The firmware's driver, what its console says when the file is there, and on which machine that is.
    static let ownDrivers = [
      ("uefi", "NBP file downloaded successfully", "OVMF's VirtioNetDxe, PXE"),
      ("u-boot", "Bytes transferred = ", "U-Boot's virtio-net, TFTP (ARM)"),
    ]

    @Test(
      "firmware's own drivers load a kernel over the switch: OVMF, U-Boot",
      .enabled(
        if: Compatibility.results != nil,
        "part of scripts/compatibility: takes minutes"), arguments: ownDrivers)
    func firmware(name: String, done: String, title: String) throws {
      let guest = try Guest(
        "vm1", number: 1, in: scratch, options: ["--memory", "256", "--firmware", name])
      try wait(upTo: 180, for: "\(title): \(guest.console.suffix(2000))\n\(server.tail)") {
        guest.console.contains(done)
      }
      guest.end()
      try record(title, "(defaults)")
      try finish()
    }

    private func finish() throws {
      try daemon.expectAccounted()
      try daemon.stop()
    }

    private func record(_ title: String, _ options: String) throws {
      guard let folder = Compatibility.results else { return }
      try Table(folder: folder, name: "boots").add([title, "`\(options)`", "ok"])
    }
  }
}
