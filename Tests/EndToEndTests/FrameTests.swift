import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// DPDK's virtio-user ports: many frames, every one of them accounted for.
  @Suite(.enabled(if: Machine.hasDPDK, "needs root, two CPUs and dpdk-testpmd"))
  struct Frames {
    private let addresses = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]
    /// As testpmd counts them, without the 4 bytes of the FCS: 64 to 1518 bytes on a wire.
    private let sizes = [60, 64, 124, 252, 508, 1020, 1276, 1514]

    private func daemon(in scratch: Scratch) throws -> Daemon {
      try Daemon(
        ports: [Daemon.vhost("a", in: scratch), Daemon.vhost("b", in: scratch)], scratch: scratch)
    }

    @Test(
      "10 million frames of 64 to 1518 bytes between two ports, every one accounted for",
      arguments: [
        ",in_order=0", ",in_order=0,mrg_rxbuf=0", ",in_order=1", ",in_order=1,mrg_rxbuf=0",
        ",packed_vq=1,in_order=0", ",packed_vq=1,in_order=0,mrg_rxbuf=0",
        ",packed_vq=1,in_order=1", ",packed_vq=1,in_order=1,mrg_rxbuf=0",
      ])
    func tenMillion(device: String) throws {
      let scratch = try Scratch()
      let daemon = try daemon(in: scratch)
      let guest = try Testpmd(
        "both", sockets: ["a", "b"].map { scratch.file("\($0).sock") }, addresses: addresses,
        peers: addresses.reversed(), mode: "mac", device: device, in: scratch)

      for name in ["a", "b"] {
        let features = try daemon.port(name).vhostUser?.features ?? []
        #expect(features.contains("VIRTIO_F_RING_PACKED") == device.contains("packed_vq=1"))
        #expect(features.contains("VIRTIO_F_IN_ORDER") == device.contains("in_order=1"))
      }

      // Each port sends what it receives back to the other: frames circulate until there were enough.
      let total: UInt64 = 10_000_000
      var goal: UInt64 = 0
      for (index, size) in sizes.enumerated() {
        goal = total * UInt64(index + 1) / UInt64(sizes.count)
        try guest.type("set fwd mac")
        try guest.type("set txpkts \(size)")
        try guest.type("start tx_first 16")
        try wait(upTo: 120, for: "\(goal) frames; the log:\n\(daemon.log)") {
          Thread.sleep(forTimeInterval: 0.2)
          return try guest.counts().reduce(0) { $0 + $1.received } >= goal
        }
        try guest.type("stop")
        try drain(guest, daemon)
      }

      let counts = try guest.counts()
      let stats = try daemon.settledStats()
      try expectEqual(counts, stats, guest: "both")
      #expect(stats.sent.frames >= total)
      #expect(stats.received.bytes > stats.received.frames * 60)
      try daemon.expectAccounted()
      try guest.quit()
      try daemon.stop()
    }

    @Test("a sender too fast for its receiver: what is not received is dropped by name")
    func overload() throws {
      let scratch = try Scratch()
      let daemon = try daemon(in: scratch)
      let receiver = try Testpmd(
        "receiver", sockets: [scratch.file("b.sock")], addresses: [addresses[1]],
        peers: [addresses[0]], mode: "rxonly", device: ",in_order=0", in: scratch)
      let sender = try Testpmd(
        "sender", sockets: [scratch.file("a.sock")], addresses: [addresses[0]],
        peers: [addresses[1]], mode: "txonly", device: ",in_order=0", in: scratch)
      try sender.type("start")
      // Nobody takes them out of the receiver's ring: they are dropped, for want of a buffer.
      try wait(upTo: 60, for: "a million frames") { try sender.counts()[0].transmitted > 1_000_000 }
      let unread = try daemon.stats()
      #expect(unread.received.dropped + unread.sent.dropped > 0, "\(unread)")
      try receiver.type("start")
      try wait(upTo: 60, for: "100000 frames to arrive") {
        try receiver.counts()[0].received > 100_000
      }
      try sender.type("stop")
      Thread.sleep(forTimeInterval: 1)
      try receiver.type("stop")

      let stats = try daemon.settledStats()
      #expect(try sender.counts()[0].transmitted == stats.ports[0].received.frames)
      #expect(try receiver.counts()[0].received == stats.ports[1].sent.frames)
      try daemon.expectAccounted()
      try sender.quit()
      try receiver.quit()
      try daemon.stop()
    }

    /// Lets testpmd take what still lies in its receiveqs.
    private func drain(_ guest: Testpmd, _ daemon: Daemon) throws {
      try guest.type("set fwd rxonly")
      try guest.type("start")
      _ = try daemon.settledStats()
      try guest.type("stop")
    }

    /// What testpmd sent and received is what the switch took and delivered, port by port.
    private func expectEqual(_ counts: [Testpmd.Counts], _ stats: Stats, guest: String) throws {
      #expect(counts.count == stats.ports.count)
      for (count, port) in zip(counts, stats.ports) {
        #expect(count.transmitted == port.received.frames, "\(guest), port \(port.name)")
        #expect(count.received == port.sent.frames, "\(guest), port \(port.name)")
      }
    }
  }
}
