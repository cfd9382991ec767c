import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// What the running daemon has given up, by the kernel's own account.
  @Suite(.enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"))
  struct Privilege {
    struct Case: CustomTestStringConvertible {
      var testDescription: String
      /// What stands under `security:`.
      var security: String
      /// What the kernel then says of it, by the line of /proc/PID/status.
      var status: [String: String]
      var landlock = true
      /// What the log then says.
      var log: String
    }

    private static let root = "0 0 0 0"
    /// Whether this host keeps the device that makes TAPs to root: then whoever is not root needs one thing more.
    private static let isDeviceRoots: Bool = {
      var device = stat()
      return stat("/dev/net/tun", &device) == 0 && device.st_mode & 0o006 != 0o006
    }()
    private static let netAdmin = "0000000000001000"
    private static let needed = isDeviceRoots ? "0000000000001002" : netAdmin
    private static let override = isDeviceRoots ? "dac-override " : ""
    private static let all: [String: String] = [
      "CapPrm": needed, "CapEff": needed, "CapInh": "0000000000000000",
      "CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
    ]

    private static func but(_ changes: [String: String]) -> [String: String] {
      all.merging(changes) { $1 }
    }

    static let cases = [
      Case(
        testDescription: "as it comes", security: "{}", status: all,
        log: "capabilities \(override)net-admin, seccomp on, Landlock ABI"),
      Case(
        testDescription: "a user by number", security: "{ user: 4711 }",
        status: but(["Uid": "4711 4711 4711 4711", "Gid": "4711 4711 4711 4711"]),
        log: "security: user 4711"),
      Case(
        testDescription: "user off", security: "{ user: off }",
        status: but(["Uid": root, "CapPrm": netAdmin, "CapEff": netAdmin]),
        log: "stays user 0: the configuration says so"),
      Case(
        testDescription: "capabilities by name",
        security: isDeviceRoots
          ? "{ capabilities: [net-admin, chown, dac-override] }"
          : "{ capabilities: [net-admin, chown] }",
        status: but(
          isDeviceRoots
            ? ["CapPrm": "0000000000001003", "CapEff": "0000000000001003"]
            : ["CapPrm": "0000000000001001", "CapEff": "0000000000001001"]),
        log: isDeviceRoots
          ? "capabilities chown dac-override net-admin" : "capabilities chown net-admin"),
      Case(
        testDescription: "seccomp off", security: "{ seccomp: off }", status: but(["Seccomp": "0"]),
        log: "no seccomp: the configuration turns it off"),
      Case(
        testDescription: "Landlock off", security: "{ landlock: off }", status: all,
        landlock: false, log: "no Landlock: the configuration turns it off"),
      Case(
        testDescription: "all off",
        security: "{ user: off, capabilities: off, seccomp: off, landlock: off }",
        status: ["Uid": root, "NoNewPrivs": "0", "Seccomp": "0"], landlock: false,
        log: "keeps all capabilities: the configuration says so"),
    ]

    @Test("without a TAP the daemon can't make one, and says which line lets it")
    func withoutTAP() throws {
      let tap = #"{"name":"up","tap":{"device":"swivelpriv1"}}"#
      let listed = Privilege.isDeviceRoots ? "[net-admin, dac-override]" : "[net-admin]"
      for (security, isMade) in [("{}", false), ("{ capabilities: \(listed) }", true)] {
        let scratch = try Scratch()
        chmod(scratch.path, 0o755)
        let daemon = try Daemon(
          ports: ["{ name: vm1, vhost-user: { path: \(scratch.file("run/vm1.sock")) } }"],
          scratch: scratch, control: scratch.file("run/control.sock"),
          more: "security: \(security)")
        let kept = try daemon.kernelStatus()["CapPrm"]
        #expect(kept == (isMade ? Privilege.needed : "0000000000000000"))
        let answer = try daemon.post(tap)
        let words = "(as in [\(Privilege.isDeviceRoots ? "net-admin, dac-override" : "net-admin")])"
        #expect(answer.contains("in security.capabilities \(words)") == !isMade, "\(answer)")
        #expect(answer.contains("frames to and from the interface") == isMade, "\(answer)")
        try daemon.stop()
      }
    }

    @Test("a socket of mode client keeps dac-override only where it is not the daemon's to write")
    func clientSocket() throws {
      for (mode, kept) in [(0o666, "0000000000000000"), (0o600, "0000000000000002")] {
        let scratch = try Scratch()
        chmod(scratch.path, 0o755)
        let path = scratch.file("qemu.sock")
        _ = try Command.run(
          "python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('\(path)')")
        chmod(path, mode_t(mode))
        let daemon = try Daemon(
          ports: ["{ name: vm1, vhost-user: { path: \(path), mode: client } }"], scratch: scratch,
          control: scratch.file("run/control.sock"))
        #expect(try daemon.kernelStatus()["CapPrm"] == kept)
        #expect(daemon.wholeLog.contains("keeps dac-override") == (mode == 0o600))
        try daemon.stop()
      }
    }

    @Test(
      "the daemon runs with what it needs and no more, and each part can be turned off",
      arguments: cases)
    func whatIsInForce(_ expected: Case) throws {
      let scratch = try Scratch()
      // A directory that the daemon makes is its own; that of the tests is root's and for root alone.
      chmod(scratch.path, 0o755)
      let socket = scratch.file("run/vm1.sock")
      let daemon = try Daemon(
        ports: [
          "{ name: vm1, vhost-user: { path: \(socket) } }",
          Daemon.tap("uplink", device: "swivelpriv0"),
        ],
        scratch: scratch, control: scratch.file("run/control.sock"),
        more: "security: \(expected.security)")
      let status = try daemon.kernelStatus()
      for (name, value) in expected.status { #expect(status[name] == value, "\(name)") }
      if expected.status["Uid"] == nil { #expect(status["Uid"]?.hasPrefix("0 ") == false) }
      #expect(daemon.wholeLog.contains(expected.log), "\(daemon.wholeLog)")
      let said = try #require(try daemon.stats().security)
      #expect(said.seccomp == (status["Seccomp"] == "2"))
      #expect((said.landlock != nil) == expected.landlock)

      // A place that no rule names.
      let elsewhere = try Scratch()
      chmod(elsewhere.path, 0o777)
      let added = try daemon.post(
        #"{"name":"else","vhost-user":{"path":"\#(elsewhere.file("else.sock"))"}}"#)
      #expect(added.contains("security.directories") == expected.landlock, "\(added)")
      #expect((access(elsewhere.file("else.sock"), F_OK) == 0) == !expected.landlock)

      // Nobody else, whoever may open the file.
      chmod(daemon.control, 0o666)
      var stranger = ""
      try wait(upTo: 20, for: "the refusal of a stranger, who was told \(stranger)") {
        // Refused before it asks, curl may find the connection closed before it has read why.
        stranger = try Command.run(
          "sh", "-c",
          "setpriv --reuid 5151 --regid 5151 --clear-groups curl --silent --unix-socket \(daemon.control)"
            + " http://swivel/v1/ports || true")
        #expect(!stranger.contains("vm1"))
        return stranger.contains("user 5151 may not use the control interface")
      }
      #expect(daemon.wholeLog.contains("the control socket refused user 5151"))
      try daemon.reload(ports: [
        "{ name: vm2, vhost-user: { path: \(scratch.file("run/vm2.sock")) } }"
      ])
      // What comes is made before what goes is removed.
      try wait(upTo: 30, for: "the reload; the log:\n\(daemon.log)") {
        try daemon.ports().contains { $0.name == "vm2" }
          && access(socket, F_OK) != 0 && access("/sys/class/net/swivelpriv0", F_OK) != 0
      }
      try daemon.stop()
    }
  }
}
