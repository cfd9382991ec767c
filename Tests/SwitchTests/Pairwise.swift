/// Tables in which every pair of values of two dimensions occurs in some row.
struct Pairwise {
  /// Value 1 of a dimension, which goes only with value 1 of at least one of the others.
  struct Rule {
    var dimension: Int
    var anyOf: [Int]
  }

  /// Values of each dimension, from 0.
  let widths: [Int]
  let rules: [Rule]

  /// One value of one dimension.
  private struct Value: Hashable {
    var dimension: Int
    var value: Int
  }

  /// The rows: few, found greedily, and the same at each call.
  func rows() -> [[Int]] {
    var random = Xorshift(state: 0x5357_564c)
    var needed = Set(
      widths.indices.flatMap { first in
        ((first + 1)..<widths.count).flatMap { second in
          (0..<widths[first]).flatMap { a in
            (0..<widths[second]).compactMap { b -> [Value]? in
              let pair = [Value(dimension: first, value: a), Value(dimension: second, value: b)]
              return row(with: pair, &random) == nil ? nil : pair
            }
          }
        }
      })
    var rows: [[Int]] = []
    // In a fixed order: a set's own differs from run to run.
    let order = needed.sorted {
      $0.flatMap { [$0.dimension, $0.value] }.lexicographicallyPrecedes(
        $1.flatMap { [$0.dimension, $0.value] })
    }
    for pair in order where needed.contains(pair) {
      let best = (0..<24).compactMap { _ in row(with: pair, &random) }
        .map { (row: $0, pairs: Pairwise.pairs(of: $0)) }
        .max { $0.pairs.count(where: needed.contains) < $1.pairs.count(where: needed.contains) }
      guard let best else { continue }
      rows.append(best.row)
      needed.subtract(best.pairs)
    }
    return rows
  }

  private static func pairs(of row: [Int]) -> [[Value]] {
    row.indices.flatMap { first in
      ((first + 1)..<row.count).map { second in
        [
          Value(dimension: first, value: row[first]), Value(dimension: second, value: row[second]),
        ]
      }
    }
  }

  /// A row with these values that keeps the rules, the others by chance; `nil` when there is none.
  private func row(with pinned: [Value], _ random: inout Xorshift) -> [Int]? {
    var row = widths.map { Int(random.next() % UInt64($0)) }
    for value in pinned { row[value.dimension] = value.value }
    let fixed = Set(pinned.map(\.dimension))
    for _ in 0..<widths.count {
      guard
        let broken = rules.first(where: { rule in
          row[rule.dimension] == 1 && !rule.anyOf.contains { row[$0] == 1 }
        })
      else { return row }
      if !fixed.contains(broken.dimension) {
        row[broken.dimension] = 0
      } else if let free = broken.anyOf.first(where: { !fixed.contains($0) }) {
        row[free] = 1
        // What it needs in turn, before it is taken away again.
        for rule in rules
        where rule.dimension == free && !rule.anyOf.contains(where: { row[$0] == 1 }) {
          guard let next = rule.anyOf.first(where: { !fixed.contains($0) }) else { return nil }
          row[next] = 1
        }
      } else {
        return nil
      }
    }
    return nil
  }
}

/// Numbers by chance, the same in every run.
struct Xorshift {
  var state: UInt64

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state >> 8
  }
}
