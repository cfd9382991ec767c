/// The lengths of the frames of one measurement, in bytes, without the frame check sequence.
struct Sizes: Sendable, Equatable {
  /// As the user calls it.
  var name: String
  /// One after another; one element: all alike.
  var lengths: [Int]

  var longest: Int { lengths.reduce(0, max) }
  var mean: Double { Double(lengths.reduce(0, +)) / Double(lengths.count) }

  static let limits = 60...65549
  /// RFC 2544, 9.1: Ethernet.
  static let rfc2544 = [64, 128, 256, 512, 1024, 1280, 1518]
  /// The simple Internet mix: seven small frames to four of middle size and a large one, spread.
  static let imix = Sizes(
    name: "imix", lengths: [64, 594, 64, 594, 64, 64, 1518, 64, 594, 64, 64, 594])

  static func one(_ length: Int) -> Sizes { Sizes(name: "\(length)", lengths: [length]) }

  /// What is measured when nobody says what.
  static let usual: [Sizes] = [.one(64), .one(512), .one(1518), .imix]

  /// Parses `64`, `64,512,1518`, `imix`, `rfc2544`, `64k`, or several of them. Throws a `BenchError` that
  /// says what is wrong.
  static func parse(_ text: String) throws -> [Sizes] {
    var found: [Sizes] = []
    for word in text.split(separator: ",", omittingEmptySubsequences: false) {
      switch word.lowercased() {
      case "imix": found.append(imix)
      case "rfc2544": found += rfc2544.map(one)
      case "64k": found.append(one(limits.upperBound))
      default:
        guard let length = Int(word), limits.contains(length) else {
          throw BenchError(
            "'\(word)' is no frame size: \(limits.lowerBound) to \(limits.upperBound), 64k, imix or rfc2544"
          )
        }
        found.append(one(length))
      }
    }
    return found
  }
}
