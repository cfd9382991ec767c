import Testing

@testable import Dataplane

extension PackedDriver: ModelDriver {
  var room: Int { size - (made - passed) }

  func queue(_ bench: Bench, isTransmitq: Bool, inOrder: Bool) throws -> PackedQueue {
    try bench.queue(self, setup(inOrder: inOrder), isTransmitq: isTransmitq)
  }

  func offer(_ parts: [Part], id: UInt16, table: Int?) -> UInt16 {
    if let table { offerIndirect(parts, id: id, table: table) } else { offer(parts, id: id) }
    return id
  }
}

@Suite struct PackedModelTests {
  @Test(
    "2.8: chains of every shape, bursts of every length, many laps of rings of odd sizes",
    arguments: [(1, 3), (3, 1), (4, 4), (7, 13), (16, 8), (61, 100), (128, 61)], [false, true])
  func model(sizes: (Int, Int), inOrder: Bool) throws {
    let source = try PackedDriver(size: sizes.0, start: sizes.0 - 1, bytes: 1 << 23)
    let sink = try PackedDriver(size: sizes.1, start: sizes.1, bytes: 1 << 23)
    var model = try RingModel(source, sink, inOrder: inOrder)
    try model.run(rounds: 500)
  }
}
