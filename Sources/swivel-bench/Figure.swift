import Foundation

/// Numbers as people read them.
enum Figure {
  static func mpps(_ value: Double) -> String { fixed(value, value < 10 ? 3 : 2) }
  static func gbps(_ value: Double) -> String { fixed(value, 2) }
  static func microseconds(_ value: Double) -> String { fixed(value, value < 100 ? 2 : 0) }

  static func percent(_ share: Double) -> String {
    let value = share * 100
    return value == 0 ? "0 %" : value < 0.01 ? "< 0.01 %" : fixed(value, value < 10 ? 2 : 0) + " %"
  }

  static func fixed(_ value: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", value)
  }

  /// 12 345 678
  static func count(_ value: UInt64) -> String {
    var digits = String(value)
    var groups: [String] = []
    while digits.count > 3 {
      groups.insert(String(digits.suffix(3)), at: 0)
      digits.removeLast(3)
    }
    return ([digits] + groups).joined(separator: " ")
  }
}
