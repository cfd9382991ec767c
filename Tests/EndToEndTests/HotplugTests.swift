import ControlAPI
import Testing

extension EndToEnd {
  /// What a guest gets, and gives back, while it runs.
  @Suite(
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"),
    .enabled(if: Compatibility.results != nil, "part of scripts/compatibility: takes a minute"))
  struct Hotplug {
    let scratch: Scratch

    init() throws {
      scratch = try Scratch()
    }

    @Test(
      "Memory is plugged in under TCP, eight pieces, frames lie in it, and a piece is taken out again (E86, E87)",
      arguments: ["packed=off", "packed=on"])
    func memory(layout: String) throws {
      let daemon = try Daemon(
        ports: [Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch)],
        scratch: scratch)
      let vm1 = try Guest(
        "vm1", number: 1, in: scratch,
        options: ["--device", layout, "--qmp", scratch.file("qmp"), "--slots", "8"])
      let vm2 = try Guest("vm2", number: 2, in: scratch)
      try vm1.awaitBoot()
      try vm2.awaitBoot()
      try vm1.ping("192.0.2.2")
      func regions() throws -> Int { try daemon.port("vm1").vhostUser?.memoryRegions.count ?? 0 }
      let before = try regions()
      let there = try vm1.startTransfer(to: "vm2", at: "192.0.2.2", mebibytes: 16)
      let back = try vm2.startTransfer(to: "vm1", at: "2001:db8::1", mebibytes: 16)

      let monitor = try Monitor(scratch.file("qmp"))
      for slot in 0..<8 {
        try monitor.ask(
          "object-add",
          [
            "qom-type": "memory-backend-memfd", "id": "more\(slot)", "size": 128 << 20,
            "share": true,
          ])
        try monitor.ask(
          "device_add", ["driver": "pc-dimm", "id": "dimm\(slot)", "memdev": "more\(slot)"])
        try wait(upTo: 20, for: "region \(slot) beside \(before)") {
          try regions() == before + slot + 1
        }
      }
      try vm1.finish(there)
      try vm2.finish(back)

      // All but the last are the kernel's, for whatever it likes; what it was started with is filled.
      let added = try vm1.run(
        "for i in $(seq 50); do n=$(grep -l offline /sys/devices/system/memory/*/state | wc -l);"
          + " [ $n -ge 8 ] && break; sleep 0.2; done;"
          + " set -- $(grep -l offline /sys/devices/system/memory/*/state | sort -V);"
          + " while [ $# -gt 1 ]; do echo online_kernel >$1 || exit; shift; done;"
          + " echo online_movable >$1 || exit;"
          + " mkdir -p /mnt && mount -t tmpfs -o size=800m tmpfs /mnt && head -c 200m /dev/zero >/mnt/fill || exit;"
          + " grep MemTotal /proc/meminfo", within: 150)
      let total = added.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }.last ?? 0
      #expect(total > 1_000_000, "\(added)")
      try vm1.exchange(with: vm2, at: "192.0.2.2", own: "2001:db8::1", mebibytes: 16)

      try vm1.run("umount /mnt")
      let streams = (
        try vm1.startTransfer(to: "vm2", at: "192.0.2.2", mebibytes: 8),
        try vm2.startTransfer(to: "vm1", at: "2001:db8::1", mebibytes: 8)
      )
      try monitor.ask("device_del", ["id": "dimm7"])
      try wait(upTo: 30, for: "the last region to go") { try regions() == before + 7 }
      try vm1.finish(streams.0)
      try vm2.finish(streams.1)
      let port = try daemon.port("vm1")
      #expect(port.state == .running && port.faults.filter { $0.key != "slow_interrupts" } == [:])
      try daemon.expectAccounted()
      try daemon.stop()
    }
  }
}
