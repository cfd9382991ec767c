import Foundation

/// Results as a drawing (SVG): rates over frame sizes, and latencies over percentiles, a panel each.
struct Picture {
  private let report: Report

  init(_ report: Report) { self.report = report }

  var svg: String {
    var panels: [String] = []
    let rates = report.results.filter { $0.latency == nil && $0.mpps > 0 }
    if !rates.isEmpty {
      panels.append(bars(rates, "Mpps", "#2b6cb0", \.mpps, Figure.mpps))
      if rates.contains(where: { $0.gbps > 0 }) {
        panels.append(bars(rates, "Gbit/s", "#2f855a", \.gbps, Figure.gbps))
      }
    }
    let latencies = report.results.filter { $0.latency != nil }
    if !latencies.isEmpty { panels.append(curves(latencies)) }
    let height = Panel.height * max(1, panels.count) + 40
    let body = panels.enumerated().map {
      "<g transform=\"translate(0,\(40 + $0.offset * Panel.height))\">\n\($0.element)</g>\n"
    }.joined()
    return """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Panel.width) \(height)" \
      width="\(Panel.width)" height="\(height)" font-family="sans-serif" font-size="12" fill="#222">
      <rect width="100%" height="100%" fill="#fff"/>
      \(text(16, 24, title, anchor: "start", size: 14))\(body)</svg>

      """
  }

  private var title: String {
    let setting = report.setting
    let kind = "\(setting.ring.rawValue) rings of \(setting.ringSize)"
    let idle = setting.idlePorts > 0 ? " beside \(setting.idlePorts) idle ones" : ""
    return
      "swivel-bench \(report.version): \(setting.pattern.rawValue), \(setting.ports) ports\(idle), \(kind)"
      + (setting.mergeable ? ", mergeable" : "") + (setting.inOrder ? ", in order" : "")
      + (setting.indirect ? ", indirect" : "")
  }

  // ---- Panels ----

  /// Where a panel's axes lie in it.
  private enum Panel {
    static let width = 720
    static let height = 280
    static let left = 70.0
    static let right = 700.0
    static let top = 20.0
    static let bottom = 225.0
  }

  /// A bar for each frame size.
  private func bars(
    _ rows: [Outcome], _ unit: String, _ colour: String, _ value: (Outcome) -> Double,
    _ figure: (Double) -> String
  ) -> String {
    let top = Picture.ceiling(rows.map(value).reduce(0, max))
    var result = axes("frame size, bytes", unit)
    let steps = Picture.steps(top)
    for step in 0...steps {
      let mark = top * Double(step) / Double(steps)
      result += grid(height(mark / top), Figure.fixed(mark, top / Double(steps) < 1 ? 2 : 0))
    }
    let slot = (Panel.right - Panel.left) / Double(rows.count)
    for (index, row) in rows.enumerated() {
      let middle = Panel.left + slot * (Double(index) + 0.5)
      let y = height(value(row) / top)
      let width = min(60, slot * 0.6)
      result +=
        "<rect x=\"\(number(middle - width / 2))\" y=\"\(number(y))\" width=\"\(number(width))\" "
        + "height=\"\(number(Panel.bottom - y))\" fill=\"\(colour)\"/>\n"
      result += text(middle, y - 4, figure(value(row)))
      result += text(middle, Panel.bottom + 16, row.size)
    }
    return result
  }

  /// A line for each frame size; both axes logarithmic, the horizontal one in the share of slower frames.
  private func curves(_ rows: [Outcome]) -> String {
    let points = rows.compactMap(\.latency).flatMap(\.percentiles)
    let times = points.map { max($0.microseconds, 0.001) }
    let lowest = log10(times.min() ?? 1).rounded(.down)
    let highest = max(log10(times.max() ?? 1).rounded(.up), lowest + 1)
    let last = Picture.nines(points.map(\.percentile).max() ?? 99)
    func x(_ percentile: Double) -> Double {
      Panel.left + 20 + (Panel.right - Panel.left - 40) * Picture.nines(percentile) / last
    }
    func y(_ microseconds: Double) -> Double {
      height((log10(max(microseconds, 0.001)) - lowest) / (highest - lowest))
    }
    var result = axes("percentile", "µs")
    for power in stride(from: lowest, through: highest, by: 1) {
      let value = pow(10, power)
      result += grid(y(value), power < 0 ? "\(value)" : Figure.count(UInt64(value)))
    }
    for percentile in Outcome.Latency.shown where percentile != 75 && percentile != 95 {
      result += text(x(percentile), Panel.bottom + 16, String(format: "%g", percentile))
    }
    let colours = ["#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568", "#97266d"]
    for (index, row) in rows.enumerated() {
      guard let latency = row.latency else { continue }
      let colour = colours[index % colours.count]
      let line = latency.percentiles
        .map { "\(number(x($0.percentile))),\(number(y($0.microseconds)))" }
        .joined(separator: " ")
      result +=
        "<polyline points=\"\(line)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\"/>\n"
      result +=
        "<rect x=\"\(number(Panel.left + 16))\" y=\"\(16 * index + 20)\" width=\"10\" height=\"10\" "
        + "fill=\"\(colour)\"/>\n"
      result += text(
        Panel.left + 32, Double(16 * index + 29), "\(row.size) B, \(Figure.mpps(row.mpps)) Mpps",
        anchor: "start")
    }
    return result
  }

  /// Nines of a percentile: 90 is one, 99 two.
  private static func nines(_ percentile: Double) -> Double {
    -log10(max(1 - percentile / 100, 1e-9))
  }

  /// A round number that is not below `value`.
  static func ceiling(_ value: Double) -> Double {
    if value <= 0 { return 1 }
    let unit = pow(10, log10(value).rounded(.down))
    return ([1, 2, 4, 5, 8, 10].first { $0 * unit >= value * 0.999_999 } ?? 10) * unit
  }

  /// Into how many parts a round number goes with round numbers between them.
  static func steps(_ top: Double) -> Int {
    let first = top / pow(10, log10(top).rounded(.down))
    return abs(first - 5) < 0.01 || first < 1.01 || first > 9.99 ? 5 : 4
  }

  // ---- Pieces ----

  private func height(_ share: Double) -> Double {
    Panel.bottom - (Panel.bottom - Panel.top) * share
  }

  private func axes(_ horizontal: String, _ vertical: String) -> String {
    line(Panel.left, Panel.bottom, Panel.right, Panel.bottom, "#222")
      + line(Panel.left, Panel.top, Panel.left, Panel.bottom, "#222")
      + text((Panel.left + Panel.right) / 2, Panel.bottom + 36, horizontal)
      + text(Panel.left, Panel.top - 8, vertical)
  }

  private func grid(_ y: Double, _ label: String) -> String {
    line(Panel.left, y, Panel.right, y, "#ddd") + text(Panel.left - 8, y + 4, label, anchor: "end")
  }

  private func line(_ x: Double, _ y: Double, _ x2: Double, _ y2: Double, _ colour: String)
    -> String
  {
    "<line x1=\"\(number(x))\" y1=\"\(number(y))\" x2=\"\(number(x2))\" y2=\"\(number(y2))\" "
      + "stroke=\"\(colour)\"/>\n"
  }

  private func text(
    _ x: Double, _ y: Double, _ text: String, anchor: String = "middle", size: Int = 12
  ) -> String {
    let escaped = text.replacingOccurrences(of: "&", with: "&amp;")
      .replacingOccurrences(of: "<", with: "&lt;")
    return "<text x=\"\(number(x))\" y=\"\(number(y))\" text-anchor=\"\(anchor)\" "
      + "font-size=\"\(size)\">\(escaped)</text>\n"
  }

  private func number(_ value: Double) -> String { Figure.fixed(value, 1) }
}
