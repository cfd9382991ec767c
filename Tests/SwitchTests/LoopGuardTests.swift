import Testing

@testable import Switch

/// What is taken for a loop, and what is not.
@Suite struct LoopGuardTests {
  private func look(
    _ finder: inout LoopGuard, _ moved: [UInt64], frames: [UInt64]? = nil, seconds: Double = 1
  ) -> [LoopGuard.Loop] {
    finder.look(
      moved.enumerated().map { port, moved in
        .init(port: port, moved: moved, frames: frames?[port] ?? 0)
      }, seconds: seconds)
  }

  @Test func addressesThatMoveToAndFroAreALoop() {
    var finder = LoopGuard()
    // What was before the first look has no rate.
    #expect(look(&finder, [50_000, 50_000, 0], frames: [9, 9, 9]) == [])
    #expect(
      look(&finder, [50_500, 50_400, 3], frames: [20, 30, 9]) == [.init(ports: [1, 0], rate: 900)])
    #expect(look(&finder, [50_500, 50_400, 3], frames: [20, 30, 9]) == [])
  }

  @Test func whatMovesInOneDirectionIsNone() {
    var finder = LoopGuard()
    _ = look(&finder, [0, 0])
    // One uplink takes over from another: ten thousand addresses at once, and a few come back.
    #expect(look(&finder, [10_000, 50]) == [])
  }

  @Test func theRateIsThatOfTheTimeBetween() {
    var finder = LoopGuard()
    _ = look(&finder, [0, 0])
    #expect(look(&finder, [900, 900], seconds: 10) == [])
    #expect(look(&finder, [1000, 1000], seconds: 0.5) == [.init(ports: [0, 1], rate: 400)])
  }

  @Test func severalLoopsAreToldApart() {
    var finder = LoopGuard()
    _ = look(&finder, [0, 0, 0, 0])
    let found = look(&finder, [200, 5000, 5000, 210])
    #expect(found.map { Set($0.ports) } == [[1, 2], [0, 3]])
  }

  @Test func aNumberThatAnotherPortHasNowHasNoRate() {
    var finder = LoopGuard()
    _ = look(&finder, [90_000, 90_000])
    #expect(look(&finder, [500, 400]) == [])
  }
}
