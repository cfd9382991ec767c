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

    /// The ways of DPDK's driver: ring layout, mergeable buffers, order, and vector instructions.
    struct Path: Sendable {
      var name: String
      var device: String
      /// Its vector path; without vector instructions in the CPU, the plain one takes its place.
      var vector = false
    }

    static let paths = [
      Path(name: "split, mergeable", device: "mrg_rxbuf=1,in_order=0"),
      Path(name: "split, non-mergeable", device: "mrg_rxbuf=0,in_order=0"),
      Path(name: "split, in-order, mergeable", device: "mrg_rxbuf=1,in_order=1"),
      Path(name: "split, in-order, non-mergeable", device: "mrg_rxbuf=0,in_order=1"),
      Path(
        name: "split, vectorized", device: "mrg_rxbuf=0,in_order=0,vectorized=1", vector: true),
      Path(name: "packed, mergeable", device: "packed_vq=1,mrg_rxbuf=1,in_order=0"),
      Path(name: "packed, non-mergeable", device: "packed_vq=1,mrg_rxbuf=0,in_order=0"),
      Path(name: "packed, in-order, mergeable", device: "packed_vq=1,mrg_rxbuf=1,in_order=1"),
      Path(name: "packed, in-order, non-mergeable", device: "packed_vq=1,mrg_rxbuf=0,in_order=1"),
      Path(
        name: "packed, vectorized", device: "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
        vector: true),
      Path(
        name: "packed, vectorized, ring size no power of two",
        device: "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1,queue_size=1025", vector: true),
    ]

    @Test("10 million frames of 64 to 1518 bytes over DPDK's eleven paths, every one accounted for")
    func tenMillion() throws {
      let paths = Frames.paths
      let names = paths.indices.map { "p\($0)" }
      let scratch = try Scratch()
      let daemon = try Daemon(
        ports: names.map { Daemon.vhost($0, in: scratch) }, scratch: scratch)
      // What a port receives it sends on to the next: each path receives from one and sends to another.
      let addresses = paths.indices.map { "02:00:00:00:01:" + String($0 + 16, radix: 16) }
      let guest = try Testpmd(
        "ring", sockets: names.map { scratch.file("\($0).sock") }, addresses: addresses,
        peers: Array(addresses.dropFirst()) + addresses.prefix(1), mode: "mac",
        devices: paths.map { "," + $0.device }, in: scratch)

      for (name, path) in zip(names, paths) {
        let features = try daemon.port(name).vhostUser?.features ?? []
        func expect(_ feature: String, _ option: String) {
          #expect(features.contains(feature) == path.device.contains(option), "\(path.name)")
        }
        expect("VIRTIO_F_RING_PACKED", "packed_vq=1")
        expect("VIRTIO_F_IN_ORDER", "in_order=1")
        expect("VIRTIO_NET_F_MRG_RXBUF", "mrg_rxbuf=1")
        let ring = path.device.contains("queue_size=1025") ? 1025 : 1024
        #expect(try daemon.port(name).queues.allSatisfy { $0.size == ring }, "\(path.name)")
      }

      let total: UInt64 = 10_000_000
      var goal: UInt64 = 0
      for (index, size) in sizes.enumerated() {
        goal = total * UInt64(index + 1) / UInt64(sizes.count)
        try guest.type("set txpkts \(size)")
        try guest.type("start tx_first 2")
        try wait(upTo: 240, for: "\(goal) frames; the log:\n\(daemon.log)") {
          try guest.counts().reduce(0) { $0 + $1.received } >= goal
        }
        try guest.type("stop")
      }
      // Lets testpmd take what still lies in its receiveqs.
      try guest.type("set fwd rxonly")
      try guest.type("start")
      _ = try daemon.settledStats()
      try guest.type("stop")

      let counts = try guest.counts()
      let stats = try daemon.settledStats()
      try expectEqual(counts, stats)
      #expect(stats.sent.frames >= total)
      #expect(stats.received.bytes > stats.received.frames * 60)
      try daemon.expectAccounted()
      for ((name, path), count) in zip(zip(names, paths), counts) {
        #expect(count.received > total / 100, "\(path.name) received \(count.received) frames")
        #expect(count.transmitted > total / 100, "\(path.name) sent \(count.transmitted) frames")
        if let folder = Compatibility.results {
          let features = try daemon.port(name).vhostUser?.features ?? []
          try Table(folder: folder, name: "dpdk").add([
            path.name, "`\(path.device)`", "\(count.transmitted)", "\(count.received)", "ok",
            Table.short(features),
          ])
        }
      }
      for way in [
        "using inorder Rx path", "using vectorized ", "using mergeable ", "using standard ",
      ]
      where Machine.hasVectors || !way.contains("vector") {
        #expect(guest.said(way), "testpmd does not say '\(way)'")
      }
      try guest.quit()
      try daemon.stop()
    }

    @Test("a sender too fast for its receiver: what is not received is dropped by name")
    func overload() throws {
      let scratch = try Scratch()
      let daemon = try daemon(in: scratch)
      let receiver = try Testpmd(
        "receiver", sockets: [scratch.file("b.sock")], addresses: [addresses[1]],
        peers: [addresses[0]], mode: "rxonly", devices: [",in_order=0"], in: scratch)
      let sender = try Testpmd(
        "sender", sockets: [scratch.file("a.sock")], addresses: [addresses[0]],
        peers: [addresses[1]], mode: "txonly", devices: [",in_order=0"], in: scratch)
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
      _ = try daemon.settledStats()
      try receiver.type("stop")

      let stats = try daemon.settledStats()
      #expect(try sender.counts()[0].transmitted == stats.ports[0].received.frames)
      #expect(try receiver.counts()[0].received == stats.ports[1].sent.frames)
      try daemon.expectAccounted()
      try sender.quit()
      try receiver.quit()
      try daemon.stop()
    }

    /// What testpmd sent and received is what the switch took and delivered, port by port.
    private func expectEqual(_ counts: [Testpmd.Counts], _ stats: Stats) throws {
      #expect(counts.count == stats.ports.count)
      for (count, port) in zip(counts, stats.ports) {
        #expect(count.transmitted == port.received.frames, "port \(port.name)")
        #expect(count.received == port.sent.frames, "port \(port.name)")
      }
    }
  }
}
