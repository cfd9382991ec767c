import ControlAPI
import Foundation
import Testing
import VirtioDriver

extension EndToEnd {
  /// What operators do to a running daemon, and what it must not cost anybody.
  @Suite(.enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"))
  struct Operator {
    let scratch: Scratch

    init() throws {
      scratch = try Scratch()
      chmod(scratch.path, 0o755)
    }

    private func vhost(_ name: String, _ more: String = "") -> String {
      "{ name: \(name), vhost-user: { path: \(scratch.file("run/\(name).sock"))\(more) } }"
    }

    private func daemon(_ ports: [String], more: String = "") throws -> Daemon {
      try Daemon(
        ports: ports, scratch: scratch, control: scratch.file("run/control.sock"), more: more)
    }

    /// Has the daemon reload, and returns what its log says of it.
    private func reload(_ daemon: Daemon, _ ports: [String]) throws -> String {
      try said(daemon) { try daemon.reload(ports: ports) }
    }

    private func said(_ daemon: Daemon, _ body: () throws -> Void) throws -> String {
      let before = daemon.wholeLog.count
      try body()
      var new: Substring = ""
      try wait(upTo: 60, for: "the end of a reload; the log:\n\(daemon.log)") {
        new = daemon.wholeLog.dropFirst(before)
        return new.contains("reloaded ") || new.contains("reload failed")
      }
      return String(new)
    }

    @Test("defaults written out are no change, in any section")
    func defaultsWrittenOut() throws {
      let tap = "swivelop0"
      let daemon = try daemon([vhost("vm1"), Daemon.tap("up", device: tap)])
      let guest = try GuestPort(path: scratch.file("run/vm1.sock"))
      let index = try String(contentsOfFile: "/sys/class/net/\(tap)/ifindex", encoding: .utf8)
      let kept = try #require(try daemon.stats().security).capabilities.joined(separator: ", ")
      let text = """
        control: { socket: \(scratch.path)//run/control.sock, owner: \(try uid(daemon)), permissions: "600" }
        workers: { cpus: 0-0, poll: adaptive }
        ports:
          - name: vm1
            mtu: 1400
            vhost-user:
              { path: \(scratch.path)/./run/vm1.sock, mode: server, queues: 1, permissions: 660 }
          - { name: up, tap: { device: \(tap), queues: 1 } }
        mac-table: { entries: 16384, age: 5m, per-port: 1024 }
        guest-memory: { per-port: 1T, regions: 64, disks: off }
        security: { capabilities: [\(kept)], seccomp: on, landlock: on }
        """
      let log = try said(daemon) { try daemon.reload(text: text) }
      #expect(log.contains("changed in place: vm1; 1 unchanged"), "\(log)")
      #expect(try daemon.port("vm1").mtu == 1400)
      #expect(!guest.frontEnd.isClosed())
      #expect(try String(contentsOfFile: "/sys/class/net/\(tap)/ifindex", encoding: .utf8) == index)
      try daemon.stop()
    }

    private func uid(_ daemon: Daemon) throws -> String {
      try #require(try daemon.kernelStatus()["Uid"]?.split(separator: " ").first.map(String.init))
    }

    @Test("a run directory that was made anew costs no guest, and the log says what to do")
    func runDirectoryMadeAnew() throws {
      let daemon = try daemon([vhost("vm1")])
      let guest = try GuestPort(path: scratch.file("run/vm1.sock"))
      try makeAnew(scratch.file("run"), for: daemon)
      let log = try reload(daemon, [vhost("vm1", ", queues: 2")])
      #expect(log.contains("reload failed") && log.contains("was made anew"), "\(log)")
      #expect(log.contains("security.directories"), "\(log)")
      #expect(!guest.frontEnd.isClosed())
      // The control socket's file went with the directory, too.
      #expect(daemon.isRunning)
      try daemon.crash()
    }

    @Test("below a directory of security.directories others may come and go")
    func runDirectoryBelowANamedOne() throws {
      let daemon = try Daemon(
        ports: [vhost("vm1")], scratch: scratch, control: scratch.file("ctl/control.sock"),
        more: "security: { directories: [\(scratch.path)] }")
      let guest = try GuestPort(path: scratch.file("run/vm1.sock"))
      try makeAnew(scratch.file("run"), for: daemon)
      let log = try reload(daemon, [vhost("vm1", ", queues: 2")])
      #expect(log.contains("made anew: vm1"), "\(log)")
      #expect(guest.frontEnd.isClosed(within: 60_000))
      _ = try GuestPort(path: scratch.file("run/vm1.sock"))
      try daemon.stop()
    }

    private func makeAnew(_ folder: String, for daemon: Daemon) throws {
      try FileManager.default.removeItem(atPath: folder)
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
      let user = try #require(UInt32(try uid(daemon)))
      #expect(chown(folder, user, user) == 0)
    }

    @Test(
      "a configuration behind links that move is read again, and one in a replaced directory says why not"
    )
    func configurationDirectories() throws {
      // As Kubernetes mounts a ConfigMap: the file is a link into "..data", itself a link that moves.
      let map = scratch.file("map")
      func generation(_ number: Int, _ ports: [String]) throws {
        let folder = "\(map)/..\(number)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let text = """
          control: { socket: \(scratch.file("run/control.sock")) }
          workers: { cpus: [0] }
          ports: [ \(ports.joined(separator: ", ")) ]

          """
        try text.write(toFile: "\(folder)/swivel.yaml", atomically: false, encoding: .utf8)
        symlink("..\(number)", "\(map)/..next")
        #expect(rename("\(map)/..next", "\(map)/..data") == 0)
      }
      try generation(1, [vhost("vm1")])
      symlink("..data/swivel.yaml", "\(map)/swivel.yaml")
      let command = try Command(
        Place.program("swiveld"), ["--config", "\(map)/swivel.yaml"], log: scratch.file("log"))
      try wait(upTo: 30, for: "swiveld; its log:\n\(command.tail)") {
        command.output.contains("serves 1 ports")
      }
      try generation(2, [vhost("vm1"), vhost("vm2")])
      command.signal(SIGHUP)
      try wait(upTo: 30, for: "the reload; the log:\n\(command.tail)") {
        command.output.contains("added: vm2; 1 unchanged")
      }
      #expect(rename(map, map + ".old") == 0)
      try generation(3, [vhost("vm1")])
      symlink("..data/swivel.yaml", "\(map)/swivel.yaml")
      command.signal(SIGHUP)
      try wait(upTo: 30, for: "the refusal; the log:\n\(command.tail)") {
        command.output.contains("reload failed")
      }
      #expect(command.output.contains("permission denied; it is in a directory that was made anew"))
      command.signal(SIGTERM)
      #expect(try command.status(within: 20) == 0)
    }

    @Test("a port of mode client that can't connect says so when it is added, with what to do")
    func clientPortAddedLater() throws {
      let daemon = try daemon([vhost("vm1")])
      let theirs = scratch.file("qemu.sock")
      let later = try daemon.post(
        #"{"name":"later","vhost-user":{"path":"\#(theirs)","mode":"client"}}"#)
      #expect(
        later.contains("must be allowed to write to it, for it has no dac-override"), "\(later)")
      #expect(later.contains("security.capabilities (as in [dac-override])"), "\(later)")
      _ = try Command.run(
        "python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('\(theirs)')")
      chmod(theirs, 0o600)
      let now = try daemon.port("later").explanation
      #expect(now.contains("may not write to \(theirs)"), "\(now)")
      rename(theirs, theirs + "2")
      let denied = try daemon.post(
        #"{"name":"denied","vhost-user":{"path":"\#(theirs)2","mode":"client"}}"#)
      #expect(
        denied.contains("error") && denied.contains("may not write to \(theirs)2"), "\(denied)")
      #expect(try daemon.ports().map(\.name) == ["vm1", "later"])
      try daemon.stop()
    }

    @Test("whoever reads the log and stops holds nobody up")
    func nobodyReadsTheLog() throws {
      let fifo = scratch.file("fifo")
      #expect(mkfifo(fifo, 0o600) == 0)
      let end = open(fifo, O_RDWR | O_NONBLOCK)
      #expect(end >= 0)
      defer { close(end) }
      let junk = [UInt8](repeating: 0x2e, count: 4096)
      while write(end, junk, junk.count) > 0 {}
      let text = """
        control: { socket: \(scratch.file("run/control.sock")) }
        workers: { cpus: [0] }
        ports: [ \(vhost("vm1")) ]

        """
      try text.write(toFile: scratch.file("swivel.yaml"), atomically: true, encoding: .utf8)
      let command = try Command(
        "sh",
        [
          "-c", "exec \"$1\" --config \"$2\" 2>\"$3\"", "sh", Place.program("swiveld"),
          scratch.file("swivel.yaml"), fifo,
        ],
        log: scratch.file("log"))
      func ask(_ method: String, _ path: String) throws -> String {
        try Command.run(
          "curl", "--silent", "--max-time", "20", "--unix-socket", scratch.file("run/control.sock"),
          "-X",
          method, "http://swivel\(path)")
      }
      try wait(upTo: 30, for: "swiveld to answer") { (try? ask("GET", "/v1/ports")) != nil }
      let guest = try GuestPort(path: scratch.file("run/vm1.sock"))
      #expect(try ask("DELETE", "/v1/ports/vm1") == "")
      #expect(guest.frontEnd.isClosed(within: 60_000))
      let log = try JSONDecoder().decode(LogStatus.self, from: Data(try ask("GET", "/v1/log").utf8))
      #expect(log.droppedLines > 0)
      command.signal(SIGTERM)
      #expect(try command.status(within: 60) == 0)
    }

    @Test("the command line changes ports, addresses and the log, and a scraper's socket nothing")
    func commandLine() throws {
      let reader = scratch.file("run/metrics.sock")
      let control = scratch.file("run/control.sock")
      let text = """
        control: { socket: \(control), read-only: { socket: \(reader), permissions: 0666 } }
        workers: { cpus: [0] }
        ports: [ \(vhost("vm1")) ]

        """
      try text.write(toFile: scratch.file("swivel.yaml"), atomically: true, encoding: .utf8)
      let daemon = try Command(
        Place.program("swiveld"), ["--config", scratch.file("swivel.yaml")],
        log: scratch.file("log"))
      try wait(upTo: 30, for: "swiveld; its log:\n\(daemon.tail)") {
        daemon.output.contains("serves 1 ports")
      }
      func swivel(_ line: String, at socket: String) throws -> String {
        try Command.run(
          "sh", "-c", "\(Place.program("swivel")) \(line) --socket \(socket) 2>&1 || echo status $?"
        )
      }
      #expect(try swivel("port set vm1 --mtu 1400", at: control) == "vm1 is changed\n")
      #expect(
        try swivel("macs add 52:54:00:00:00:09 vm1", at: control)
          == "52:54:00:00:00:09 leads to vm1\n")
      #expect(try swivel("macs --port vm1", at: control).contains("52:54:00:00:00:09  vm1   stays"))
      #expect(try swivel("log-level debug", at: control) == "debug\n")
      #expect(try swivel("health", at: control) == "healthy; ports: 1 waiting\n")
      // The file says nothing of an MTU.
      #expect(try swivel("reload", at: control) == "changed in place: vm1; 0 unchanged\n")
      #expect(try swivel("ports", at: reader).contains("vm1"))
      for line in ["port remove vm1", "reload", "port set vm1 --mtu 1300", "macs flush"] {
        let answer = try swivel(line, at: reader)
        #expect(answer.contains("for reading alone") && answer.hasSuffix("status 1\n"), "\(answer)")
      }
      try "ports: [".write(toFile: scratch.file("swivel.yaml"), atomically: true, encoding: .utf8)
      #expect(try swivel("reload", at: control).contains("swivel.yaml:"))
      #expect(try swivel("ports", at: control).contains("vm1"))
      daemon.signal(SIGTERM)
      #expect(try daemon.status(within: 60) == 0)
      #expect(access(reader, F_OK) != 0)
    }
  }
}
