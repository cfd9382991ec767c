import Foundation
import Histogram
import Testing
import VirtioDriver

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

  @Test("Single frames: the busy ports' rate, or its share of that without them, and the times")
  func single() {
    var row = Outcome(mode: .throughput, size: "65226")
    (row.gbps, row.gbpsAlone) = (95, 100)
    row.single = .init(offered: 1000, missed: 2)
    row.latency = .init(
      samples: 998, minimum: 1, mean: 2, maximum: 77,
      percentiles: [.init(percentile: 50, microseconds: 5)])
    let mixed = Table.of([row]).split(separator: "\n").map { $0.split(separator: " ") }
    #expect(
      mixed.last == [
        "65226", "100.00", "95.00", "95", "%", "0", "%", "1000", "2", "5.00", "–", "–", "–",
        "77.00",
      ])
    var cold = Outcome(mode: .cold, size: "64")
    cold.mpps = 12.5
    cold.single = .init(offered: 10, missed: 0, kicked: 7)
    let text = Table.of([cold]).split(separator: "\n").map { $0.split(separator: " ") }
    #expect(text.last == ["64", "12.50", "0", "%", "10", "0", "7", "–", "–", "–", "–", "–"])
  }

  @Test("What was dropped is told by name; reasons that have counted nothing are not")
  func drops() {
    let found = Ledger.difference(
      ["queue_busy": 12, "queue_full": 5, "new": 1], ["queue_busy": 2, "queue_full": 5])
    #expect(found == ["queue_busy": 10, "new": 1])
    var row = Outcome(mode: .throughput, size: "64")
    row.drops = found
    let remarks = Report(Plan(), ownDaemon: true, results: [row]).remarks
    #expect(remarks.contains("Dropped by the switch at 64: 1 new, 10 queue_busy."))
    row.drops = [:]
    #expect(Report(Plan(), ownDaemon: true, results: [row]).remarks == "")
    #expect(throws: BenchError.self) { try Ledger(path: "/nonexistent").drops() }
  }

  @Test("The yardstick's rate, and the switch's share of it")
  func memcpy() {
    var row = Outcome(mode: .throughput, size: "1514")
    (row.gbps, row.memcpyGbps) = (30, 120)
    #expect(Table.of([row]).contains("memcpy Gbit/s"))
    #expect(Table.of([row]).contains("120.00   25 %\n"))
    row.memcpyGbps = nil
    #expect(!Table.of([row]).contains("memcpy"))
    row.mode = .memcpy
    #expect(Table.of([row]).hasSuffix(" 30.00\n"))
  }

  @Test("A rate is that of the time it was counted in; what is missing is of all copies")
  func counts() {
    var counts = Lane.Counts()
    (counts.sentFrames, counts.receivedFrames, counts.receivedBytes) = (
      4_000_000, 2_000_000, 250_000_000
    )
    var row = Outcome(mode: .throughput, size: "125")
    row.take(counts, 2)
    #expect(row.mpps == 1 && row.gbps == 1 && row.seconds == 2)
    row.take(counts, copies: 2)
    #expect(row.lostFrames == 6_000_000 && row.lostShare == 0.75)
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
