import Foundation
import Testing

@testable import swivel_bench

#if canImport(FoundationXML)
  import FoundationXML
#endif

@Suite struct PictureTests {
  private func picture(_ results: [Outcome]) -> String {
    Picture(Report(Plan(), ownDaemon: true, results: results)).svg
  }

  /// Names of the elements of a document, or `nil` when it is not well-formed.
  private func elements(_ svg: String) -> [String]? {
    final class Names: NSObject, XMLParserDelegate {
      var found: [String] = []
      func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
        qualifiedName: String?, attributes: [String: String]
      ) { found.append(name) }
    }
    let names = Names()
    let parser = XMLParser(data: Data(svg.utf8))
    parser.delegate = names
    return parser.parse() ? names.found : nil
  }

  @Test("Rates: a bar for each size in each of the two panels")
  func rates() throws {
    let rows = [("64", 20.0, 10.0), ("1518", 3.0, 36.0), ("<&>", 1.0, 2.0)].map {
      var row = Outcome(mode: .throughput, size: $0.0)
      (row.mpps, row.gbps) = ($0.1, $0.2)
      return row
    }
    let names = try #require(elements(picture(rows)))
    #expect(names.first == "svg")
    // And one for the ground.
    #expect(names.filter { $0 == "rect" }.count == 1 + 2 * 3)
  }

  @Test("Latencies: a line for each size")
  func latencies() throws {
    let rows = ["64", "1518"].map {
      var row = Outcome(mode: .latency, size: $0)
      row.latency = .init(
        samples: 10, minimum: 1, mean: 2, maximum: 900,
        percentiles: Outcome.Latency.shown.map { .init(percentile: $0, microseconds: $0 / 10) })
      return row
    }
    let names = try #require(elements(picture(rows)))
    #expect(names.filter { $0 == "polyline" }.count == 2)
  }

  @Test("Nothing found is still a picture")
  func empty() {
    #expect(elements(picture([])) != nil)
    #expect(elements(picture([Outcome(mode: .throughput, size: "64")])) != nil)
  }

  @Test(
    "Axes end at round numbers",
    arguments: [
      (0.0, 1.0), (0.7, 0.8), (1, 1), (1.1, 2), (19.4, 20), (113, 200), (380, 400),
    ])
  func ceiling(value: Double, wanted: Double) {
    #expect(abs(Picture.ceiling(value) - wanted) < 1e-9)
    let step = wanted / Double(Picture.steps(wanted))
    let digit = step / pow(10, log10(step).rounded(.down))
    #expect([1, 2, 5, 10].contains { abs($0 - digit) < 1e-6 })
  }
}
