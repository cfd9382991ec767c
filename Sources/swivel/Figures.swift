internal import ControlAPI
internal import Foundation

/// Rates and times; counts are formatted where the ports describe themselves.
extension Figures {
  static func grouped(_ value: Double) -> String {
    guard value.isFinite, value.magnitude < 1e18 else { return "?" }
    return grouped(Int(value.rounded()))
  }

  static func fixed(_ value: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", value)
  }

  /// Seconds as `3d 04:05:06` or `04:05:06`.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e15 else { return "?" }
    let whole = Int(seconds)
    let clock = String(
      format: "%02d:%02d:%02d", whole / 3600 % 24, whole / 60 % 60, whole % 60)
    return whole >= 86400 ? "\(whole / 86400)d \(clock)" : clock
  }
}
