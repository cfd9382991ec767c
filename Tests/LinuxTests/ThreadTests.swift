import Glibc
import Linux
import SystemPackage
import Testing

@Suite struct ThreadTests {
  @Test func runsItsBodyWhereItIsTold() throws {
    let seen = Lock<(cpus: [Int], name: String)>(([], ""))
    let cpu = try #require(Affinity.current.last)
    let box = Box(seen)
    let thread = try Linux.Thread(name: "a-name-longer-than-fifteen") {
      try? Affinity.confine(to: [cpu])
      let name = SmallFile.read("/proc/thread-self/comm") ?? ""
      box.value.withLock { $0 = (Affinity.current, name) }
    }
    thread.join()
    box.value.withLock { value in
      #expect(value.cpus == [cpu])
      #expect(value.name == "a-name-longer-t\n")
    }
  }

  @Test func refusesACPUThatIsNotThere() {
    #expect(throws: SystemError.self) { try Affinity.confine(to: [1023]) }
    #expect(throws: SystemError.self) { try Affinity.confine(to: [-1]) }
    #expect(throws: SystemError.self) { try Affinity.confine(to: []) }
  }

  @Test func openFilesAreRaisedToTheHardLimit() {
    var limit = rlimit()
    let raised = OpenFiles.raiseLimit()
    #expect(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    #expect(limit.rlim_cur == limit.rlim_max && raised == Int(clamping: limit.rlim_max))
  }

  private final class Box: Sendable {
    let value: Lock<(cpus: [Int], name: String)>
    init(_ value: Lock<(cpus: [Int], name: String)>) { self.value = value }
  }
}

@Suite(.enabled(if: getuid() == 0 && exists("/dev/net/tun"), "needs root and /dev/net/tun"))
struct TapDeviceTests {
  private func link(_ name: String) -> Bool { exists("/sys/class/net/\(name)") }

  @Test("Made if absent, up, and gone with its last descriptor", arguments: [1, 3])
  func madeAndRemoved(queues: Int) throws {
    let name = "swvt\(getpid() % 10000)\(queues)"
    do {
      let device = try TapDevice(name: name, queues: queues, mtu: 1400)
      #expect(device.name == name && device.made && device.queues.count == queues)
      #expect(link(name))
      #expect(SmallFile.read("/sys/class/net/\(name)/mtu") == "1400\n")
      #expect(SmallFile.read("/sys/class/net/\(name)/flags")?.hasPrefix("0x1") == true, "up")
    }
    // A process that is just being made holds copies of this one's descriptors for a moment.
    for _ in 0..<60_000 where link(name) { usleep(1000) }
    #expect(!link(name))
  }

  @Test("One that was there stays, and is taken only in the form it has")
  func existing() throws {
    let name = "swvx\(getpid() % 10000)"
    #expect(Command.run("ip", "tuntap", "add", "dev", name, "mode", "tap") == 0)
    defer { _ = Command.run("ip", "link", "del", name) }
    do {
      let device = try TapDevice(name: name, queues: 1)
      #expect(!device.made)
      let busy = #expect(throws: SystemError.self) { _ = try TapDevice(name: name, queues: 1) }
      #expect(busy?.errno == .resourceBusy)
    }
    #expect(link(name))
    #expect(throws: SystemError.self) { _ = try TapDevice(name: name, queues: 2) }
    #expect(throws: SystemError.self) {
      _ = try TapDevice(name: "a-name-too-long-for-it", queues: 1)
    }
  }
}
