import Testing

@testable import swivel_bench

@Suite struct SearchTests {
  @Test(
    "The highest value that passes is found to within the resolution",
    arguments: [
      0.02, 1, 3.7, 49.9, 50, 50.1, 99.4,
    ])
  func finds(limit: Double) throws {
    var tried: [Double] = []
    let found = try #require(
      try Search.highest(from: 0.01, to: 100, resolution: 0.01) { value in
        tried.append(value)
        return (value <= limit, value)
      })
    #expect(found.value <= limit && found.value > limit * 0.98)
    #expect(found.found == found.value)
    #expect(tried.first == 100)
    #expect(tried.count < 25)
  }

  @Test("When the highest passes nothing else is tried")
  func top() throws {
    var trials = 0
    let found = try Search.highest(from: 1, to: 100, resolution: 0.01) { value in
      trials += 1
      return (true, value)
    }
    #expect(found?.value == 100 && trials == 1)
  }

  @Test("When nothing passes nothing is found")
  func nothing() throws {
    let found = try Search.highest(from: 1, to: 100, resolution: 0.01) { (false, $0) }
    #expect(found == nil)
  }

  @Test(
    "Who is the limit",
    arguments: [
      // Nothing to wait for: this program.
      (idle: 0.01, held: 0.2, offered: nil, sent: 10e6, limit: Outcome.Limit.generator),
      // Nothing to do most of the time: the switch.
      (idle: 0.97, held: 0.6, offered: nil, sent: 10e6, limit: .switch),
      // Always something to do, but the switch's queues are full.
      (idle: 0.01, held: 0.95, offered: nil, sent: 10e6, limit: .switch),
      (idle: 0.5, held: 0.1, offered: 1e6, sent: 1e6, limit: .rate),
      (idle: 0.5, held: 0.1, offered: 20e6, sent: 10e6, limit: .switch),
    ])
  func verdict(
    idle: Double, held: Double, offered: Double?, sent: Double, limit: Outcome.Limit
  ) {
    #expect(Verdict.limit(idle: idle, held: held, offered: offered, sent: sent) == limit)
  }
}
