import ArgumentParser
import Control
import ControlAPI
import ControlClient
import Foundation
import Linux
import Logging
import Testing

@testable import swivel

/// The commands' options, and the client against a server.
@Suite struct CommandTests {
  private final class OnePort: SwitchService {
    let list = Lock([RenderingTests.vm1])

    func ports() -> [ControlAPI.Port] { list.withLock { $0 } }
    func port(named name: String) -> ControlAPI.Port? { ports().first { $0.name == name } }
    func addPort(_ request: PortRequest) throws(ServiceError) -> ControlAPI.Port {
      let port = ControlAPI.Port(
        name: request.name, kind: .tap, state: .waiting,
        explanation: request.tap.map { "\($0.device) with \($0.queues ?? 1) queues" } ?? "")
      list.withLock { $0.append(port) }
      return port
    }
    func removePort(named name: String) throws(ServiceError) {
      if port(named: name) == nil { throw ServiceError(.notFound, "there is no port '\(name)'") }
      list.withLock { $0.removeAll { $0.name == name } }
    }
    let change = Lock<PortChange?>(nil)
    func changePort(named name: String, _ change: PortChange) throws(ServiceError)
      -> ControlAPI.Port
    {
      self.change.withLock { $0 = change }
      guard let port = port(named: name) else { throw ServiceError(.notFound, "none") }
      return port
    }
    func addWorker(_ request: WorkerRequest) throws(ServiceError) -> Worker {
      note("worker on \(request.cpu)")
      return Worker(id: 7, cpu: request.cpu, node: 0, state: "sleeping")
    }
    func removeWorker(_ number: Int) throws(ServiceError) { note("no worker \(number)") }
    func rebalance() throws(ServiceError) -> BalanceReport { BalanceReport() }
    let asked = Lock<[String]>([])
    private func note(_ what: String) { asked.withLock { $0.append(what) } }
    func addMAC(_ mac: String, port: String) throws(ServiceError) -> MACEntry {
      note("add \(mac) \(port)")
      return MACEntry(mac: mac, port: port, age: 0, pinned: true)
    }
    func removeMAC(_ mac: String) throws(ServiceError) { note("remove \(mac)") }
    func flushMACs(port: String?) throws(ServiceError) { note("flush \(port ?? "all")") }
    func health() -> Health { Health(healthy: false, problems: ["worker 0 is stuck"]) }
    func reload() throws(ServiceError) -> ReloadReport { ReloadReport(added: ["a"], unchanged: 2) }
    let level = Lock(LogLevel.info)
    func logStatus() -> LogStatus { LogStatus(level: level.withLock { $0 }) }
    func setLogLevel(_ new: LogLevel) { level.withLock { $0 = new } }
    func macs() -> [MACEntry] { [] }
    func workers() -> [Worker] { [Worker(id: 9, cpu: 5, node: 0, state: "sleeping")] }
    func stats() -> Stats { RenderingTests.stats(uptime: 1, frames: 1) }
  }

  private func path() -> String { "/tmp/swivel-cli-\(UUID().uuidString.prefix(8)).sock" }

  @Test func theClientTalksToTheServer() async throws {
    let path = path()
    let service = OnePort()
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let server = ControlServer(
      socket: ControlSocket(path: path), service: service, logger: logger)
    try await server.start()
    let client = ControlClient(path: path)
    let ports = try client.get("/v1/ports")
    #expect(try ControlClient.decode([ControlAPI.Port].self, from: ports) == service.ports())
    let request = PortRequest(name: "up", tap: TapRequest(device: "t0", queues: 2))
    let added = try ControlClient.decode(
      ControlAPI.Port.self, from: try client.post("/v1/ports", request))
    #expect(added.explanation == "t0 with 2 queues")
    try client.delete("/v1/ports/up")
    #expect(throws: ClientError("there is no port 'up'")) { try client.delete("/v1/ports/up") }
    #expect(throws: ClientError("there is no port 'a/b c'")) {
      try client.get("/v1/ports/" + ControlClient.segment("a/b c"))
    }
    #expect {
      try ControlClient.decode([Worker].self, from: Data("{}".utf8))
    } throws: {
      "\($0)".contains("of one version?")
    }
    await server.stop()
    #expect(throws: ClientError("no daemon at \(path): is swiveld running?")) {
      try client.get("/v1/ports")
    }
  }

  /// Each command asks for what it says.
  @Test func commandsAskForWhatTheySay() async throws {
    let path = path()
    let service = OnePort()
    let server = ControlServer(
      socket: ControlSocket(path: path), service: service,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try await server.start()
    func run(_ line: String) throws {
      var command = try Swivel.parseAsRoot(
        line.split(separator: " ").map(String.init) + ["--socket", path, "--json"])
      try command.run()
    }
    try run("port set vm1 --mtu 9000 --group default")
    #expect(service.change.withLock { $0 } == PortChange(mtu: .value(9000), group: .standard))
    try run("macs add 52:54:00:00:00:01 vm1")
    try run("macs remove 52:54:00:00:00:01")
    try run("macs flush")
    try run("macs flush --port vm1")
    try run("workers add 3")
    try run("workers remove 4")
    try run("workers remove --cpu 5")
    #expect(throws: ClientError("no worker runs on CPU 6")) { try run("workers remove --cpu 6") }
    for wrong in ["workers remove", "workers remove 1 --cpu 2", "workers add"] {
      #expect(throws: (any Error).self) { try run(wrong) }
    }
    #expect(
      service.asked.withLock { $0 } == [
        "add 52:54:00:00:00:01 vm1", "remove 52:54:00:00:00:01", "flush all", "flush vm1",
        "worker on 3", "no worker 4", "no worker 9",
      ])
    try run("log-level debug")
    #expect(service.level.withLock { $0 } == .debug)
    try run("reload")
    try run("ports --state running --kind tap")
    try run("macs --port vm1")
    // Ill health is a reply, and the exit status.
    #expect(throws: ExitCode(1)) { try run("health") }
    await server.stop()
  }

  @Test func anOutputThatCanNotBeWrittenIsSaid() async throws {
    let result = await #expect(
      processExitsWith: .exitCode(1), observing: [\.standardErrorContent]
    ) {
      let full = open("/dev/full", O_WRONLY)
      dup2(full, 1)
      Output.write("x")
    }
    let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(said.contains("swivel: the output can't be written: No space left on device"))
  }

  @Test func aServerThatDoesNotAnswerIsGivenUp() throws {
    let path = path()
    let listener = try UnixListener(path: path)
    let client = ControlClient(path: path, timeout: .milliseconds(200))
    #expect {
      try client.get("/v1/ports")
    } throws: {
      "\($0)".contains("did not answer within")
    }
    withExtendedLifetime(listener) {}
  }

  /// A daemon that serves too many says so and closes, which may break the request's write.
  @Test func aReplyBeforeTheRequestIsRead() async throws {
    let path = path()
    let listener = try UnixListener(path: path)
    let daemon = try Linux.Thread(name: "daemon") {
      _ = try? Poller.wait([(listener.descriptor.raw, .read)])
      guard let socket = try? UnixSocket.accept(listener.descriptor) else { return }
      let reply =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\n\r\n{\"error\":\"busy\"}"
      _ = try? Array(reply.utf8).withUnsafeBytes { try UnixSocket.send(socket, $0) }
    }
    defer { daemon.join() }
    // So long that it is still being sent when the daemon closes.
    let request = PortRequest(name: String(repeating: "x", count: 1 << 20))
    #expect(throws: ClientError("busy")) {
      try ControlClient(path: path).post("/v1/ports", request)
    }
  }

  @Test func everyCommandParses() throws {
    for line in [
      "ports", "ports --json", "port show vm1", "port remove vm1 --json", "macs", "workers",
      "stats --watch --interval 0.5", "top --interval 2 --socket /tmp/x.sock",
      "port add a --vhost-user /s --mode client --queues 2 --mtu 1500",
      "port add a --vhost-user /s --owner u --group g --permissions 0660",
      "port add a --tap t0 --queues 2", "port set a --mtu 1500", "port set a --macs default",
      "macs list", "macs --port a --mac 52:54:00:00:00:01", "ports --kind tap --state broken",
      "health", "reload", "log-level", "log-level trace", "support --output /tmp/x.tar.gz",
    ] {
      _ = try Swivel.parseAsRoot(line.split(separator: " ").map(String.init))
    }
  }

  @Test(arguments: [
    ("", "OVERVIEW"), ("nonsense", "Unexpected argument"),
    ("port add a", "--vhost-user PATH or --tap DEVICE"),
    ("port add a --tap t --mode client", "--mode is for --vhost-user"),
    ("port add a --tap t --vhost-user /s", "not both"),
    ("port add a --vhost-user relative", "absolute path"),
    ("port add a --vhost-user /s --mode sever", "server or client"),
    ("port add a --tap t --queues 17", "1 to 16"), ("port add a --tap t --mtu many", "mtu"),
    ("port set a", "say what is to change"), ("port set a --mtu many", "mtu"),
    ("ports --state asleep", "one of waiting, connected, running, down, broken"),
    ("log-level loud", "one of trace, debug"),
    ("port show", "name"), ("stats --watch --interval 0", "0.1 to 3600"),
    ("top --interval nan", "0.1 to 3600"),
  ])
  func usageErrorsAre64(line: String, message: String) {
    do {
      var command = try Swivel.parseAsRoot(line.split(separator: " ").map(String.init))
      try command.run()
      Issue.record("accepted: \(line)")
    } catch {
      let status = Swivel.exitCode(for: error).rawValue
      // Without a command there is help, which is no error.
      #expect(status == (line.isEmpty ? 0 : 64))
      #expect(Swivel.fullMessage(for: error).contains(message), "\(Swivel.fullMessage(for: error))")
    }
  }

  @Test func addBuildsTheRequest() throws {
    let command = try PortAddCommand.parse([
      "vm9", "--vhost-user", "/run/vm9.sock", "--mode", "server", "--queues", "4", "--owner",
      "qemu",
      "--group", "kvm", "--permissions", "0660", "--mtu", "9000", "--memory", "64G",
      "--regions", "8", "--offloads", "csum,host-tso4",
    ])
    #expect(
      try command.request()
        == PortRequest(
          name: "vm9",
          vhostUser: VhostUserRequest(
            path: "/run/vm9.sock", mode: .server, queues: 4, owner: "qemu", group: "kvm",
            permissions: "0660", memory: "64G", regions: 8, offloads: ["csum", "host-tso4"]),
          mtu: 9000))
    for option in [["--memory", "64G"], ["--regions", "8"], ["--offloads", "none"]] {
      #expect(throws: (any Error).self) {
        try PortAddCommand.parse(["up", "--tap", "swivel0"] + option)
      }
    }
  }
}
