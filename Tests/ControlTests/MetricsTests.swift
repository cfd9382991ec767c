import ControlAPI
import Foundation
import Testing

@testable import Control

@Suite struct MetricsTests {
  @Test func goldenText() throws {
    let golden = MetricsTests.golden
    let text = Metrics(of: FakeService()).text
    // The first line that differs tells more than two pages of text.
    let pair = zip(golden.split(separator: "\n"), text.split(separator: "\n")).first { $0 != $1 }
    #expect(pair == nil)
    #expect(text == golden)
  }

  /// The text format's grammar, and its rules on HELP, TYPE and the order of samples.
  @Test func syntax() throws {
    var seen: Set<String> = []
    var current = ""
    var type = ""
    var series: Set<Substring> = []
    let name = "[a-zA-Z_:][a-zA-Z0-9_:]*"
    let value = #"(-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|NaN|[+-]Inf)"#
    let label = #"[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*""#
    let sample = try Regex("^(\(name))(\\{\(label)(,\(label))*\\})? \(value)$")
    for line in Metrics(of: FakeService()).text.split(separator: "\n") {
      if line.hasPrefix("# HELP ") {
        current = String(line.split(separator: " ")[2])
        #expect(seen.insert(current).inserted, "HELP twice: \(current)")
        #expect(current.hasPrefix("swivel_"))
      } else if line.hasPrefix("# TYPE ") {
        let words = line.split(separator: " ")
        #expect(words[2] == current)
        type = String(words[3])
        #expect((type == "counter") == current.hasSuffix("_total"), "\(line)")
      } else {
        #expect(line.wholeMatch(of: sample) != nil, "\(line)")
        #expect(line.prefix { $0 != "{" && $0 != " " } == current)
        #expect(series.insert(line.prefix(upTo: line.lastIndex(of: " ")!)).inserted, "\(line)")
      }
    }
    #expect(seen.count > 20)
  }

  @Test func labelsAreEscaped() {
    #expect(Metrics.escaped("a\\b\"c\nd") == "a\\\\b\\\"c\\nd")
    let odd = ControlAPI.Port(
      name: "a\"\n\\", kind: .tap, state: .waiting, explanation: "", macs: 3)
    let text = Metrics(of: FakeService(ports: [odd])).text
    #expect(text.contains(#"swivel_port_macs{port="a\"\n\\"} 3"# + "\n"))
  }

  @Test func noPortsMeansNoSamplesOfPorts() {
    let text = Metrics(of: FakeService(ports: [])).text
    #expect(!text.contains("swivel_port_"))
    #expect(!text.contains("swivel_queue_"))
    #expect(text.contains("swivel_uptime_seconds 12.5\n"))
  }
}
