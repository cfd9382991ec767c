import Control
import ControlAPI
import Foundation
import Testing

@testable import Configuration

@Suite struct ConfigurationTests {
  /// The problems of a text, as `line:column: message`.
  private func problems(_ text: String) -> [String] {
    do {
      _ = try Configuration.parse(text, file: "f", cpu: 0)
      return []
    } catch {
      return error.description.split(separator: "\n").map { String($0.dropFirst(2)) }
    }
  }

  @Test func theDesignsExample() throws {
    let text = """
      control: { socket: /run/swivel/control.sock }
      workers: { cpus: [0], poll: adaptive }
      ports:
        - { name: vm1, vhost-user: { path: /run/swivel/vm1.sock, mode: server, queues: 1 } }
        - { name: vm2, vhost-user: { path: /run/swivel/vm2.sock, mode: client } }
        - { name: uplink, tap: { device: swivel0, queues: 1 } }
      mac-table: { entries: 16384, age: 300s }
      """
    let configuration = try Configuration.parse(text, file: "f", cpu: 9)
    #expect(
      configuration
        == Configuration(
          control: ControlSocket(path: "/run/swivel/control.sock"),
          workers: .init(cpus: [0], poll: .adaptive),
          ports: [
            PortRequest(
              name: "vm1",
              vhostUser: VhostUserRequest(path: "/run/swivel/vm1.sock", mode: .server, queues: 1)),
            PortRequest(
              name: "vm2", vhostUser: VhostUserRequest(path: "/run/swivel/vm2.sock", mode: .client)),
            PortRequest(name: "uplink", tap: TapRequest(device: "swivel0", queues: 1)),
          ], macTable: .init(entries: 16384, age: 300)))
  }

  @Test func everyKeyIsTaken() throws {
    let text = """
      control: { socket: /c.sock, owner: 107, group: kvm, permissions: 0660 }
      workers: { cpus: [3, 1], poll: busy }
      ports:
        - name: a
          mtu: 9000
          macs: 4096
          vhost-user: { path: "/a", mode: server, queues: 16, owner: qemu, group: 0, permissions: '600', memory: 64G, regions: 8, offloads: [csum, host-tso4] }
      mac-table: { entries: 1024, age: 5m, per-port: 16, loops: cut }
      guest-memory: { per-port: 512M, regions: 512, disks: on }
      """
    let configuration = try Configuration.parse(text, file: "f", cpu: 9)
    #expect(
      configuration
        == Configuration(
          control: ControlSocket(path: "/c.sock", owner: "107", group: "kvm", permissions: "0660"),
          workers: .init(cpus: [3, 1], poll: .busy),
          ports: [
            PortRequest(
              name: "a",
              vhostUser: VhostUserRequest(
                path: "/a", mode: .server, queues: 16, owner: "qemu", group: "0",
                permissions: "600", memory: "64G", regions: 8,
                offloads: ["csum", "host-tso4"]), mtu: 9000, macs: 4096)
          ], macTable: .init(entries: 1024, age: 300, perPort: 16, loops: .cut),
          guestMemory: .init(perPort: 512 << 20, regions: 512, onDisks: true)))
  }

  @Test func securityIsOnAndEachPartCanBeTurnedOff() throws {
    func security(_ text: String) throws -> Configuration.Security {
      try Configuration.parse(text, file: "f", cpu: 0).security
    }
    #expect(try security("ports: []") == Configuration.Security())
    #expect(Configuration.embedded(cpu: 0, uplink: true).security == Configuration.Security())
    #expect(
      try security("security: { user: off, capabilities: off, seccomp: off, landlock: false }")
        == Configuration.Security(user: .off, capabilities: .off, seccomp: false, landlock: false))
    #expect(
      try security(
        "security: { user: qemu, capabilities: [net-admin], seccomp: on, directories: [/run/a] }")
        == Configuration.Security(
          user: .named("qemu"), capabilities: .only(["net-admin"]), directories: ["/run/a"]))
    #expect(try security("security: { capabilities: auto, user: 107 }").user == .named("107"))
  }

  @Test func whatIsLeftOutHasDefaults() throws {
    let configuration = try Configuration.parse("ports: []", file: "f", cpu: 5)
    #expect(configuration == Configuration(workers: .init(cpus: [5])))
    #expect(configuration.control.path == "/run/swivel/control.sock")
    #expect(configuration.macTable == .init(entries: 16384, age: 300, perPort: 1024))
    #expect(configuration.guestMemory == .init(perPort: 1 << 40, regions: 64, onDisks: false))
  }

  @Test func theEmbeddedDefaultIsValid() {
    let configuration = Configuration.embedded(cpu: 7, uplink: true)
    #expect(configuration.workers.cpus == [7])
    #expect(configuration.control.path == "/run/swivel/control.sock")
    #expect(configuration.ports.map(\.name) == ["vm1", "vm2", "uplink"])
    #expect(
      configuration.ports.compactMap(\.vhostUser?.path) == [
        "/run/swivel/vm1.sock", "/run/swivel/vm2.sock",
      ])
    #expect(configuration.ports.last?.tap?.device == "swivel0")
    #expect(configuration.ports.allSatisfy { $0.faults.isEmpty })
    #expect(Configuration.embedded(cpu: 7, uplink: false).ports.count == 2)
  }

  @Test func anUnknownKeySaysWhatWasExpected() {
    let text = """
      # comment
      ports:
        - name: vm1
          vhost-user:
            path: /a
            quues: 2
      """
    #expect(
      problems(text) == [
        "6:7: unknown key 'quues' in vhost-user; expected path, mode, queues, owner, group, "
          + "permissions, memory, regions or offloads (did you mean 'queues'?)"
      ])
  }

  @Test(arguments: [
    ("prots: []", "1:1: unknown key 'prots' in the configuration"),
    (
      "workers: { cpu: [0] }",
      "1:12: unknown key 'cpu' in workers; expected cpus, poll or rebalance"
    ),
    ("control: { mode: 0660 }", "1:12: unknown key 'mode' in control"),
    ("? [a]\n: b", "1:3: a key must be a word, not a list"),
    ("[]", "1:1: the configuration must be a mapping, not a list"),
    ("ports: { name: a }", "1:8: ports must be a list of ports, not a mapping"),
    ("ports:\n  - vm1", "2:5: the port must be a mapping, not 'vm1'"),
    (
      "workers: { cpus: { a: 0 } }",
      "1:18: workers.cpus must be a list of CPU numbers and ranges, as in [0, 2-5], not a mapping"
    ),
    (
      "ports: [{ name: a, vhost-user: { path: /a, offloads: tso4 } }]",
      "vhost-user.offloads must be all, none or host, or a list of csum, host-tso4,"
    ),
    (
      "ports: [{ name: a, vhost-user: { path: /a, offloads: [csum, [host-tso4]] } }]",
      ": vhost-user.offloads must be a list of words, not of a list"
    ),
    (
      "ports: [{ name: a, vhost-user: { path: /a, offloads: } }]",
      "vhost-user.offloads must be a string, not nothing"
    ),
    ("workers: { cpus: }", "workers.cpus must be a list of CPU numbers and ranges"),
    (
      "workers: { cpus: [5-2] }", "1:19: a range of CPUs must be as in 2-5, of 0 to 1023, not '5-2'"
    ),
    ("workers: { cpus: [1-1024] }", "a range of CPUs must be as in 2-5"),
    ("workers: { cpus: [1-2-3] }", "1:19: a CPU's number must be a whole number"),
    ("workers: { cpus: [0-3, 2] }", "1:24: CPU 2 is in workers.cpus twice"),
    ("control: { read-only: {} }", "the key 'socket' is missing in control.read-only"),
    ("control: { read-only: { socket: r } }", "control.read-only.socket must be an absolute path"),
    (
      "control: { socket: /a/b, read-only: { socket: /a//b } }",
      "1:47: control.read-only.socket must be another one than control.socket"
    ),
    ("control: { owner: '' }", "1:19: control.owner must be a name or a number"),
    ("workers: { cpus: [] }", "1:18: workers.cpus must name one CPU at least"),
    ("workers: { cpus: [0, 1, 0] }", "1:25: CPU 0 is in workers.cpus twice"),
    ("workers: { cpus: [-1] }", "1:19: a CPU's number must be 0 to 1023, not -1"),
    ("workers: { cpus: [one] }", "1:19: a CPU's number must be a whole number, not 'one'"),
    ("workers: { poll: lazy }", "1:18: workers.poll must be adaptive or busy, not 'lazy'"),
    ("workers: { rebalance: on }", "1:23: workers.rebalance must be off or auto, not 'on'"),
    ("security: { sandbox: on }", "1:13: unknown key 'sandbox' in security; expected user,"),
    ("security: on", "security must be a mapping, not 'on'"),
    ("security: { seccomp: maybe }", "1:22: security.seccomp must be on or off, not 'maybe'"),
    ("security: { landlock: [] }", "1:23: security.landlock must be on or off, not a list"),
    ("security: { user: '' }", "security.user must be a user's name or number, or off"),
    ("security: { user: [] }", "security.user must be a string, not a list"),
    ("security: { capabilities: all }", "security.capabilities must be auto, off or a list"),
    ("security: { capabilities: [sys-admin] }", "a capability must be one of chown, dac-override"),
    ("security: { directories: /run }", "security.directories must be a list of directories"),
    ("security: { directories: [run] }", "1:27: a directory must be an absolute path, not 'run'"),
    ("mac-table: { entries: 5 }", "1:23: mac-table.entries must be 16 to 16777216, not 5"),
    ("mac-table: { entries: 1e4 }", "1:23: mac-table.entries must be a whole number, not '1e4'"),
    ("mac-table: { entries: 01000 }", "must be a whole number, not '01000'"),
    ("mac-table: { entries: \"64\" }", "must be a whole number, not '64'"),
    (
      "mac-table: { age: 300 }",
      "1:19: mac-table.age must be a time from 1s to 168h, as in 300s, 5m"
    ),
    ("mac-table: { loops: yes }", "1:21: mac-table.loops must be name or cut, not 'yes'"),
    ("mac-table: { per-port: 0 }", "1:24: mac-table.per-port must be 1 to 16777216, not 0"),
    (
      "guest-memory: { per-port: 64 }",
      "1:27: guest-memory.per-port must be a size from 1M to 64T, as in 64G, not '64'"
    ),
    ("guest-memory: { per-port: 65T }", "must be a size from 1M to 64T"),
    ("guest-memory: { regions: 0 }", "1:26: guest-memory.regions must be 1 to 512, not 0"),
    (
      "ports: [{ name: a, vhost-user: { path: /a, memory: lots } }]",
      "1:52: vhost-user.memory must be a size from 1M to 64T, as in 64G, not 'lots'"
    ),
    ("mac-table: { age: -5s }", "mac-table.age must be a time"),
    ("mac-table: { age: 169h }", "mac-table.age must be a time"),
    ("mac-table: { age: 9223372036854775807h }", "mac-table.age must be a time"),
    ("control: { socket: c.sock }", "1:20: control.socket must be an absolute path, not 'c.sock'"),
    ("control: { permissions: rw }", "1:25: control.permissions must be octal, as in '0660'"),
    ("control: { owner: ~ }", "1:19: control.owner must be a string, not nothing"),
    ("ports: [{ tap: { device: t } }]", "1:9: the key 'name' is missing in the port"),
    ("ports: [{ name: a }]", "1:9: a port needs vhost-user or tap"),
    (
      "ports: [{ name: a, tap: { device: t }, vhost-user: { path: /a } }]",
      "1:25: a port has vhost-user or tap, not both"
    ),
    ("ports: [{ name: a, tap: {} }]", "1:25: the key 'device' is missing in tap"),
    ("ports: [{ name: a b, tap: { device: t } }]", "1:17: name must be 1 to 64 characters"),
    (
      "ports: [{ name: a, tap: { device: t, queues: 17 } }]",
      "1:46: tap.queues must be 1 to 16, not 17"
    ),
    ("ports: [{ name: a, tap: { device: t }, mtu: 67 }]", "1:45: mtu must be 68 to 65535 bytes"),
    (
      "ports: [{ name: a, tap: { device: t }, macs: 0 }]",
      "1:46: macs must be 1 to 16777216 addresses, not 0"
    ),
    (
      "ports: [{ name: a, vhost-user: { path: /a, mode: sever } }]",
      "1:50: vhost-user.mode must be server or client, not 'sever'"
    ),
    (
      "ports: [{ name: a, vhost-user: { path: /a, mode: client, owner: u } }]",
      "1:65: vhost-user.owner is for mode server"
    ),
    ("ports: [", "this is not YAML:"),
    ("a: b: c", "1:5: this is not YAML: mapping values are not allowed in this context"),
    ("\tports: []", "this is not YAML:"),
    ("", "1:1: the file is empty; expected control, workers, ports, mac-table"),
    ("# nothing\n", "1:1: the file is empty"),
    (
      "ports: []\n---\nports: []",
      "2:1: expected a single document in the stream, but found another"
    ),
    ("ports: []\nworkers: {}\nports: []", "duplicate key 'ports'"),
    ("mac-table: { age: 1s, age: 2s }", "duplicate key 'age'"),
    ("control: &a { socket: /a }\nworkers: *a", "2:10: aliases such as *a are not taken here"),
    ("ports: *unknown", "1:8: found undefined alias"),
  ])
  func everyErrorSaysWhereAndWhat(text: String, expected: String) {
    let problems = problems(text)
    #expect(problems.count == 1, "\(problems)")
    #expect(problems.first?.contains(expected) == true, "\(problems)")
  }

  @Test func duplicatesAreToldOfTheFirst() {
    let text = """
      control: { socket: /run/c.sock }
      ports:
        - { name: a, vhost-user: { path: /run/a.sock } }
        - { name: a, vhost-user: { path: /run/b.sock } }
        - { name: c, vhost-user: { path: /run/a.sock } }
        - { name: d, tap: { device: t0 } }
        - { name: e, tap: { device: t0 } }
        - { name: f, vhost-user: { path: /run//./c.sock } }
        - { name: g, vhost-user: { path: /run//a.sock } }
      """
    #expect(
      problems(text) == [
        "4:13: the name 'a' is taken: the port in line 3 has it",
        "5:36: the socket path '/run/a.sock' is taken: the port in line 3 has it",
        "7:31: the TAP device 't0' is taken: the port in line 6 has it",
        "8:36: the socket path '/run/c.sock' is taken: the control socket has it",
        "9:36: the socket path '/run/a.sock' is taken: the port in line 3 has it",
      ])
  }

  /// As when all that was below is commented out.
  @Test func emptySectionsSayNothing() throws {
    let text = ["control", "workers", "ports", "mac-table", "guest-memory", "security"].map {
      "\($0):\n  # a: b\n"
    }
    #expect(
      try Configuration.parse(text.joined(), file: "f", cpu: 3)
        == Configuration(workers: .init(cpus: [3])))
  }

  @Test func rangesOfCPUs() throws {
    for (text, cpus) in [
      ("[2-5, 8]", [2, 3, 4, 5, 8]), ("2-5", [2, 3, 4, 5]), ("7", [7]), ("[3-3]", [3]),
      ("['0-1']", [0, 1]),
    ] {
      let text = "workers: { cpus: \(text) }"
      #expect(try Configuration.parse(text, file: "f", cpu: 9).workers.cpus == cpus, "\(text)")
    }
  }

  @Test func aSecondSocketIsForReading() throws {
    let text = """
      control:
        socket: /run/swivel/control.sock
        read-only: { socket: /run/swivel/metrics.sock, group: prometheus, permissions: 0660 }
      """
    let configuration = try Configuration.parse(text, file: "f", cpu: 0)
    #expect(
      configuration.reader
        == ControlSocket(
          path: "/run/swivel/metrics.sock", group: "prometheus", permissions: "0660"))
    #expect(configuration.controlSockets.count == 2)
  }

  @Test func allProblemsAreReportedInOrder() {
    let text = """
      mac-table: { age: soon }
      ports:
        - { name: a, tap: { device: t, queue: 1 } }
        - { name: b, tap: { device: "x y" } }
      workers: { cpus: [] }
      """
    #expect(problems(text).map { $0.prefix { $0 != ":" } } == ["1", "3", "4", "5"])
  }

  @Test func starsAndAmpersandsInValuesAreNoAliases() throws {
    let text = """
      # &a and *a mean nothing in a comment
      control: { socket: "/run/a&b *c" } # &x *x
      """
    #expect(try Configuration.parse(text, file: "f", cpu: 0).control.path == "/run/a&b *c")
  }

  /// Each line names the one before nine times; expanded it would be a billion values.
  @Test func anAliasBombIsRefusedAtOnce() {
    var lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in 1...12 {
      let nine = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      lines.append("? &a\(level) [\(nine)]\n: 1")
    }
    let start = ContinuousClock.now
    #expect(problems(lines.joined(separator: "\n")).count == 1)
    #expect(ContinuousClock.now - start < .seconds(100))
  }

  @Test func deepNestingIsRefused() {
    #expect(!problems(String(repeating: "[", count: 500_000)).isEmpty)
    #expect(!problems("ports: " + String(repeating: "{a: ", count: 100_000)).isEmpty)
    #expect(!problems(String(repeating: "- ", count: 200_000) + "a").isEmpty)
  }

  @Test func filesThatCannotBeRead() throws {
    let path = "/tmp/swivel-\(UUID().uuidString.prefix(8)).yaml"
    defer { try? FileManager.default.removeItem(atPath: path) }
    func failure() -> String {
      do {
        _ = try Configuration.load(path: path, cpu: 0)
        return "none"
      } catch {
        return error.description
      }
    }
    #expect(failure() == "\(path): there is no such file")
    try Data([UInt8](repeating: 0x20, count: (1 << 20) + 1)).write(to: URL(fileURLWithPath: path))
    #expect(failure() == "\(path): the file is longer than 1 MiB")
    try Data("ports: []\n# \u{e4}\n".utf8 + [0xff, 0x0a]).write(to: URL(fileURLWithPath: path))
    #expect(failure() == "\(path):3:1: this line is not UTF-8")
    try Data("ports: []\n".utf8).write(to: URL(fileURLWithPath: path))
    #expect(failure() == "none")
    // With the mark by which editors of other systems begin a file.
    try Data("\u{feff}ports: []\n".utf8).write(to: URL(fileURLWithPath: path))
    #expect(failure() == "none")
    try Data([0xff, 0xfe] + "p\0o\0".utf8).write(to: URL(fileURLWithPath: path))
    #expect(failure() == "\(path): the file is UTF-16; save it as UTF-8")
    try FileManager.default.removeItem(atPath: path)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    #expect(failure() == "\(path): this is a directory; name the file in it")
  }
}
