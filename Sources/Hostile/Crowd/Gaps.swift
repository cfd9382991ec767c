/// How long one has waited for the next frame, each time: counts by length, so that minutes of them take little room.
struct Gaps: Sendable {
  /// Each power of two has so many steps: a gap is known to within 3 %.
  private static let steps = 32
  private var counts = [Int](repeating: 0, count: 64 * Gaps.steps)
  private(set) var count = 0
  /// Nanoseconds.
  private(set) var longest = 0

  mutating func note(nanoseconds: Int) {
    let length = max(0, nanoseconds)
    counts[Gaps.place(of: length)] += 1
    count += 1
    longest = max(longest, length)
  }

  /// Lengths below `steps` have a place each; of greater ones the bits behind the first five are left out.
  private static func place(of length: Int) -> Int {
    if length < steps { return length }
    let shift = Int.bitWidth - length.leadingZeroBitCount - steps.trailingZeroBitCount - 1
    return (shift + 1) * steps + length >> shift - steps
  }

  /// The longest gap that is counted at a place.
  private static func longest(at place: Int) -> Int {
    if place < steps { return place }
    let shift = place / steps - 1
    return (place % steps + steps + 1) << shift - 1
  }

  /// Nanoseconds that a share of the gaps does not exceed.
  ///
  /// - Parameter share: of 1: 0.5 is the median.
  func percentile(_ share: Double) -> Int {
    let wanted = Int((Double(count) * share).rounded(.up))
    var seen = 0
    for (place, number) in counts.enumerated() where number > 0 {
      seen += number
      if seen >= wanted { return min(longest, Gaps.longest(at: place)) }
    }
    return longest
  }

  static func + (one: Gaps, other: Gaps) -> Gaps {
    var sum = one
    for place in sum.counts.indices { sum.counts[place] += other.counts[place] }
    sum.count += other.count
    sum.longest = max(one.longest, other.longest)
    return sum
  }
}
