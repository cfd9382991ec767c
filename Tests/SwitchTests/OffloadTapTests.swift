import ControlAPI
import Foundation
import Linux
import Switch
import Testing
import VirtioDriver

/// Offloads between guests and the host's own network stack, which does them itself.
extension SwitchTests {
  @Suite(
    .enabled(
      if: geteuid() == 0 && FileManager.default.fileExists(atPath: "/dev/net/tun"),
      "needs root and /dev/net/tun for TAP devices"))
  struct OffloadTapTests {
    /// What the kernel takes over of a TAP's frames; datagrams since Linux 6.2.
    private static let kernel: VirtioFeatures = {
      let release = ProcessInfo.processInfo.operatingSystemVersion
      let hasDatagrams = (release.majorVersion, release.minorVersion) >= (6, 2)
      return hasDatagrams
        ? OffloadBed.guestAll : OffloadBed.guestAll.subtracting([.guestUSO4, .guestUSO6])
    }()

    /// A TAP with nothing of the host's own on it.
    private func tap(_ bench: Bench) throws -> PacketSocket {
      let device = "swo\(getpid() % 100_000)"
      _ = try bench.fabric.addPort(
        PortRequest(name: "uplink", tap: TapRequest(device: device)))
      let quiet = "/proc/sys/net/ipv6/conf/\(device)/disable_ipv6"
      if FileManager.default.fileExists(atPath: quiet) {
        try "1".write(toFile: quiet, atomically: false, encoding: .utf8)
      }
      return try PacketSocket(interface: device)
    }

    /// Frames without tags, which the kernel keeps apart, and none that are but one segment, which it knows.
    private func shipments(to station: Int, from: Int) -> [OffloadBed.Shipment] {
      // Linux cuts up itself what has 64 KiB or more.
      (OffloadBed.shipments(to: .station(station))
        + OffloadBed.longest(to: .station(station), limit: 65_500))
        .filter { shipment in
          if case .segmented(let size) = shipment.mode, shipment.packet.payload.count <= size {
            return false
          }
          return shipment.packet.tags == []
        }
        .map { shipment in
          var shipment = shipment
          shipment.packet.source = .station(from)
          return shipment
        }
    }

    /// Linux lets no device segment what has IPv6 extension headers, and sends nothing longer than the MTU.
    private static func isPassedOn(_ shipment: OffloadBed.Shipment) -> Bool {
      guard case .segmented = shipment.mode else { return shipment.packet.length <= 1514 }
      guard case .ipv6(let extensions) = shipment.packet.network else { return true }
      return extensions.isEmpty
    }

    @Test("To a TAP the header passes through, and the kernel believes it")
    func toKernel() throws {
      let bench = try Bench()
      let uplink = try tap(bench)
      let guest = try bench.attach("g0", OffloadBed.options(OffloadBed.hostAll))
      let bed = OffloadBed(sender: guest, receivers: [])
      // Nobody has this address, so all goes to the one other port.
      for shipment in shipments(to: 9, from: 0) {
        bed.send(shipment.packet.frame(shipment.mode), shipment.packet.header(shipment.mode))
        let count = shipment.packet.arrivals(shipment.mode, features: Self.kernel)
        var received: [QueuePair.Received] = []
        let came = eventually {
          while let one = uplink.receive() {
            if one.frame.starts(with: Address.station(9).bytes) { received.append(one) }
          }
          return received.count >= count
        }
        try #require(came, "\(shipment.text)")
        for index in received.indices { received[index].header.numBuffers = 0 }
        let wrong = shipment.packet.judge(received, shipment.mode, features: Self.kernel)
        #expect(wrong == [], "\(shipment.text)")
        for one in received where shipment.mode != .full {
          #expect(one.header.flags == NetHeader.needsCsum, "passed through: \(shipment.text)")
        }
      }
      #expect(try bench.port("uplink").sent.drops == [:])
    }

    @Test(
      "What the host leaves undone is done for the guest that cannot, and for no other (E53, E54)")
    func fromKernel() throws {
      let bench = try Bench()
      let uplink = try tap(bench)
      let features: [VirtioFeatures] = [OffloadBed.guestAll, .guestCsum, []]
      let bed = OffloadBed(
        sender: try bench.attach("g0"),
        receivers: try features.enumerated().map { index, features in
          try bench.attach("g\(index + 1)", OffloadBed.options(features))
        })
      try introduce([bed.sender] + bed.receivers)
      for (index, receiver) in bed.receivers.enumerated() {
        for shipment in shipments(to: index + 1, from: 7) where Self.isPassedOn(shipment) {
          let before = try bench.port("g\(index + 1)").sent.frames
          #expect(
            uplink.send(
              shipment.packet.frame(shipment.mode), shipment.packet.header(shipment.mode)),
            "\(shipment.text)")
          // A kernel that can't hand such a frame to a TAP has cut it up itself.
          let needed = shipment.packet.arrivals(
            shipment.mode, features: receiver.features.intersection(Self.kernel))
          let came = eventually {
            (try? bench.port("g\(index + 1)").sent.frames) ?? 0 >= before + UInt64(needed)
          }
          try #require(came, "\(shipment.text)")
          bed.check(receiver, [shipment], "receiver \(index)")
        }
      }
      #expect(bed.receivers.flatMap(\.offences) == [])
    }
  }
}
