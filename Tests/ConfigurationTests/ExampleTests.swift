import Control
import ControlAPI
import Foundation
import FoundationXML
import Testing
import Yams

@testable import Configuration

/// The examples in configs/ are what they say they are.
@Suite struct ExampleTests {
  private let configs = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("configs")

  private func text(_ name: String) throws -> String {
    try String(contentsOf: configs.appendingPathComponent(name), encoding: .utf8)
  }

  private func configuration(_ name: String) throws -> Configuration {
    try Configuration.load(path: configs.appendingPathComponent(name).path, cpu: 0)
  }

  @Test func everyYAMLFileIsAConfiguration() throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: configs.path)
      .filter { $0.hasSuffix(".yaml") }
    #expect(names.count >= 3)
    for name in names { _ = try configuration(name) }
  }

  /// What stands in comments can be uncommented.
  @Test func commentedKeysAreTaken() throws {
    let commented = #/# (?<key>owner|group|permissions|memory|regions|offloads|mtu|macs): /#
    let text = try text("swivel.yaml").replacing(commented) { "\($0.output.key): " }
    // The client's socket is QEMU's; all others take an owner.
    let configuration = try Configuration.parse(text, file: "swivel.yaml", cpu: 0)
    #expect(configuration.control.owner == "root")
    #expect(configuration.ports[0].vhostUser?.permissions == "0660")
    #expect(configuration.ports[0].vhostUser?.memory == "64G")
    #expect(configuration.ports[0].vhostUser?.regions == 8)
    #expect(configuration.ports[0].vhostUser?.offloads == ["host"])
    #expect(configuration.ports[1].mtu == 9000 && configuration.ports[1].macs == 4096)
  }

  @Test func theLibvirtDomainUsesAPortOfTheExample() throws {
    final class Reader: NSObject, XMLParserDelegate {
      var attributes: [String: [String: String]] = [:]
      func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
        qualifiedName: String?, attributes: [String: String] = [:]
      ) {
        self.attributes[name] = attributes
      }
    }
    let parser = XMLParser(data: Data(try text("libvirt-domain.xml").utf8))
    let reader = Reader()
    parser.delegate = reader
    #expect(parser.parse())
    #expect(reader.attributes["interface"]?["type"] == "vhostuser")
    #expect(reader.attributes["access"]?["mode"] == "shared")
    #expect(reader.attributes["acpi"] != nil && reader.attributes["reconnect"]?["enabled"] == "yes")
    let port = try #require(try configuration("swivel.yaml").ports.first)
    let source = try #require(reader.attributes["source"])
    #expect(source["path"] == port.vhostUser?.path)
    #expect(source["mode"] == "client" && port.vhostUser?.mode == .server)
    #expect(reader.attributes["driver"]?["queues"] == "\(port.vhostUser?.queues ?? 1)")
  }

  @Test func theUnitStartsTheDaemonOnTheExample() throws {
    let unit = try text("swiveld.service")
    var settings: [String: String] = [:]
    for line in unit.split(separator: "\n") where !line.hasPrefix("#") && line.contains("=") {
      let parts = line.split(separator: "=", maxSplits: 1)
      settings[String(parts[0])] = String(parts[1])
    }
    #expect(settings["Type"] == "notify")
    #expect(settings["ExecStart"]?.hasSuffix("swiveld --config /etc/swivel/swivel.yaml") == true)
    let directory = "/run/\(settings["RuntimeDirectory"] ?? "")"
    #expect(try configuration("swivel.yaml").control.path.hasPrefix(directory + "/"))
  }

  /// What an installed service starts with: the control socket where the command line asks, and nothing that a guest or
  /// a network could notice.
  @Test func thePackagesConfigurationHasNoPorts() throws {
    let path = configs.deletingLastPathComponent().appendingPathComponent("packaging/swivel.yaml")
    let configuration = try Configuration.load(path: path.path, cpu: 7)
    #expect(configuration.ports.isEmpty)
    #expect(configuration.control.path == defaultControlSocket)
    #expect(configuration.workers.cpus == [7] && configuration.workers.poll == .adaptive)
  }

  @Test func prometheusScrapesTheMetrics() throws {
    let root = try #require(try Yams.compose(yaml: text("prometheus.yml")))
    let job = try #require(root["scrape_configs"]?.sequence?.first)
    #expect(job["metrics_path"]?.string == "/metrics")
    let target = try #require(job["static_configs"]?.sequence?.first?["targets"]?[0]?.string)
    // The web server in the comment listens where Prometheus looks.
    #expect(try text("prometheus.yml").contains("listen \(target);"))
    // It asks where nobody can change anything.
    let path = "/run/swivel/metrics.sock"
    #expect(try text("prometheus.yml").contains("http://unix:\(path):/metrics"))
    #expect(try text("swivel.yaml").contains("#   socket: \(path)"))
  }
}
