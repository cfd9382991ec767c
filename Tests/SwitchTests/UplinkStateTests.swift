import ControlAPI
import Foundation
import Linux
import Logging
import Switch
import Testing
import VirtioDriver

/// What a port says of a TAP that somebody changes under it, and what becomes of frames.
@Suite(
  .serialized,
  .enabled(
    if: geteuid() == 0 && FileManager.default.fileExists(atPath: "/dev/net/tun"),
    "needs root and /dev/net/tun for TAP devices"))
struct UplinkStateTests {
  private let tag = "\(getpid() % 100_000)"

  private func ip(_ words: String...) throws {
    try #require(Command.run(["ip"] + words) == 0, "ip \(words)")
  }

  /// Waits for a state of the port "uplink", and returns the port.
  private func uplink(
    _ bench: Bench, becomes state: PortState, saying words: String = ""
  ) throws -> ControlAPI.Port {
    let came = eventually {
      guard let port = bench.fabric.port(named: "uplink") else { return false }
      return port.state == state && (words.isEmpty || port.explanation.contains(words))
    }
    let port = try bench.port("uplink")
    try #require(came, "\(port.state): \(port.explanation)")
    return port
  }

  @Test("An uplink that goes down loses its addresses and gets no floods, until it is up again")
  func downAndUp() throws {
    let bench = try Bench()
    let device = "swu\(tag)"
    _ = try bench.fabric.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    let guest = try bench.attach("g0")
    do {
      let socket = try PacketSocket(interface: device)
      let frame = EthernetFrame.make(to: .broadcast, from: .station(7), length: 60)
      #expect(socket.send(frame))
      #expect(eventually { bench.place(of: .station(7)) == "uplink" })
    }
    try ip("link", "set", device, "down")
    let down = try uplink(bench, becomes: .down, saying: "is down")
    #expect(down.queues.allSatisfy { $0.state == .running })
    #expect(eventually { bench.place(of: .station(7)) == nil })
    let sent = try bench.port("uplink").sent
    try guest.announce(.station(1))
    #expect(eventually { (try? bench.port("g0").received.drops["no_destination"]) == 1 })
    #expect(try bench.port("uplink").sent == sent)
    #expect(bench.fabric.health().ports["down"] == 1)

    try ip("link", "set", device, "up")
    _ = try uplink(bench, becomes: .running, saying: "carries frames")
    try guest.announce(.station(1))
    #expect(eventually { (try? bench.port("uplink").sent.frames) == sent.frames + 1 })
    bench.expectBalance()
  }

  @Test("Carrier, MTU and name of an uplink are shown as they are; a new name is the port's own")
  func carrierMTUAndName() throws {
    let bench = try Bench()
    let (device, renamed) = ("swc\(tag)", "swn\(tag)")
    let request = PortRequest(name: "uplink", tap: TapRequest(device: device), mtu: 1400)
    _ = try bench.fabric.addPort(request)
    #expect(try bench.port("uplink").tap?.mtu == 1400)
    try ip("link", "set", device, "mtu", "1300")
    let narrow = try uplink(bench, becomes: .running, saying: "MTU was changed to 1300")
    #expect(narrow.tap?.mtu == 1300 && narrow.mtu == 1400)

    try ip("link", "set", device, "carrier", "off")
    _ = try uplink(bench, becomes: .down, saying: "no carrier")
    try ip("link", "set", device, "carrier", "on")
    _ = try uplink(bench, becomes: .running)

    try ip("link", "set", device, "down")
    try ip("link", "set", device, "name", renamed)
    try ip("link", "set", renamed, "up")
    let port = try uplink(bench, becomes: .running, saying: renamed)
    #expect(port.tap?.device == renamed && port.explanation.contains(device))
    let refused = #expect(throws: ServiceError.self) {
      _ = try bench.fabric.addPort(PortRequest(name: "b", tap: TapRequest(device: renamed)))
    }
    #expect(refused?.kind == .conflict)
    #expect(refused?.message.contains("port 'uplink'") == true, "\(refused?.message ?? "")")
    // It is changed by the name it has now.
    var change = PortChange()
    change.mtu = .value(1350)
    _ = try bench.fabric.changePort(named: "uplink", change)
    #expect(try uplink(bench, becomes: .running).tap?.mtu == 1350)
  }

  @Test(
    "An uplink in another network namespace is said to be there, and seen to be up, down and back")
  func moved() throws {
    let bench = try Bench()
    let (device, space) = ("swm\(tag)", "swivel-m-\(tag)")
    _ = try bench.fabric.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    try ip("netns", "add", space)
    defer { Command.run("ip", "netns", "del", space) }
    try ip("link", "set", device, "netns", space)
    _ = try uplink(bench, becomes: .down, saying: "another network namespace")
    try ip("-n", space, "link", "set", device, "up")
    let port = try uplink(bench, becomes: .running, saying: "another network namespace")
    #expect(port.tap?.mtu == nil)
    try ip("-n", space, "link", "set", device, "down")
    _ = try uplink(bench, becomes: .down, saying: "another network namespace")
    try ip("-n", space, "link", "set", device, "netns", "\(getpid())")
    _ = try uplink(bench, becomes: .down, saying: "ip link set \(device) up")
    try ip("link", "set", device, "up")
    #expect(try uplink(bench, becomes: .running).tap?.mtu == 1500)
  }

  @Test(
    "A deleted interface that comes back is the port's again; a reload makes it where nobody has")
  func deletedAndBack() throws {
    let bench = try Bench()
    let device = "swg\(tag)"
    let request = PortRequest(name: "uplink", tap: TapRequest(device: device))
    _ = try bench.fabric.addPort(request)
    let guest = try bench.attach("g0")
    try ip("link", "del", device)
    #expect(try uplink(bench, becomes: .broken, saying: "was deleted").faults["device_gone"] == 1)
    // As an administrator makes it: down.
    try ip("tuntap", "add", "dev", device, "mode", "tap")
    let back = try uplink(bench, becomes: .running)
    #expect(back.tap?.made == false && back.faults["device_gone"] == 1)
    try guest.announce(.station(1))
    #expect(eventually { (try? bench.port("uplink").sent.frames) == 1 })

    try ip("link", "del", device)
    _ = try uplink(bench, becomes: .broken)
    let all = bench.fabric.requests
    let report = try bench.fabric.replacePorts(all, owned: []) { _ throws(ServiceError) in }
    #expect(report.unchanged == 2)
    #expect(try uplink(bench, becomes: .running).tap?.made == true)
    try guest.announce(.station(1))
    #expect(eventually { (try? bench.port("uplink").sent.frames) == 2 })
    bench.expectBalance()
  }

  @Test(
    "What has the name of a deleted interface and can't be used is named, and the port goes on as soon as something can"
  )
  func unusable() throws {
    let bench = try Bench()
    let device = "swz\(tag)"
    defer { Command.run("ip", "link", "del", device) }
    _ = try bench.fabric.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    let guest = try bench.attach("g0")
    try ip("link", "del", device)
    _ = try uplink(bench, becomes: .broken, saying: "was deleted")
    // No TAP.
    try ip("link", "add", device, "type", "bridge")
    _ = try uplink(bench, becomes: .broken, saying: "not as a TAP")
    try ip("link", "del", device)
    _ = try uplink(bench, becomes: .broken, saying: "as soon as there is one again")
    // One that another process has, for a while.
    try ip("tuntap", "add", "dev", device, "mode", "tap")
    _ = try uplink(bench, becomes: .running)
    try ip("link", "del", device)
    _ = try uplink(bench, becomes: .broken)
    do {
      let other = try TapDevice(name: device, queues: 2)
      _ = try uplink(bench, becomes: .broken, saying: "can't be used")
      withExtendedLifetime(other) {}
    }
    try ip("tuntap", "add", "dev", device, "mode", "tap")
    #expect(try uplink(bench, becomes: .running).faults["device_gone"] == 2)
    let sent = try bench.port("uplink").sent.frames
    try guest.announce(.station(1))
    #expect(eventually { (try? bench.port("uplink").sent.frames) == sent + 1 })
    bench.expectBalance()
  }

  @Test(
    "An interface that goes with its namespace is deleted, and one of its name here is the port's again"
  )
  func goneElsewhere() throws {
    let bench = try Bench()
    let (device, space) = ("swe\(tag)", "swivel-e-\(tag)")
    defer { Command.run("ip", "link", "del", device) }
    _ = try bench.fabric.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    let guest = try bench.attach("g0")
    try ip("netns", "add", space)
    defer { Command.run("ip", "netns", "del", space) }
    try ip("link", "set", device, "netns", space)
    _ = try uplink(bench, becomes: .down, saying: "another network namespace")
    try ip("netns", "del", space)
    _ = try uplink(bench, becomes: .broken, saying: "was deleted")
    try ip("tuntap", "add", "dev", device, "mode", "tap")
    _ = try uplink(bench, becomes: .running)
    try guest.announce(.station(1))
    #expect(eventually { (try? bench.port("uplink").sent.frames) == 1 })
    bench.expectBalance()
  }

  @Test(
    "A stranger that has the port's name for an interface meanwhile is left alone, and taken when the port has none"
  )
  func stranger() throws {
    let bench = try Bench()
    let (device, renamed, space) = ("swf\(tag)", "swk\(tag)", "swivel-f-\(tag)")
    _ = try bench.fabric.addPort(PortRequest(name: "uplink", tap: TapRequest(device: device)))
    try ip("netns", "add", space)
    defer { Command.run("ip", "netns", "del", space) }
    try ip("link", "set", device, "netns", space)
    _ = try uplink(bench, becomes: .down, saying: "another network namespace")
    try ip("tuntap", "add", "dev", device, "mode", "tap")
    defer { Command.run("ip", "link", "del", device) }
    var change = PortChange()
    change.mtu = .value(1300)
    let refused = #expect(throws: ServiceError.self) {
      try bench.fabric.changePort(named: "uplink", change)
    }
    #expect(refused?.kind == .refused && refused?.message.contains("only its owner") == true)
    #expect(try LinkState.named(device)?.mtu == 1500)
    // It comes back by another name.
    try ip("-n", space, "link", "set", device, "name", renamed)
    try ip("-n", space, "link", "set", renamed, "netns", "\(getpid())")
    try ip("link", "set", renamed, "up")
    _ = try uplink(bench, becomes: .running, saying: renamed)
    _ = try bench.fabric.changePort(named: "uplink", change)
    #expect(try LinkState.named(device)?.mtu == 1500 && LinkState.named(renamed)?.mtu == 1300)
    try ip("link", "del", renamed)
    let port = try uplink(bench, becomes: .running, saying: device)
    #expect(port.tap?.device == device && port.tap?.made == false && port.tap?.mtu == 1300)
  }

  @Test("A TAP that was there and down is brought up")
  func broughtUp() throws {
    let bench = try Bench()
    let device = "swb\(tag)"
    try ip("tuntap", "add", "dev", device, "mode", "tap")
    defer { Command.run("ip", "link", "del", device) }
    #expect(try LinkState.named(device)?.isUp == false)
    let port = try bench.fabric.addPort(
      PortRequest(name: "uplink", tap: TapRequest(device: device)))
    #expect(port.state == .running && port.tap?.made == false)
    #expect(try LinkState.named(device)?.isUp == true)
  }

  @Test("A TAP of which another has queues is refused before a frame is taken from it")
  func shared() throws {
    let bench = try Bench()
    let device = "swq\(tag)"
    let other = try TapDevice(name: device, queues: 2)
    #expect(try LinkState.named(device)?.attachedQueues == 2)
    let refused = #expect(throws: ServiceError.self) {
      _ = try bench.fabric.addPort(
        PortRequest(name: "uplink", tap: TapRequest(device: device, queues: 2)))
    }
    #expect(refused?.kind == .conflict)
    #expect(refused?.message.contains("2 of its queues") == true, "\(refused?.message ?? "")")
    #expect(try LinkState.named(device)?.attachedQueues == 2)
    withExtendedLifetime(other) {}
  }

  // ---- Loops ----

  /// Two uplinks of a switch that lead to one bridge, in a namespace, and a frame that goes round.
  private func loop(_ network: Switch, _ body: () throws -> Void) throws {
    let (devices, space) = (["swx\(tag)", "swy\(tag)"], "swivel-x-\(tag)")
    try ip("netns", "add", space)
    defer { Command.run("ip", "netns", "del", space) }
    try ip("-n", space, "link", "add", "bridge0", "type", "bridge", "stp_state", "0")
    try ip("-n", space, "link", "set", "bridge0", "up")
    for device in devices {
      _ = try network.addPort(PortRequest(name: device, tap: TapRequest(device: device)))
      try ip("link", "set", device, "netns", space)
      try ip("-n", space, "link", "set", device, "master", "bridge0", "up")
    }
    // The bridge's own first words go round: a ping to nobody is a broadcast.
    try ip("-n", space, "addr", "add", "192.0.2.1/24", "dev", "bridge0")
    #expect(eventually { devices.allSatisfy { network.port(named: $0)?.state == .running } })
    Command.run("ip", "netns", "exec", space, "ping", "-c1", "-W1", "192.0.2.2")
    try body()
    for device in devices { try network.removePort(named: device) }
  }

  @Test("A loop through two uplinks is named, at both ports and for as long as it lasts")
  func loopNamed() throws {
    let bench = try Bench()
    try loop(bench.fabric) {
      let named = eventually {
        bench.fabric.ports().allSatisfy {
          $0.faults["loop"] ?? 0 > 0 && $0.explanation.contains("a loop, most likely")
        }
      }
      #expect(named, "\(bench.fabric.ports().map(\.explanation))")
      #expect(bench.fabric.ports().allSatisfy { $0.state == .running })
    }
  }

  @Test("Of two uplinks that are a loop one is cut where that is asked for, and the storm ends")
  func loopCut() throws {
    let network = try Switch(
      .init(cpus: [0], pinned: false, cutsLoops: true, hugepages: false),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    defer { network.stop() }
    try loop(network) {
      #expect(eventually { network.ports().map(\.state.rawValue).sorted() == ["down", "running"] })
      let cut = try #require(network.ports().first { $0.state == .down })
      #expect(
        cut.explanation.contains("cut off") && cut.queues.allSatisfy { $0.state == .disabled })
      // What was in hand has an end, and then hardly anything comes.
      let calm = eventually {
        let before = network.stats().received.frames
        usleep(200_000)
        return network.stats().received.frames - before < 1000
      }
      #expect(calm)
    }
  }
}
