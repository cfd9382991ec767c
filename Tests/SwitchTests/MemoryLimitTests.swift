import ControlAPI
import Switch
import Testing
import VirtioDriver

/// How much memory a front-end may share with a port.
extension SwitchTests {
  @Suite struct MemoryLimitTests {
    private static func bench(memory: String?, regions: Int?) throws -> Bench {
      let bench = try Bench()
      _ = try bench.fabric.addPort(
        PortRequest(
          name: "g0",
          vhostUser: VhostUserRequest(path: bench.path("g0"), memory: memory, regions: regions)))
      return bench
    }

    @Test("HP-03: a port's own limit of bytes holds, by name, and the next front-end is served")
    func bytes() throws {
      let bench = try Self.bench(memory: "1M", regions: nil)
      var options = GuestPort.Options()
      options.ringSize = 1024
      options.receiveBufferLength = 2048
      #expect(throws: FrontEndError.self) { _ = try bench.guest("g0", options) }
      let port = try bench.port("g0")
      #expect(port.faults["refused_request"] == 1)
      let words = "makes more than the 1 MiB of memory that this port may have"
      #expect(port.lastError?.contains(words) == true, "\(port.lastError ?? "")")
      #expect(port.vhostUser?.memoryLimit == 1 << 20 && port.vhostUser?.regionLimit == 64)
      options.ringSize = 64
      let guest = try bench.guest("g0", options)
      try guest.announce(.station(0))
      #expect(eventually { bench.place(of: .station(0)) == "g0" })
      let fact = try bench.port("g0").vhostUser?.facts.first { $0.name == "memory" }
      #expect(fact?.value.hasSuffix("of at most 1 MiB, 1 of at most 64 regions") == true)
    }

    @Test("HP-03: a port's own limit of regions holds, and is what GET_MAX_MEM_SLOTS answers")
    func regions() throws {
      let bench = try Self.bench(memory: nil, regions: 2)
      var options = GuestPort.Options()
      options.regionAddresses = [0, 1 << 32, 2 << 32]
      #expect(throws: FrontEndError.self) { _ = try bench.guest("g0", options) }
      #expect(try bench.port("g0").lastError?.contains("3 regions, not 1…2") == true)
      options.regionAddresses = [0, 1 << 32]
      let guest = try bench.guest("g0", options)
      #expect(try guest.frontEnd.maxMemorySlots() == 2)
      #expect(try bench.port("g0").vhostUser?.memoryLimit == 1 << 40)
    }
  }
}
