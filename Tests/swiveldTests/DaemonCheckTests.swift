import Control
import ControlAPI
import Foundation
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
}
