import ControlAPI
import Foundation
import Linux
import Logging
import Switch
import Testing
import VirtioDriver

/// TAP ports against the host's own network stack, in namespaces made for the purpose.
@Suite(
  .serialized,
  .enabled(
    if: geteuid() == 0 && FileManager.default.fileExists(atPath: "/dev/net/tun"),
    "needs root and /dev/net/tun for TAP devices"))
struct TapPortTests {
  private let tag = "\(getpid() % 100_000)"

  private func quietSwitch() throws -> Switch {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return try Switch(
      Switch.Configuration(cpus: [0], pinned: false, hugepages: false), logger: logger)
  }

  @Test("Two namespaces behind TAPs of one and of three queues reach each other, IPv4 and IPv6")
  func namespaces() throws {
    let network = try quietSwitch()
    defer { network.stop() }
    let ends = [("swa\(tag)", "swivel-a-\(tag)", 1, 1), ("swb\(tag)", "swivel-b-\(tag)", 3, 2)]
    defer { for (_, space, _, _) in ends { Command.run("ip", "netns", "del", space) } }
    for (device, space, queues, number) in ends {
      _ = try network.addPort(
        PortRequest(name: device, tap: TapRequest(device: device, queues: queues)))
      try #require(Command.run("ip", "netns", "add", space) == 0)
      // The descriptors stay where they are; only the interface moves.
      try #require(Command.run("ip", "link", "set", device, "netns", space) == 0)
      for command in [
        ["addr", "add", "192.0.2.\(number)/24", "dev", device],
        ["addr", "add", "2001:db8::\(number)/64", "dev", device, "nodad"],
        ["link", "set", device, "up"],
      ] {
        try #require(Command.run(["ip", "-n", space] + command) == 0)
      }
    }
    #expect(
      Command.run("ip", "netns", "exec", ends[0].1, "ping", "-qc20", "-i0.01", "-W5", "192.0.2.2")
        == 0)
    #expect(
      Command.run("ip", "netns", "exec", ends[1].1, "ping", "-qc20", "-i0.01", "-W5", "2001:db8::1")
        == 0)
    // The largest datagram, so that a frame of the full MTU passes, with and without fragments.
    #expect(
      Command.run(
        "ip", "netns", "exec", ends[0].1, "ping", "-qc3", "-s1472", "-Mdo", "-W5", "192.0.2.2")
        == 0)
    #expect(
      Command.run("ip", "netns", "exec", ends[0].1, "ping", "-qc3", "-s9000", "-W5", "192.0.2.2")
        == 0)

    // The stacks send when they like, router solicitations for one: a look may fall between two counters.
    let balanced = eventually {
      let stats = network.stats()
      return stats.received.frames + stats.received.replicas
        == stats.sent.frames + stats.received.dropped + stats.sent.dropped
    }
    #expect(balanced && network.stats().received.frames >= 86)
    #expect(Set(network.macs().map(\.port)) == [ends[0].0, ends[1].0])
    let wide = try #require(network.port(named: ends[1].0))
    #expect(wide.queues.count == 6 && wide.tap?.made == true && wide.state == .running)
  }

  @Test("Frames of 14 bytes and more come through a TAP as they are: nothing pads them there")
  func short() throws {
    let bench = try Bench()
    let device = "sws\(tag)"
    _ = try bench.fabric.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    let guest = try bench.attach("g0")
    let socket = try PacketSocket(interface: device)
    for length in 14...20 {
      let frame = EthernetFrame.make(
        to: .broadcast, from: .station(1), payload: [UInt8](1...60), length: length)
      #expect(socket.send(frame))
      var received: [[UInt8]] = []
      #expect(
        eventually {
          // The stack behind the interface says this and that.
          received += guest.collect().filter { $0.count < 42 }
          return !received.isEmpty
        }, "\(length)")
      #expect(received == [frame])
    }
    #expect(bench.fabric.port(named: "uplink")?.received.drops["runt"] == nil)
  }

  @Test("A deleted interface is a broken port that says so, and its worker sleeps all the same")
  func deleted() throws {
    let network = try quietSwitch()
    defer { network.stop() }
    let device = "swd\(tag)"
    _ = try network.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    try #require(Command.run("ip", "link", "del", device) == 0)
    #expect(eventually { network.port(named: "uplink")?.state == .broken })
    let port = try #require(network.port(named: "uplink"))
    #expect(port.state == .broken && port.explanation.contains("was deleted"))
    // Two sleeps of a full second each: it is not woken over and over.
    let before = network.workers()[0]
    #expect(eventually { network.workers()[0].sleeps >= before.sleeps + 2 })
    let after = network.workers()[0]
    #expect(after.turns - before.turns < 20_000, "a few thousand turns between two sleeps")
    try network.removePort(named: "uplink")
    _ = try network.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    #expect(network.port(named: "uplink")?.state == .running)
  }

  @Test("A made device goes with its port; one that was there stays")
  func removal() throws {
    let network = try quietSwitch()
    defer { network.stop() }
    let device = "swr\(tag)"
    let path = "/sys/class/net/\(device)"
    _ = try network.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device), mtu: 1400))
    #expect(FileManager.default.fileExists(atPath: path))
    let refused = #expect(throws: ServiceError.self) {
      _ = try network.addPort(PortRequest(name: "other", tap: TapRequest(device: device)))
    }
    #expect(refused?.kind == .conflict)
    try network.removePort(named: "uplink")
    #expect(!FileManager.default.fileExists(atPath: path))
    try #require(Command.run("ip", "tuntap", "add", "dev", device, "mode", "tap") == 0)
    defer { Command.run("ip", "link", "del", device) }
    let port = try network.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    #expect(port.tap?.made == false)
    try network.removePort(named: "uplink")
    #expect(FileManager.default.fileExists(atPath: path))
  }
}
