internal import Foundation
internal import Glibc
internal import Synchronization
internal import VirtioDriver

/// What a crowd came to, in figures.
struct CrowdResult {
  /// The state of things when the measuring began.
  struct Beginning {
    let moment = ContinuousClock.now
    let tally: Tally.Reading
    let reading: Pair.Reading
    let control: ThreadTime
    let workers: ThreadTime

    init(_ bed: Bed, _ pair: Pair, _ tally: Tally) throws {
      self.tally = tally.reading
      pair.forgetGaps()
      reading = pair.reading
      control = try CrowdResult.time(of: "port/", in: bed)
      workers = try CrowdResult.time(of: "worker/", in: bed)
    }
  }

  let seconds: Double
  let tally: Tally.Reading
  let most: Int
  let sent: [Int]
  let reading: Pair.Reading
  /// Frames of the pair that were lost, since the very beginning.
  let lost: Int
  /// Of the ports' threads, and of the workers.
  let control: ThreadTime
  let workers: ThreadTime

  /// Everybody has gone, and the pair rests.
  init(since beginning: Beginning, _ bed: Bed, _ pair: Pair, _ tally: Tally) throws {
    seconds = (ContinuousClock.now - beginning.moment) / .seconds(1)
    self.tally = tally.reading - beginning.tally
    most = tally.most.load(ordering: .relaxed)
    reading = pair.reading
    sent = zip(reading.sent, beginning.reading.sent).map { $0 - $1 }
    lost = reading.lost
    control = try CrowdResult.time(of: "port/", in: bed) - beginning.control
    workers = try CrowdResult.time(of: "worker/", in: bed) - beginning.workers
  }

  private static func time(of name: String, in bed: Bed) throws -> ThreadTime {
    guard let time = ThreadTime(of: bed.pid, named: name) else {
      throw SoakError("swiveld is gone")
    }
    return time
  }

  // ---- For a person ----

  var lines: [String] {
    let rate = String(format: "%.0f", Double(tally.comings) / seconds)
    let cost = 1e6 * control.running / Double(max(1, tally.comings))
    var loads = [Double](repeating: 0, count: 3)
    // SAFETY: fills at most the array's three elements.
    _ = unsafe getloadavg(&loads, 3)
    return [
      String(format: "%.1f s: ", seconds) + "\(tally.comings) comings (\(rate) a second; "
        + "\(tally.turns) turned round), \(tally.goings) goings, \(tally.swaps) swaps, at most "
        + "\(most) guests at a time, \(tally.frames) frames to the pair, \(tally.floods) to all",
      "the pair: \(sent[0]) and \(sent[1]) frames sent, \(lost) lost, \(reading.held) held back; "
        + "\(reading.strange) of others",
      "gaps, of both: " + CrowdResult.text(reading.gaps[0] + reading.gaps[1]),
      "less what the pair's own thread was late: "
        + CrowdResult.text(reading.excused[0] + reading.excused[1])
        + ", it was late by at most \(CrowdResult.milliseconds(reading.latest))",
      String(
        format: "control: %.1f µs of CPU time a coming, %.2f s in all (the threads port/*)", cost,
        control.running),
      String(
        format: "the workers ran for %.2f s, and were kept from their CPUs for %.2f s",
        workers.running,
        workers.waiting),
      String(format: "load average of the last minute: %.1f", loads[0]),
    ]
  }

  private static func text(_ gaps: Gaps) -> String {
    let shares = [("median", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)]
    return shares.map { "\($0) \(milliseconds(gaps.percentile($1)))" }.joined(separator: ", ")
      + ", longest \(milliseconds(gaps.longest))"
  }

  private static func milliseconds(_ nanoseconds: Int) -> String {
    String(format: "%.3f ms", Double(nanoseconds) / 1e6)
  }
}
