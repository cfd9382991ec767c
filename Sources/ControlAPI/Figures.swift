/// Numbers for people.
public enum Figures {
  /// `1234567` as `1,234,567`.
  public static func grouped(_ value: some BinaryInteger) -> String {
    let digits = String(value.magnitude)
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return (value < 0 ? "-" : "") + text
  }

  /// Memory in the largest unit that leaves a whole number: `2 MiB`, `1 GiB`, `4097 B`.
  public static func memory(_ bytes: UInt64) -> String {
    var (value, unit) = (bytes, 0)
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024, value % 1024 == 0, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return "\(value) \(units[unit])"
  }

  /// `nil` as a dash.
  public static func optional(_ value: Int?) -> String {
    value.map(String.init) ?? "-"
  }
}
