import Testing

@testable import Dataplane

@Suite struct SplitModelTests {
  @Test(
    "2.7: chains of every shape, bursts of every length, while both indices pass 65,535",
    arguments: [(1, 2), (2, 1), (4, 4), (8, 16), (16, 8), (64, 128), (256, 64)])
  func model(sizes: (Int, Int)) throws {
    let source = try SplitDriver(size: sizes.0, start: 0xFFFF - 150)
    let sink = try SplitDriver(size: sizes.1, start: 0xFFFF - 100)
    var model = try RingModel(source, sink)
    try model.run(rounds: 500)
    #expect(source.made > 151 && sink.passed > 101)
    #expect(source.memory.usedIndex < source.start && sink.memory.usedIndex < sink.start)
  }

  @Test("From one layout to the other", arguments: [(8, 13), (64, 61)])
  func mixed(sizes: (Int, Int)) throws {
    let split = { try SplitDriver(size: sizes.0, start: 0xFFFF - 150) }
    let packed = { try PackedDriver(size: sizes.1, start: sizes.1 - 1, bytes: 1 << 23) }
    var there = try RingModel(try split(), try packed())
    try there.run(rounds: 300)
    var back = try RingModel(try packed(), try split())
    try back.run(rounds: 300)
  }
}
