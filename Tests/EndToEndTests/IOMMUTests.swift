import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// A Linux guest whose driver's addresses go through QEMU's intel-iommu.
  @Suite(.enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct IOMMUs {
    let scratch: Scratch

    init() throws {
      scratch = try Scratch()
    }

    private func boot(_ mode: String) throws -> (daemon: Daemon, vm1: Guest, vm2: Guest) {
      let daemon = try Daemon(
        ports: [Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch)],
        scratch: scratch)
      let vm1 = try Guest("vm1", number: 1, in: scratch, options: ["--iommu", mode])
      let vm2 = try Guest("vm2", number: 2, in: scratch)
      try vm1.awaitBoot()
      try vm2.awaitBoot()
      return (daemon, vm1, vm2)
    }

    /// Sends echo requests, each as soon as the one before was answered, as all are to be. Of several at a time a guest that is
    /// slower than its peer loses some for want of buffers, and busybox gives up those that come late.
    private func flood(
      _ guest: Guest, _ address: String, count: Int, bytes: Int = 56, _ daemon: Daemon
    ) throws {
      let text = try guest.run(
        "n=0; for i in $(seq \(count)); do ping -c 1 -W 10 -s \(bytes) \(address) >/dev/null"
          + " && n=$((n + 1)); done; echo $n", within: 180)
      let drops = try daemon.ports().map { "\($0.name): \($0.received.drops), \($0.sent.drops)" }
      #expect(
        text.trimmingCharacters(in: .whitespacesAndNewlines) == "\(count)",
        "\(guest.name) to \(address), \(bytes) bytes: \(text)\(drops)")
    }

    @Test(
      "a guest behind an IOMMU, strict or lazy, loses no ping, of 64 KiB neither, and moves bytes by TCP (E98)",
      arguments: ["strict", "lazy"])
    func talk(_ mode: String) throws {
      let (daemon, vm1, vm2) = try boot(mode)
      // These learn each other's addresses.
      try vm1.ping("192.0.2.2")
      try vm2.ping("2001:db8::1")
      for (guest, address) in [(vm1, "192.0.2.2"), (vm2, "192.0.2.1")] {
        try flood(guest, address, count: 100, daemon)
        // Forty-five frames each.
        try flood(guest, address, count: 10, bytes: 65500, daemon)
      }
      try vm1.transfer(to: "vm2", at: "192.0.2.2", mebibytes: 4)
      try vm2.transfer(to: "vm1", at: "2001:db8::1", mebibytes: 4)

      let port = try daemon.port("vm1")
      #expect(port.vhostUser?.features.contains("VIRTIO_F_ACCESS_PLATFORM") == true)
      let iotlb = try #require(port.vhostUser?.iotlb)
      #expect(iotlb.updates > 0 && iotlb.misses > 0 && iotlb.invalidations > 0)
      // Nobody was suspected.
      #expect(port.faults["invalidations_missing"] == nil)
      #expect(try daemon.port("vm2").vhostUser?.iotlb == nil)
      try daemon.expectAccounted()
      try daemon.stop()
    }

    @Test(
      "what an IOMMU costs, strict and lazy, beside none",
      .enabled(if: Compatibility.results != nil, "measured by scripts/compatibility alone"))
    func rates() throws {
      let modes = [("none", "without an IOMMU"), ("strict", "strict"), ("lazy", "lazy")]
      let daemon = try Daemon(
        ports: (modes.map(\.0) + ["vm2"]).map { Daemon.vhost($0, in: scratch) }, scratch: scratch)
      let peer = try Guest("vm2", number: 2, in: scratch)
      try peer.awaitBoot()
      var rates: [String: (there: [Double], back: [Double])] = [:]
      for _ in 0..<3 {
        for (mode, _) in modes {
          let guest = try Guest(
            mode, number: 1, in: scratch, options: mode == "none" ? [] : ["--iommu", mode])
          defer { guest.end() }
          try guest.awaitBoot()
          try peer.run("ip neigh flush dev eth0; ip -6 neigh flush dev eth0")
          try guest.ping("192.0.2.2")
          let mebibytes = 32
          rates[mode, default: ([], [])].there.append(
            try guest.rate(to: "vm2", at: "192.0.2.2", mebibytes: mebibytes))
          rates[mode, default: ([], [])].back.append(
            try peer.rate(to: mode, at: "192.0.2.1", mebibytes: mebibytes))
        }
      }
      for (mode, title) in modes {
        let (there, back) = try #require(rates[mode])
        try Table(folder: Compatibility.results ?? "", name: "iommu").add(
          [title] + [there, back].map { String(format: "%.0f Mbit/s", $0.sorted()[1]) })
      }
      try daemon.stop()
    }

    @Test("a guest whose front-end is not told what its IOMMU takes back is stopped by name")
    func rootBus() throws {
      let (daemon, vm1, vm2) = try boot("root-bus")
      _ = try? vm1.ping("192.0.2.2")
      try wait(upTo: 120, for: "the port to be stopped") {
        _ = try vm2.run("ping -c 20 -i 0.05 -W 1 192.0.2.1 >/dev/null; true")
        return try daemon.port("vm1").state == .broken
      }
      let port = try daemon.port("vm1")
      #expect(port.explanation.contains("root port"))
      #expect(port.faults["invalidations_missing"] != nil)
      #expect(port.vhostUser?.iotlb?.entries == 0)
      try daemon.stop()
    }
  }
}
