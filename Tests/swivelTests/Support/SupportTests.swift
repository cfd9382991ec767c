import ArgumentParser
import Control
import ControlAPI
import ControlClient
import Foundation
import Linux
import Logging
import Testing

@testable import swivel

/// `swivel support`: what is there is in the archive, and what is not is named in it.
@Suite struct SupportTests {
  private struct Quiet: SwitchService {
    func ports() -> [ControlAPI.Port] { [RenderingTests.vm1] }
    func port(named name: String) -> ControlAPI.Port? { nil }
    func addPort(_ request: PortRequest) throws(ServiceError) -> ControlAPI.Port { throw none }
    func changePort(named name: String, _ change: PortChange) throws(ServiceError)
      -> ControlAPI.Port
    { throw none }
    func removePort(named name: String) throws(ServiceError) { throw none }
    func macs() -> [MACEntry] { [] }
    func addMAC(_ mac: String, port: String) throws(ServiceError) -> MACEntry { throw none }
    func removeMAC(_ mac: String) throws(ServiceError) { throw none }
    func flushMACs(port: String?) throws(ServiceError) { throw none }
    func workers() -> [Worker] { [Worker(id: 0, cpu: 1, node: 0, state: "sleeping")] }
    func stats() -> Stats { RenderingTests.stats(uptime: 1, frames: 1) }
    func health() -> Health { Health(healthy: false, problems: ["worker 0 is stuck"]) }
    func addWorker(_ request: WorkerRequest) throws(ServiceError) -> Worker { throw none }
    func removeWorker(_ number: Int) throws(ServiceError) { throw none }
    func rebalance() throws(ServiceError) -> BalanceReport { throw none }
    func reload() throws(ServiceError) -> ReloadReport { throw none }
    func logStatus() -> LogStatus { LogStatus(level: .debug) }
    func setLogLevel(_ level: LogLevel) {}
    private var none: ServiceError { ServiceError(.notFound, "none") }
  }

  private let folder = "/tmp/swivel-support-\(UUID().uuidString.prefix(8))"

  init() throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  private func remove() { try? FileManager.default.removeItem(atPath: folder) }

  private func run(_ more: String...) throws {
    let line = ["support", "--output", "\(folder)/report.tar.gz"]
    var command = try Swivel.parseAsRoot(line + more)
    try command.run()
  }

  /// The files of the archive by name, without the folder they are in.
  private func unpacked() throws -> [String: String] {
    let place = "\(folder)/unpacked"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    try HostCommand("tar", "-xzf", "\(folder)/report.tar.gz", "-C", place)
      .run(into: .nullDevice)
    let top = try FileManager.default.contentsOfDirectory(atPath: place)
    try #require(top.count == 1 && top[0].hasPrefix("swivel-support-"))
    let root = "\(place)/\(top[0])"
    var files: [String: String] = [:]
    for path in try FileManager.default.subpathsOfDirectory(atPath: root) {
      if let data = FileManager.default.contents(atPath: "\(root)/\(path)") {
        files[path] = String(decoding: data, as: UTF8.self)
      }
    }
    return files
  }

  @Test func theArchiveHoldsWhatTheDaemonAndTheMachineSay() async throws {
    defer { remove() }
    let path = "\(folder)/control.sock"
    let server = ControlServer(
      socket: ControlSocket(path: path), service: Quiet(),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try await server.start()
    try run("--socket", path)
    await server.stop()

    let files = try unpacked()
    let ports = try ControlClient.decode(
      [ControlAPI.Port].self, from: Data(try #require(files["daemon/ports.json"]).utf8))
    #expect(ports == [RenderingTests.vm1])
    // A daemon that is ill is the one that reports are about.
    #expect(try #require(files["daemon/health.json"]).contains("worker 0 is stuck"))
    #expect(try #require(files["daemon/stats.json"]).contains("macTable"))
    #expect(try #require(files["daemon/metrics.txt"]).contains("swivel_"))
    #expect(try #require(files["daemon/workers.json"]).contains("sleeping"))
    #expect(try #require(files["daemon/log-status.json"]).contains("debug"))
    #expect(try #require(files["machine/versions.txt"]).contains("swivel \(swivelVersion)"))
    #expect(try #require(files["machine/memory.txt"]).contains("MemTotal"))
    #expect(try #require(files["machine/cpus.txt"]).contains("/sys/devices/system/cpu/online"))
    // The daemon of this test is this process, which has threads and no --config.
    #expect(try #require(files["daemon/process.txt"]).contains("[threads"))
    let contents = try #require(files["contents.txt"])
    #expect(contents.contains("  daemon/ports.json\n"))
    #expect(contents.contains("configuration.yaml: process \(getpid()) was started without"))

    let attributes = try FileManager.default.attributesOfItem(atPath: "\(folder)/report.tar.gz")
    #expect(attributes[.posixPermissions] as? Int == 0o600)
  }

  @Test func withoutADaemonThereIsAnArchiveAllTheSame() throws {
    defer { remove() }
    let configuration = "\(folder)/swivel.yaml"
    try Data("ports: [] # mine\n".utf8).write(to: URL(fileURLWithPath: configuration))
    try run("--socket", "\(folder)/none.sock", "--config", configuration)
    let files = try unpacked()
    #expect(files["daemon/stats.json"] == nil)
    #expect(
      files["configuration.yaml"]
        == "# \(configuration), which the daemon may not have read\nports: [] # mine\n")
    let contents = try #require(files["contents.txt"])
    #expect(contents.contains("daemon/stats.json: no daemon at \(folder)/none.sock"))
    #expect(contents.contains("daemon/process.txt: no process answers"))
    #expect(files["machine/memory.txt"] != nil)
  }

  @Test func aConfigurationThatIsNotThereIsNamed() throws {
    defer { remove() }
    try run("--socket", "\(folder)/none.sock", "--config", "\(folder)/none.yaml")
    let contents = try #require(try unpacked()["contents.txt"])
    #expect(contents.contains("\n  configuration.yaml: "))
    #expect(contents.contains("none.yaml"))
  }

  /// What is there already may be somebody's; and what can't be written is said.
  @Test func nothingIsOverwritten() throws {
    defer { remove() }
    let file = "\(folder)/report.tar.gz"
    try Data("mine".utf8).write(to: URL(fileURLWithPath: file))
    #expect(throws: ClientError("\(file) can't be made: File exists")) {
      try run("--socket", "\(folder)/none.sock")
    }
    #expect(FileManager.default.contents(atPath: file) == Data("mine".utf8))
  }

  @Test func aProgramThatIsNotThereOrFailsIsNamed() {
    #expect(throws: SupportError("there is no swivel-no-such-program here")) {
      try HostCommand("swivel-no-such-program").output()
    }
    #expect(throws: SupportError("false ended with 1")) { try HostCommand("false").output() }
    #expect {
      try HostCommand("ls", "/nonexistent").output()
    } throws: {
      "\($0)".hasPrefix("ls ended with 2: ") && "\($0)".contains("/nonexistent")
    }
  }

  /// What came before a failure is kept, and the failure said behind it.
  @Test func whatAFailingProgramPrintsIsKept() throws {
    let said = try HostCommand("ls", "-d", "/", "/nonexistent").output()
    let text = String(decoding: said, as: UTF8.self)
    #expect(text.hasPrefix("/\n"))
    #expect(text.contains("(ls ended with 2: "))
  }

  @Test(arguments: [
    (["swiveld"], nil), (["swiveld", "--config", "/a"], "/a"), (["swiveld", "--config=/b"], "/b"),
    (["swiveld", "--check", "--config"], nil),
    (["swiveld", "--config", "/a", "--log-level", "debug", "--config", "/c"], "/c"),
  ])
  func theConfigurationIsFoundOnTheCommandLine(arguments: [String], path: String?) {
    #expect(DaemonProcess.configuration(in: arguments) == path)
  }

  @Test func onlyWordsOfTheKernelThatMatterAreTold() {
    #expect(!Machine.tuning.contains("root="))
    #expect(Machine.below("/nonexistent", each: ["a"]).isEmpty)
    #expect(Machine.files(["/nonexistent"]) == "[/nonexistent]\ncan't be read\n\n")
  }
}
