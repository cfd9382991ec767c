internal import Foundation

/// Numbers for people.
enum Figures {
  /// `1234567` as `1,234,567`.
  static func grouped(_ value: some BinaryInteger) -> String {
    let digits = String(value.magnitude)
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return (value < 0 ? "-" : "") + text
  }

  static func grouped(_ value: Double) -> String {
    guard value.isFinite, value.magnitude < 1e18 else { return "?" }
    return grouped(Int(value.rounded()))
  }

  static func fixed(_ value: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", value)
  }

  /// Memory in the largest unit that leaves a whole number: `2 MiB`, `1 GiB`, `4097 B`.
  static func memory(_ bytes: UInt64) -> String {
    var (value, unit) = (bytes, 0)
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024, value % 1024 == 0, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return "\(value) \(units[unit])"
  }

  /// Seconds as `3d 04:05:06` or `04:05:06`.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e15 else { return "?" }
    let whole = Int(seconds)
    let clock = String(
      format: "%02d:%02d:%02d", whole / 3600 % 24, whole / 60 % 60, whole % 60)
    return whole >= 86400 ? "\(whole / 86400)d \(clock)" : clock
  }

  /// `nil` as a dash.
  static func optional(_ value: Int?) -> String {
    value.map(String.init) ?? "-"
  }
}
