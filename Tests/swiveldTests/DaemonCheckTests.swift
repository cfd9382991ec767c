import Control
import ControlAPI
import Foundation
import Logging
import Switch
import Testing

@testable import Configuration
@testable import swiveld

/// What `--check` and a reload find out before anything is changed.
@Suite struct DaemonCheckTests {
  private func configuration(_ port: PortRequest? = nil, cpus: [Int] = [0]) -> Configuration {
    Configuration(workers: .init(cpus: cpus), ports: port.map { [$0] } ?? [])
  }

  private func port(_ path: String, group: String? = nil, mode: SocketMode? = nil) -> PortRequest {
    PortRequest(name: "vm", vhostUser: VhostUserRequest(path: path, mode: mode, group: group))
  }

  private func message(_ configuration: Configuration) -> String? {
    do {
      try Daemon.check(configuration, cpus: [0, 1])
      return nil
    } catch {
      return error.message
    }
  }

  @Test(
    "Workers that the daemon before had been given are had again, but for CPUs that are not this process's any more"
  )
  func addedWorkersStay() {
    let saved = SavedState(
      version: "0", boot: "", time: 0, ports: [], addresses: [], workers: [1, 2, 9])
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    func workers(_ saved: SavedState?) -> [Int] {
      Daemon.workers(configuration(cpus: [2, 0]), saved, cpus: [0, 1, 2, 3], logger: logger)
    }
    #expect(workers(saved) == [2, 0, 1])
    #expect(workers(nil) == [2, 0])
  }

  @Test func aWorkableConfigurationPasses() {
    #expect(message(configuration(port("/tmp/swivel-check/vm.sock"))) == nil)
    #expect(message(configuration(port("/tmp/vm.sock", group: "root"), cpus: [1])) == nil)
  }

  @Test("What the machine would refuse is named before anything starts (E101)")
  func whatTheMachineWouldRefuseIsNamed() throws {
    #expect(message(configuration(cpus: [0, 7]))?.contains("CPU 7") == true)
    let group = message(configuration(port("/tmp/vm.sock", group: "no-such-group")))
    #expect(group?.contains("'no-such-group'") == true)
    let folder = message(configuration(port("/no/such/folder/vm.sock")))
    #expect(folder?.contains("/no/such/folder/vm.sock") == true)
    let file = NSTemporaryDirectory() + "swivel-check-\(getpid())"
    try "x".write(toFile: file, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: file) }
    #expect(message(configuration(port(file)))?.contains("no socket") == true)
    // In client mode the front-end makes the file; nothing here need be there yet.
    #expect(message(configuration(port("/no/such/folder/vm.sock", mode: .client))) == nil)
  }

  @Test func theControlSocketIsCheckedToo() {
    var settings = configuration()
    settings.control.path = "/no/such/folder/control.sock"
    #expect(message(settings)?.contains("the control socket: listen at /no/such") == true)
    settings.control = ControlSocket(path: "/tmp/swivel-check.sock", group: "no-such-group")
    #expect(message(settings)?.contains("'no-such-group'") == true)
    settings = configuration()
    settings.reader = ControlSocket(path: "/tmp/swivel-check.sock", owner: "no-such-user")
    #expect(message(settings)?.contains("'no-such-user'") == true)
  }

  @Test func morePortsThanASwitchHasAreTooMany() {
    var settings = configuration()
    settings.ports = (0...1024).map {
      PortRequest(name: "vm\($0)", vhostUser: VhostUserRequest(path: "/tmp/vm\($0).sock"))
    }
    #expect(message(settings) == "there are 1025 ports; a switch has 1024 at most")
    settings.ports.removeLast()
    #expect(message(settings) == nil)
  }

  @Test func anInterfaceThatIsNoTAPIsNamed() {
    let lo = PortRequest(name: "up", tap: TapRequest(device: "lo"))
    #expect(
      message(configuration(lo))?.contains(
        "lo (an interface of that name is there, but it is no TAP)") == true)
    let absent = PortRequest(name: "up", tap: TapRequest(device: "swivel-none"))
    #expect(message(configuration(absent)) == nil)
  }

  @Test func oneSocketByTwoWaysIsNamed() throws {
    let folder = "/tmp/swivel-ways-\(getpid())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: folder + "-link", withDestinationPath: folder)
    defer {
      for path in [folder, folder + "-link"] { try? FileManager.default.removeItem(atPath: path) }
    }
    var settings = configuration(port(folder + "/vm.sock"))
    let other = PortRequest(
      name: "other", vhostUser: VhostUserRequest(path: folder + "-link/vm.sock"))
    settings.ports.append(other)
    #expect(message(settings)?.contains("is the socket of port 'vm' by another way") == true)
    settings.ports.removeLast()
    #expect(message(settings) == nil)
    settings.control.path = folder + "/../\((folder as NSString).lastPathComponent)/vm.sock"
    #expect(message(settings)?.contains("is the socket of the control socket") == true)
  }

  /// Two CPUs are what a machine for guests has at least; what else the examples ask for, any has.
  @Test func theExamplesStartOnASmallMachine() throws {
    let configs = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("configs")
    let names = try FileManager.default.contentsOfDirectory(atPath: configs.path).filter {
      $0.hasSuffix(".yaml")
    }
    #expect(names.count >= 3)
    for name in names {
      let path = configs.appendingPathComponent(name).path
      var settings = try Configuration.load(path: path, cpu: 1)
      // Which groups there are is this machine's.
      for index in settings.ports.indices { settings.ports[index].vhostUser?.group = nil }
      #expect(message(settings) == nil, "\(name)")
      for port in settings.ports where port.vhostUser?.mode == .client {
        #expect(
          port.vhostUser?.path.hasPrefix("/run/swivel/") == false, "\(name): QEMU makes this one")
      }
    }
  }
}
