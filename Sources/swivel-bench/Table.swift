/// Results as columns of text.
struct Table {
  private let titles: [String]
  private var rows: [[String]] = []

  init(_ titles: [String]) { self.titles = titles }

  mutating func add(_ cells: [String]) {
    precondition(cells.count == titles.count)
    rows.append(cells)
  }

  /// The table with its heading, every line ended, every column as wide as its widest cell and flush right.
  var text: String {
    let all = [titles] + rows
    let widths = titles.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    return all.map { cells in
      zip(cells, widths).map { String(repeating: " ", count: $1 - $0.count) + $0 }
        .joined(separator: "  ") + "\n"
    }.joined()
  }

  /// What the measurements of one mode found.
  static func of(_ results: [Outcome]) -> String {
    guard let first = results.first else { return "" }
    if first.single != nil { return single(results) }
    let mode = first.mode
    var table: Table
    switch mode {
    case .latency, .ping, .cold:
      table = Table(
        ["frame", "Mpps", "lost", "min µs", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "max µs"])
      for row in results {
        let latency = row.latency
        let at = { (percentile: Double) in
          latency?.at(percentile).map(Figure.microseconds) ?? "–"
        }
        table.add(
          [row.size, Figure.mpps(row.mpps), Figure.count(row.lostFrames)]
            + [latency.map { Figure.microseconds($0.minimum) } ?? "–"]
            + [at(50), at(90), at(99), at(99.9), at(99.99)]
            + [latency.map { Figure.microseconds($0.maximum) } ?? "–"])
      }
    case .burst:
      table = Table(["frame", "frames in a burst", "Mpps", "Gbit/s", "lost"])
      for row in results {
        table.add([
          row.size, Figure.count(row.burstFrames ?? 0), Figure.mpps(row.mpps),
          Figure.gbps(row.gbps), Figure.count(row.lostFrames),
        ])
      }
    case .generator:
      table = Table(["frame", "ns a frame", "Mpps"])
      for row in results {
        table.add([
          row.size, Figure.fixed(row.generatorNanoseconds ?? 0, 2), Figure.mpps(row.mpps),
        ])
      }
    case .memcpy:
      table = Table(["frame", "Mpps", "memcpy Gbit/s"])
      for row in results {
        table.add([row.size, Figure.mpps(row.mpps), Figure.gbps(row.gbps)])
      }
    case .throughput, .zeroLoss:
      let measured = results.contains { $0.memcpyGbps != nil }
      let checked = results.contains { $0.verification != nil }
      table = Table(
        ["frame", "Mpps", "Gbit/s", "sent", "lost", "share", "idle", "limit"]
          + (measured ? ["memcpy Gbit/s", "of it"] : [])
          + (checked ? ["corrupt", "disordered"] : []))
      for row in results {
        table.add(
          [
            row.size, Figure.mpps(row.mpps), Figure.gbps(row.gbps), Figure.count(row.sentFrames),
            Figure.count(row.lostFrames), Figure.percent(row.lostShare),
            Figure.percent(row.idleShare ?? 0), row.limit?.rawValue ?? "–",
          ]
            + (measured
              ? [
                row.memcpyGbps.map(Figure.gbps) ?? "–",
                row.memcpyGbps.map { Figure.percent(row.gbps / $0) } ?? "–",
              ] : [])
            + (checked
              ? [
                Figure.count(row.verification?.corrupt ?? 0),
                Figure.count(row.verification?.disordered ?? 0),
              ] : []))
      }
    }
    return table.text
  }

  /// What became of single frames, and of the busy ports beside them.
  private static func single(_ results: [Outcome]) -> String {
    let isCold = results.contains { $0.mode == .cold }
    var table = Table(
      ["frame"] + (isCold ? ["Mpps"] : ["alone Gbit/s", "Gbit/s", "share"])
        + ["lost", "single", "missed"] + (isCold ? ["kicked"] : [])
        + ["50 %", "90 %", "99 %", "99.9 %", "max µs"])
    for row in results {
      let at = { (percentile: Double) in
        row.latency?.at(percentile).map(Figure.microseconds) ?? "–"
      }
      let alone = row.gbpsAlone ?? 0
      let rate =
        isCold
        ? [Figure.mpps(row.mpps)]
        : [
          Figure.gbps(alone), Figure.gbps(row.gbps),
          alone > 0 ? Figure.percent(row.gbps / alone) : "–",
        ]
      let single = row.single ?? .init()
      table.add(
        [row.size] + rate
          + [Figure.percent(row.lostShare), "\(single.offered)", "\(single.missed)"]
          + (isCold ? ["\(single.kicked ?? 0)"] : []) + [at(50), at(90), at(99), at(99.9)]
          + [row.latency.map { Figure.microseconds($0.maximum) } ?? "–"])
    }
    return table.text
  }
}
