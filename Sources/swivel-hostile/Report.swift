internal import Foundation
internal import Hostile

/// One switch's results.
struct Column {
  var name: String
  var verdicts: [Verdict] = []
  /// What was found when all cases were over.
  var remarks: [String] = []

  var passed: Bool { remarks.isEmpty && verdicts.allSatisfy(\.passed) }
}

/// The table: a line a case, two columns a switch.
struct Report {
  var cases: [Case]
  var columns: [Column]

  func text(markdown: Bool) -> String {
    let head = ["case", "what is done"] + columns.flatMap { [$0.name, "longest pause"] }
    let rows = cases.indices.map { index in
      [cases[index].name, cases[index].summary]
        + columns.flatMap { column -> [String] in
          let verdict = column.verdicts[index]
          return [cell(verdict), String(format: "%.1f ms", 1000 * verdict.bystanders.longestPause)]
        }
    }
    let table =
      markdown
      ? ([head, head.map { _ in "---" }] + rows).map { "| \($0.joined(separator: " | ")) |" }
      : aligned([head] + rows)
    return (table + [""] + columns.map(summary)).joined(separator: "\n")
  }

  /// The verdict, and of what passed the name it was given.
  private func cell(_ verdict: Verdict) -> String {
    guard verdict.passed, let sign = verdict.sign, sign != .nothing else { return verdict.text }
    return "ok: \(sign)"
  }

  private func summary(_ column: Column) -> String {
    let offered = column.verdicts.filter { $0.notOffered == nil }
    let failed = offered.filter { !$0.passed }.count
    let pause = offered.map(\.bystanders.longestPause).max() ?? 0
    var line = "\(column.name): \(offered.count - failed) passed, \(failed) failed, "
    line += "\(column.verdicts.count - offered.count) not offered; "
    line += String(format: "longest pause of the others %.1f ms", 1000 * pause)
    let visit = offered.map(\.longestVisit).max() ?? 0
    if visit > 0 { line += String(format: ", longest wait of a new one %.1f ms", 1000 * visit) }
    if !column.remarks.isEmpty { line += "; " + column.remarks.joined(separator: "; ") }
    return line
  }

  private func aligned(_ rows: [[String]]) -> [String] {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
        .joined(separator: "  ")
    }
  }
}
