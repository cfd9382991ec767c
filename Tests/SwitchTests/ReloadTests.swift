import ControlAPI
import Foundation
import Linux
import Switch
import Testing
import VirtioDriver

extension SwitchTests {
  /// From the ports there are to those that are wanted, while guests run.
  @Suite struct ReloadTests {
    private func port(
      _ name: String, _ bench: Bench, at path: String? = nil,
      _ change: (inout VhostUserRequest) -> Void = { _ in }, mtu: Int? = nil, macs: Int? = nil
    ) -> PortRequest {
      var vhostUser = VhostUserRequest(path: path ?? bench.path(name))
      change(&vhostUser)
      return PortRequest(name: name, vhostUser: vhostUser, mtu: mtu, macs: macs)
    }

    @discardableResult
    private func reload(
      _ bench: Bench, _ wanted: [PortRequest], owned: [String]? = nil
    ) throws -> ReloadReport {
      let owned = owned ?? bench.fabric.requests.map(\.name)
      return try bench.fabric.replacePorts(wanted, owned: Set(owned)) { _ in }
    }

    /// One frame from one guest to the other: neither has lost its rings.
    private func expectTraffic(
      _ one: GuestPort, _ other: GuestPort, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let frame = TestFrame.make(to: .broadcast, from: .station(1), sequence: 7)
      _ = other.collect()
      try one.deliver(frame, sourceLocation: sourceLocation)
      #expect(other.collect() == [frame], sourceLocation: sourceLocation)
    }

    private func mode(_ path: String) throws -> Int {
      let all = try FileManager.default.attributesOfItem(atPath: path)
      return try #require(all[.posixPermissions] as? NSNumber).intValue
    }

    @Test("Defaults that are written out, in whatever way, cost a guest nothing")
    func defaultsWrittenOut() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let other = try bench.attach("other")
      let folder = (bench.directory as NSString).lastPathComponent
      let ways: [(inout VhostUserRequest) -> Void] = [
        { $0.queues = 1 }, { $0.mode = .server }, { $0.permissions = "0660" },
        { $0.permissions = "660" }, { $0.memory = "1T" }, { $0.memory = "1024G" },
        { $0.regions = 64 }, { $0.owner = "\(geteuid())" }, { $0.group = "\(getegid())" },
        { $0.path = "/tmp//\(folder)/./vm.sock" }, { $0.path = "/tmp/../tmp/\(folder)/vm.sock" },
      ]
      for (index, way) in ways.enumerated() {
        let report = try reload(bench, [port("vm", bench, way), port("other", bench)])
        #expect(report == ReloadReport(unchanged: 2), "\(index)")
      }
      let name = port("vm", bench, { $0.owner = "root" }, macs: 1024)
      if geteuid() == 0 {
        #expect(try reload(bench, [name, port("other", bench)]).unchanged == 2)
      }
      try expectTraffic(guest, other)
      #expect(try bench.port("vm").vhostUser?.connections == 1)
    }

    @Test("What can change while a guest runs does so")
    func inPlace() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let other = try bench.attach("other")
      func become(_ request: PortRequest) throws {
        #expect(
          try reload(bench, [request, port("other", bench)])
            == ReloadReport(changed: ["vm"], unchanged: 1))
        try expectTraffic(guest, other)
      }
      try become(port("vm", bench, { $0.permissions = "0600" }))
      #expect(try mode(bench.path("vm")) == 0o600)
      try become(port("vm", bench, mtu: 100))
      #expect(try mode(bench.path("vm")) == 0o660)
      #expect(try bench.port("vm").mtu == 100)
      // The limit is in force: a longer frame does not get there.
      let long = TestFrame.make(to: .broadcast, from: .station(2), sequence: 1, length: 200)
      try other.deliver(long)
      #expect(eventually { bench.drops("exceeds_mtu") == 1 })
      try become(port("vm", bench, macs: 3))
      #expect(try bench.port("vm").macLimit == 3)
      for station in 10..<30 { try guest.announce(.station(station)) }
      #expect(try bench.port("vm").macs <= 3)
      try become(port("vm", bench, macs: 500))
      for station in 10..<30 { try guest.announce(.station(station)) }
      #expect(try bench.port("vm").macs == 21)
      try become(port("vm", bench, { ($0.memory, $0.regions) = ("2T", 5) }))
      #expect(try bench.port("vm").vhostUser?.memoryLimit == 2 << 40)
      #expect(try bench.port("vm").vhostUser?.regionLimit == 5)
      #expect(try bench.port("vm").vhostUser?.connections == 1)
      bench.expectBalance()
    }

    @Test(
      "Another owner and group come while a guest runs", .enabled(if: geteuid() == 0, "needs root"))
    func owners() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let other = try bench.attach("other")
      let wanted = port("vm", bench, { ($0.owner, $0.group) = ("4711", "4712") })
      #expect(try reload(bench, [wanted, port("other", bench)]).changed == ["vm"])
      var status = stat()
      #expect(stat(bench.path("vm"), &status) == 0)
      #expect(status.st_uid == 4711 && status.st_gid == 4712)
      #expect(try reload(bench, [port("vm", bench), port("other", bench)]).changed == ["vm"])
      #expect(stat(bench.path("vm"), &status) == 0)
      #expect(status.st_uid == 0 && status.st_gid == getegid())
      try expectTraffic(guest, other)
    }

    @Test("A port that must be made anew has its socket at every moment, and its guest comes back")
    func madeAnew() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let other = try bench.attach("other")
      let report = try reload(
        bench, [port("vm", bench, { $0.queues = 2 }), port("other", bench)])
      #expect(report == ReloadReport(replaced: ["vm"], unchanged: 1))
      // Its old connection has ended; the socket is the new port's, and nothing lies beside it.
      #expect(eventually { guest.frontEnd.isClosed() })
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: bench.directory).sorted()
          == ["other.sock", "vm.sock"])
      let again = try bench.guest("vm")
      try expectTraffic(again, other)
      #expect(bench.fabric.ports().map(\.name) == ["vm", "other"])
    }

    @Test("Ports that exchange their sockets do so")
    func exchanged() throws {
      let bench = try Bench()
      try bench.addPort("a")
      try bench.addPort("b")
      let report = try reload(
        bench, [port("a", bench, at: bench.path("b")), port("b", bench, at: bench.path("a"))])
      #expect(report.replaced == ["a", "b"])
      _ = try GuestPort(path: bench.path("a"))
      #expect(eventually { bench.fabric.port(named: "b")?.vhostUser?.connections == 1 })
      #expect(try bench.port("a").vhostUser?.connections == 0)
    }

    @Test("A reload that fails has changed nothing, whatever it had done before")
    func nothingIsLost() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let other = try bench.attach("other")
      try Data().write(to: URL(fileURLWithPath: bench.path("taken")))
      let bad = [
        // A file that is no socket, an unknown group, a directory that is not there.
        port("new", bench, at: bench.path("taken")),
        port("new", bench, { $0.group = "no-such-group" }),
        port("new", bench, at: "/no/such/place/new.sock"),
        // Found only when it is made: its name beside the socket is taken.
        port("vm2", bench),
      ]
      let squatter = try UnixListener(path: bench.path("vm2"))
      for wrong in bad {
        let wanted = [
          port("vm", bench, { $0.permissions = "0666" }, mtu: 1400),
          port("other", bench, { $0.queues = 4 }), port("first", bench), wrong,
        ]
        #expect(throws: ServiceError.self) { try reload(bench, wanted) }
        #expect(bench.fabric.ports().map(\.name) == ["vm", "other"])
        #expect(try mode(bench.path("vm")) == 0o660)
        #expect(try bench.port("vm").mtu == nil)
        #expect(access(bench.path("first"), F_OK) != 0)
        #expect(access(bench.path("other") + "~", F_OK) != 0)
        try expectTraffic(guest, other)
      }
      withExtendedLifetime(squatter) {}
      #expect(try bench.port("vm").vhostUser?.connections == 1)
    }

    @Test("A port whose directory was taken away stays, as it can't be made again")
    func theDirectoryIsGone() throws {
      let bench = try Bench()
      let inner = bench.directory + "/inner"
      try FileManager.default.createDirectory(atPath: inner, withIntermediateDirectories: false)
      let request = port("vm", bench, at: inner + "/vm.sock")
      _ = try bench.fabric.addPort(request)
      let guest = try GuestPort(path: inner + "/vm.sock")
      let other = try bench.attach("other")
      try FileManager.default.removeItem(atPath: inner)
      // In its place there is a file: no socket can be made there.
      try Data().write(to: URL(fileURLWithPath: inner))
      #expect(throws: ServiceError.self) {
        try reload(
          bench,
          [port("vm", bench, at: inner + "/vm.sock", { $0.queues = 2 }), port("other", bench)])
      }
      try expectTraffic(guest, other)
    }

    @Test("Ports that came otherwise stay, unless the configuration wants their names")
    func others() throws {
      let bench = try Bench()
      let guest = try bench.attach("mine")
      try bench.addPort("file")
      #expect(
        try reload(bench, [port("new", bench)], owned: ["file"])
          == ReloadReport(added: ["new"], removed: ["file"]))
      #expect(bench.fabric.ports().map(\.name) == ["mine", "new"])
      let clash = port("x", bench, at: bench.path("mine"))
      #expect(throws: ServiceError.self) { try reload(bench, [clash], owned: ["new"]) }
      #expect(try reload(bench, [port("mine", bench)], owned: ["new"]).unchanged == 1)
      #expect(!guest.frontEnd.isClosed())
    }

    @Test(
      "An uplink's MTU changes, and its interface stays", .enabled(if: geteuid() == 0, "needs root")
    )
    func uplink() throws {
      let bench = try Bench()
      let device = "swvrl\(getpid() % 100_000)"
      _ = try bench.fabric.addPort(PortRequest(name: "up", tap: TapRequest(device: device)))
      func read(_ what: String) throws -> String {
        try String(contentsOfFile: "/sys/class/net/\(device)/\(what)", encoding: .utf8)
      }
      let index = try read("ifindex")
      func become(_ request: PortRequest, _ report: ReloadReport) throws {
        #expect(try reload(bench, [request]) == report)
        #expect(try read("ifindex") == index)
      }
      let tap = TapRequest(device: device, queues: 1)
      try become(PortRequest(name: "up", tap: tap), ReloadReport(unchanged: 1))
      try become(PortRequest(name: "up", tap: tap, mtu: 9000), ReloadReport(changed: ["up"]))
      #expect(try read("mtu") == "9000\n")
      try become(PortRequest(name: "up", tap: tap, macs: 7), ReloadReport(changed: ["up"]))
      #expect(try read("mtu") == "1500\n")
      #expect(try bench.port("up").macLimit == 7)
    }

    @Test(
      "Another number of queues of an uplink: what fails leaves the old one there",
      .enabled(if: geteuid() == 0, "needs root"))
    func uplinkQueues() throws {
      let bench = try Bench()
      let device = "swvrq\(getpid() % 100_000)"
      _ = try bench.fabric.addPort(PortRequest(name: "up", tap: TapRequest(device: device)))
      let wider = PortRequest(name: "up", tap: TapRequest(device: device, queues: 2))
      #expect(throws: ServiceError.self) {
        try reload(bench, [wider, port("new", bench, { $0.group = "no-such-group" })])
      }
      #expect(try bench.port("up").tap?.queues == 1)
      #expect(try reload(bench, [wider]).replaced == ["up"])
      #expect(try bench.port("up").tap?.queues == 2)
    }

    @Test("A port is changed by its name, and what can't change is refused")
    func change() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let changed = try bench.fabric.changePort(
        named: "vm", PortChange(mtu: .value(1400), permissions: .value("0666")))
      #expect(changed.mtu == 1400)
      #expect(try mode(bench.path("vm")) == 0o666)
      #expect(try bench.fabric.changePort(named: "vm", PortChange(mtu: .standard)).mtu == nil)
      func kind(_ name: String, _ change: PortChange) -> ServiceError.Kind? {
        do {
          _ = try bench.fabric.changePort(named: name, change)
          return nil
        } catch {
          return error.kind
        }
      }
      #expect(kind("nobody", PortChange(mtu: .value(1400))) == .notFound)
      #expect(kind("vm", PortChange(mtu: .value(1))) == .invalid)
      #expect(kind("vm", PortChange(group: .value("no-such-group"))) == .refused)
      unlink(bench.path("vm"))
      #expect(kind("vm", PortChange(permissions: .value("0600"))) == .refused)
      #expect(!guest.frontEnd.isClosed())
    }
  }

  /// Addresses that somebody enters, and the switch's health.
  @Suite struct OperationTests {
    @Test("An entered address stays whatever frames say, until it is removed")
    func pinned() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      let address = Address.station(5)
      _ = try bench.fabric.addMAC(address.description, port: "g0")
      try guests[1].announce(address)
      #expect(bench.place(of: address) == "g0")
      #expect(bench.fabric.macs().first { $0.mac == address.description }?.pinned == true)
      try bench.fabric.flushMACs(port: nil)
      #expect(bench.place(of: address) == "g0")
      try bench.fabric.removeMAC(address.description.uppercased())
      #expect(bench.place(of: address) == nil)
      try guests[1].announce(address)
      #expect(bench.place(of: address) == "g1")
      try bench.fabric.flushMACs(port: "g0")
      #expect(bench.place(of: address) == "g1")
      try bench.fabric.flushMACs(port: "g1")
      #expect(bench.place(of: address) == nil)
      for wrong in [
        "", "52:54:00:00:00", "01:00:5e:00:00:01", "00:00:00:00:00:00", "52:54:00:00:00:0g",
      ] {
        #expect(throws: ServiceError.self) { try bench.fabric.addMAC(wrong, port: "g0") }
      }
      #expect(throws: ServiceError.self) { try bench.fabric.removeMAC(address.description) }
      #expect(throws: ServiceError.self) { try bench.fabric.flushMACs(port: "nobody") }
    }

    @Test(
      "A switch whose workers turn or sleep is healthy; a port that waits is no illness",
      arguments: [false, true])
    func health(busy: Bool) throws {
      let bench = try Bench(busy: busy)
      let guest = try bench.attach("vm")
      try bench.addPort("waits")
      #expect(bench.fabric.health() == Health(healthy: true, ports: ["running": 1, "waiting": 1]))
      withExtendedLifetime(guest) {}
    }
  }
}
