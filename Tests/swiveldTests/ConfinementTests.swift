import Control
import ControlAPI
import Foundation
import Linux
import Logging
import SystemPackage
import Testing

@testable import Configuration
@testable import swiveld

/// What the daemon could do were it somebody else's, and what becomes of it. In processes of their own: what is
/// given up does not come back.
@Suite struct ConfinementTests {
  @Test("A system call that the filter does not list fails, and what is listed works")
  func theFilterStopsWhatIsNotListed() async {
    await #expect(processExitsWith: .success) {
      Probe.expect(Probe.calls, stopped: false)
      try NewPrivileges.renounce()
      try Confinement.systemCalls.enforce()
      Probe.expect(Probe.calls, stopped: true)
      // What the daemon lives by is not.
      let thread = try Linux.Thread(name: "probe") {}
      thread.join()
      _ = try EventFD()
      _ = try UnixSocket.pair()
      _ = try LinkWatch()
      guard try LinkState.named("lo") != nil else { Probe.fail("an interface") }
      guard Affinity.cpu(ofThread: Affinity.threadID) != nil else { Probe.fail("a thread's CPU") }
      guard SmallFile.read("/proc/self/status") != nil else { Probe.fail("reading") }
      Probe.succeed()
    }
  }

  @Test("Running a program ends the process")
  func executionIsDeadly() async {
    await #expect(processExitsWith: .signal(SIGSYS)) {
      try Confinement.systemCalls.enforce()
      let arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
      execv("/bin/true", arguments)
      Probe.fail("execv returned")
    }
  }

  @Test("Changing the user ends the process")
  func otherUsersAreDeadly() async {
    await #expect(processExitsWith: .signal(SIGSYS)) {
      try Confinement.systemCalls.enforce()
      setuid(geteuid())
      Probe.fail("setuid returned")
    }
  }

  @Test(
    "Paths, TCP and other processes are out of reach",
    .enabled(if: Landlock.abi != nil, "needs a kernel with Landlock"))
  func landlockStopsWhatNoRuleNames() async {
    await #expect(processExitsWith: .success) {
      let place = NSTemporaryDirectory() + "swivel-place-\(getpid())"
      mkdir(place, 0o755)
      defer { rmdir(place) }
      let elsewhere = NSTemporaryDirectory() + "swivel-elsewhere-\(getpid()).sock"
      Probe.expect(Probe.paths(elsewhere), stopped: false)
      let rules = try Confinement.paths([place], file: nil).prepared()
      try NewPrivileges.renounce()
      try rules.enforce()
      Probe.expect(Probe.paths(elsewhere), stopped: true)
      // What the daemon lives by is not.
      do {
        _ = try UnixListener(path: place + "/a.sock")
        _ = try UnixListener(path: place + "/sub/b.sock")
      }
      // Dispatch asks here how each of its threads is, and ends the process when it is not told.
      for path in [
        "/etc/passwd", "/proc/self/status", "/proc/1/stat",
        "/sys/devices/system/cpu/online",
      ] {
        guard SmallFile.read(path) != nil else { Probe.fail("reading \(path)") }
      }
      guard open("/dev/null", O_RDWR) >= 0 else { Probe.fail("/dev/null") }
      Probe.succeed()
    }
  }

  @Test(
    "Root becomes another user with the capabilities it needs, and no more",
    .enabled(if: geteuid() == 0, "needs root"))
  func rootIsGivenUp() async {
    await #expect(processExitsWith: .success) {
      let place = NSTemporaryDirectory() + "swivel-own-\(getpid())"
      var settings = Configuration.embedded(cpu: 0, uplink: false)
      settings.control.path = place + "/control.sock"
      settings.control.group = "0"
      settings.ports = []
      settings.security.user = .named("65521")
      // In a process with threads of its own: the limits of one are enough to see them.
      let confinement = try Confinement(settings, file: nil, logger: Logger(label: "probe"))
      guard geteuid() == 65521, getuid() == 65521, getegid() == 65521 else { Probe.fail("user") }
      guard Identity.current.isMember(of: 0) else { Probe.fail("groups") }
      let now = try Capabilities.current()
      // There is no TAP, and nothing else that takes one.
      guard now.permitted == [], now.effective == [] else {
        Probe.fail("capabilities \(now)")
      }
      guard confinement.status.user == "65521", confinement.status.seccomp else {
        Probe.fail("\(confinement.status)")
      }
      // The directory was made, and is its own.
      _ = try UnixListener(path: settings.control.path, group: "0", permissions: 0o660)
      let port = { (path: String) in
        PortRequest(name: "a", vhostUser: VhostUserRequest(path: path))
      }
      try confinement.check(port(place + "/a.sock"))
      do throws(ServiceError) {
        try confinement.check(port("/run/elsewhere/a.sock"))
        Probe.fail("elsewhere")
      } catch {
        guard error.message.contains(place), error.message.contains("security.directories") else {
          Probe.fail(error.message)
        }
      }
      Probe.succeed()
    }
  }

  // ---- What follows from a configuration ----

  private func configuration(_ text: String) throws -> Configuration {
    try Configuration.parse(text, file: "f", cpu: 0)
  }

  @Test func placesAreThoseOfTheSocketsItMakes() throws {
    let settings = try configuration(
      """
      control: { socket: /run/a/control.sock }
      ports:
        - { name: vm1, vhost-user: { path: /run/a/vm1.sock } }
        - { name: vm2, vhost-user: { path: /run/b/vm2.sock } }
        - { name: vm3, vhost-user: { path: /run/c/vm3.sock, mode: client } }
      security: { directories: [/run/d] }
      """)
    #expect(Confinement.places(settings) == ["/run/a", "/run/b", "/run/d"])
    let rules = Confinement.paths(Confinement.places(settings), file: "/etc/swivel/a.yaml").rules
    #expect(rules.contains(.init("/run/d", [.makeSocket, .removeFile, .makeDirectory])))
    #expect(rules.contains(.init("/etc/swivel", .readFile)))
    #expect(!rules.contains { $0.path == "/run/c" || $0.path == "/" || $0.path == "/etc" })
  }

  @Test func socketsGroupsBecomeTheDaemons() throws {
    let settings = try configuration(
      """
      control: { socket: /run/a/control.sock, group: 7 }
      ports:
        - { name: vm1, vhost-user: { path: /run/a/vm1.sock, group: 8 } }
      security: { user: 1234 }
      """)
    let identity = try Confinement.identity(settings, logger: Logger(label: "test"))
    guard geteuid() == 0 else {
      #expect(identity == nil)
      return
    }
    #expect(identity?.user == 1234 && identity?.group == 1234)
    #expect(identity?.groups == [7, 8, 1234])
    var off = settings
    off.security.user = .off
    #expect(try Confinement.identity(off, logger: Logger(label: "test")) == nil)
  }

  @Test func anUnknownUserIsRefused() throws {
    let settings = try configuration("security: { user: no-such-user }")
    #expect(throws: ServiceError.self) { try Daemon.check(settings, cpus: [0]) }
  }

  @Test func everyCapabilityOfTheConfigurationIsKnown() {
    for name in Configuration.Security.Capabilities.names {
      #expect(Capabilities.named.contains { $0.key == name }, "\(name)")
    }
  }

  @Test func whatTheKindsOfPortsNeedIsKept() {
    let needs = PortKind.needs
    for name in needs.capabilities {
      #expect(Configuration.Security.Capabilities.names.contains(name), "\(name)")
    }
    let rules = Confinement.paths([], file: nil).rules
    for device in needs.devices {
      #expect(rules.contains(.init(device, [.readFile, .writeFile, .deviceControl])), "\(device)")
    }
    let conditions = Confinement.systemCalls.conditional.first { $0.call == "ioctl" }?.conditions
    for request in needs.requests {
      #expect(conditions?.contains(.init(1, is: request)) == true, "\(request)")
    }
  }

  /// A list that is wrong about one of these is worth nothing.
  @Test func theFilterListsNothingTwice() {
    let filter = Confinement.systemCalls
    let all = filter.allowed + filter.conditional.map(\.call) + filter.absent + filter.deadly
    #expect(Set(all).count == all.count)
  }
}

/// Forbidden things to try.
private struct Probe {
  var name: String
  /// 0, or why not.
  var attempt: () -> CInt

  /// Those of the filter: each works in any other process.
  static var calls: [Probe] {
    [
      Probe(name: "an Internet socket") { closed(socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)) },
      // NETLINK_GENERIC; what ports need is NETLINK_ROUTE.
      Probe(name: "another netlink socket") {
        closed(socket(AF_NETLINK, CInt(SOCK_RAW.rawValue), 16))
      },
      Probe(name: "memory that can be executed") {
        outcome(
          mmap(nil, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
      },
      Probe(name: "memory made executable") {
        let page = mmap(nil, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        return outcome(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0)
      },
      Probe(name: "a file cut short") {
        // There is none: ENOENT says that the call was made.
        truncate("/no/such/file", 0) == 0 || errno == ENOENT ? 0 : errno
      },
      Probe(name: "a signal to another process") { outcome(kill(getppid(), 0) == 0) },
      Probe(name: "a look at all of a terminal") {
        var size = winsize()
        // Not a terminal: ENOTTY says that the call was made.
        return ioctl(0, UInt(TIOCGWINSZ), &size) == 0 || errno == ENOTTY ? 0 : errno
      },
    ]
  }

  /// Those of Landlock; root can do them all.
  static func paths(_ socketPath: String) -> [Probe] {
    [
      Probe(name: "/etc/shadow") {
        // Who is not root is stopped by other means.
        geteuid() == 0
          ? closed(open("/etc/shadow", O_RDONLY))
          : (Landlock.abi == nil ? 0 : closed(open("/etc/hostname", O_RDONLY)))
      },
      Probe(name: "a file made") {
        closed(open("/tmp/swivel-probe-\(getpid())", O_CREAT | O_RDWR, 0o600))
      },
      Probe(name: "a directory listed") {
        guard let directory = opendir("/usr") else { return errno }
        closedir(directory)
        return 0
      },
      Probe(name: "a TCP connection") {
        let raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { close(raw) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(9).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
          }
        }
        // Nobody listens: ECONNREFUSED says that it was tried.
        return result == 0 || errno == ECONNREFUSED || errno == ENETUNREACH ? 0 : errno
      },
      Probe(name: "a socket elsewhere") {
        do throws(SystemError) {
          _ = try UnixListener(path: socketPath)
          return 0
        } catch { return error.errno.rawValue }
      },
    ]
  }

  static func expect(_ probes: [Probe], stopped: Bool) {
    for probe in probes {
      let why = probe.attempt()
      if stopped, why != EPERM, why != EACCES { fail("\(probe.name) was not stopped: \(why)") }
      if !stopped, why != 0 { fail("\(probe.name) does not work at all: \(why)") }
    }
  }

  static func fail(_ text: String) -> Never {
    FileHandle.standardError.write(Data("\(text)\n".utf8))
    _exit(1)
  }

  /// Without the end of a process, which concerns threads that have other limits.
  static func succeed() -> Never { _exit(0) }

  private static func outcome(_ worked: Bool) -> CInt { worked ? 0 : errno }

  private static func closed(_ descriptor: CInt) -> CInt {
    if descriptor < 0 { return errno }
    close(descriptor)
    return 0
  }
}
