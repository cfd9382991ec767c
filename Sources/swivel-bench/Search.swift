/// Searches for the largest value that passes, where smaller ones pass too (RFC 2544, 26.1: the rate at which
/// no frame is lost; 26.4: the longest burst).
enum Search {
  /// Halves the interval between the highest value that passed and the lowest that failed until they are
  /// within `resolution` of each other, relative to the higher.
  ///
  /// - Parameters:
  ///   - highest: tried first; passed: nothing more to look for.
  ///   - lowest: below it nothing is tried.
  /// - Returns: the highest value that passed, with what `trial` found there; `nil`: even `lowest` did not
  ///   pass.
  static func highest<Found>(
    from lowest: Double, to highest: Double, resolution: Double,
    _ trial: (Double) throws -> (passed: Bool, found: Found)
  ) throws -> (value: Double, found: Found)? {
    var best: (value: Double, found: Found)?
    let first = try trial(highest)
    if first.passed { return (highest, first.found) }
    var (low, high) = (lowest, highest)
    while high - low > resolution * high {
      let middle = (low + high) / 2
      let result = try trial(middle)
      if result.passed {
        best = (middle, result.found)
        low = middle
      } else {
        high = middle
      }
    }
    if best == nil {
      let last = try trial(lowest)
      if last.passed { best = (lowest, last.found) }
    }
    return best
  }
}
