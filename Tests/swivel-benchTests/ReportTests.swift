import Foundation
import Histogram
import Testing

@testable import swivel_bench

@Suite struct ReportTests {
  @Test("Columns are as wide as their widest cell, flush right")
  func table() {
    var table = Table(["a", "long title"])
    table.add(["1 000", "2"])
    #expect(table.text == "    a  long title\n1 000           2\n")
  }

  @Test("Numbers as people read them")
  func figures() {
    #expect(Figure.count(0) == "0")
    #expect(Figure.count(999) == "999")
    #expect(Figure.count(1000) == "1 000")
    #expect(Figure.count(12_345_678) == "12 345 678")
    #expect(Figure.percent(0) == "0 %")
    #expect(Figure.percent(0.000_01) == "< 0.01 %")
    #expect(Figure.percent(0.0123) == "1.23 %")
    #expect(Figure.percent(0.5) == "50 %")
  }

  @Test("Percentiles are those of the samples")
  func latency() throws {
    var histogram = Histogram<UInt64>(
      lowestDiscernibleValue: 1, highestTrackableValue: 10_000_000_000,
      numberOfSignificantValueDigits: .three)
    for microseconds in 1...1000 { _ = histogram.record(UInt64(microseconds * 1000)) }
    let latency = try #require(Outcome.Latency(histogram))
    func near(_ value: Double?, _ wanted: Double) -> Bool {
      value.map { abs($0 - wanted) <= wanted / 500 } ?? false
    }
    #expect(latency.samples == 1000)
    #expect(near(latency.minimum, 1) && near(latency.mean, 500.5) && near(latency.maximum, 1000))
    #expect(near(latency.at(50), 500) && near(latency.at(99), 990))
    #expect(latency.at(51) == nil)
  }

  @Test("No samples, no latency")
  func noLatency() {
    let histogram = Histogram<UInt64>(
      lowestDiscernibleValue: 1, highestTrackableValue: 1000,
      numberOfSignificantValueDigits: .three)
    #expect(Outcome.Latency(histogram) == nil)
  }

  @Test("JSON says what was found, and can be read back")
  func json() throws {
    var row = Outcome(mode: .throughput, size: "64")
    row.mpps = 12.5
    row.limit = .generator
    let report = Report(Plan(), ownDaemon: true, results: [row])
    #expect(try JSONDecoder().decode(Report.self, from: Data(try report.json.utf8)) == report)
  }

  @Test(
    "The reader is told when this program was the limit, when the rate was not offered, when frames were bad"
  )
  func remarks() {
    var row = Outcome(mode: .throughput, size: "64")
    #expect(Report(Plan(), ownDaemon: true, results: [row]).remarks == "")
    row.limit = .generator
    #expect(Report(Plan(), ownDaemon: true, results: [row]).remarks.contains("limit at 64"))
    row.limit = .switch
    row.offeredRate = 1e6
    #expect(
      Report(Plan(), ownDaemon: true, results: [row]).remarks.contains("could not be offered"))
    row.offeredRate = nil
    row.verification = .init(whole: 1, corrupt: 1, disordered: 0)
    #expect(Report(Plan(), ownDaemon: true, results: [row]).remarks.contains("corrupt"))
  }
}
