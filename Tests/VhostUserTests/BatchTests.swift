import Glibc
import Linux
import Testing

@testable import VhostUser

/// Rings that stop or start together do so in one call, as each may wait for every worker.
@Suite struct BatchTests {
  typealias Batch = FakeBackend.Batch

  private static let rings = Array(0..<32)

  /// A front-end with sixteen pairs and memory, whose rings have not been set up yet.
  private func prepared(
    _ protocolFeatures: ProtocolFeatures = [.mq, .replyAck]
  ) throws -> FrontEnd {
    let frontEnd = try FrontEnd(FakeBackend(queuePairs: 16))
    try frontEnd.negotiate(protocolFeatures: protocolFeatures)
    try frontEnd.setMemory()
    try frontEnd.settle()
    return frontEnd
  }

  /// The same with STATUS, its 32 rings running.
  private func driven() throws -> FrontEnd {
    let frontEnd = try prepared([.mq, .replyAck, .status, .resetDevice])
    for index in BatchTests.rings { try frontEnd.send(together: FrontEnd.setUp(index)) }
    #expect(try frontEnd.acknowledged(.setStatus, UInt64(15).bytes) == 0)
    return frontEnd
  }

  private func eventually(_ condition: () -> Bool) -> Bool {
    for _ in 0..<20_000 {
      if condition() { return true }
      usleep(1000)
    }
    return false
  }

  @Test func `E01: with STATUS all rings start at DRIVER_OK, at once`() throws {
    let frontEnd = try driven()
    #expect(frontEnd.backend.takeBatches() == [.start(BatchTests.rings)])
    #expect(frontEnd.backend.running.count == 32)
    _ = try frontEnd.close()
  }

  enum Way: CaseIterable { case closed, stopped, malformed, status, resetDevice, resetOwner }

  @Test(arguments: Way.allCases)
  func `E81, E84: all rings stop at once when the front-end goes`(way: Way) throws {
    let frontEnd = try driven()
    _ = frontEnd.backend.takeBatches()
    switch way {
    case .closed: _ = try frontEnd.close()
    case .stopped:
      frontEnd.stop.signal()
      _ = try frontEnd.end()
    case .malformed:
      try frontEnd.send(code: 1, flags: 2)
      _ = try frontEnd.failure()
    case .status: #expect(try frontEnd.acknowledged(.setStatus, UInt64(0).bytes) == 0)
    case .resetDevice: #expect(try frontEnd.acknowledged(.resetDevice) == 0)
    case .resetOwner: #expect(try frontEnd.acknowledged(.resetOwner) == 0)
    }
    #expect(frontEnd.backend.takeBatches() == [.stop(BatchTests.rings)])
    if frontEnd.backend.calls.last != .reset { _ = try frontEnd.close() }
    #expect(frontEnd.backend.takeBatches() == [], "nothing is stopped twice")
  }

  @Test func `E86, E93: a memory table, or LOG_ALL, stops all rings at once and starts them so`()
    throws
  {
    let frontEnd = try driven()
    let both: [Batch] = [.stop(BatchTests.rings), .start(BatchTests.rings)]
    _ = frontEnd.backend.takeBatches()
    try frontEnd.setMemory()
    try frontEnd.settle()
    #expect(frontEnd.backend.takeBatches() == both)
    let logged: Features = [.version1, .vhostUserProtocol, .logAll]
    #expect(try frontEnd.acknowledged(.setFeatures, logged.rawValue.bytes) == 0)
    #expect(frontEnd.backend.takeBatches() == both)
    // A table that can't be mapped.
    frontEnd.backend.state.withLock { $0.refusesMemory = true }
    let table = MemoryTable(regions: [FrontEnd.region(1)]).bytes
    #expect(
      try frontEnd.acknowledged(.setMemTable, table, fds: [try TestFile().descriptor]) == 1)
    #expect(frontEnd.backend.takeBatches() == both)
    _ = try frontEnd.close()
  }

  @Test func `E72: without STATUS rings whose messages are there at once start at once`() throws {
    let frontEnd = try prepared()
    // Nothing asks for an answer: they start when nothing more is there.
    try frontEnd.send(together: BatchTests.rings.flatMap { FrontEnd.setUp($0) })
    #expect(eventually { frontEnd.backend.running.count == 32 })
    #expect(frontEnd.backend.takeBatches() == [.start(BatchTests.rings)])
    #expect(frontEnd.backend.running.values.allSatisfy { $0.enabled })
    #expect(try frontEnd.close() == .frontEndClosed)
  }

  @Test(arguments: [1, 12, 15])
  func `E72: a message that stalls half-way keeps no ring from starting`(length: Int) throws {
    let frontEnd = try prepared()
    let half = Header(code: 2, flags: 1, size: 8).bytes + UInt64(0).bytes
    var bytes: [UInt8] = []
    for (request, payload) in FrontEnd.setUp(1) {
      bytes +=
        Header(code: request.rawValue, flags: 1, size: UInt32(payload.count)).bytes + payload
    }
    try frontEnd.send(bytes: bytes + half.prefix(length))
    #expect(eventually { frontEnd.backend.running.keys.sorted() == [1] })
    frontEnd.stop.signal()
    #expect(try frontEnd.end() == .stopped)
  }

  @Test func `E68: whatever is answered, rings that could start by then have started`() throws {
    let frontEnd = try prepared()
    for (index, request) in [Request.getFeatures, .getQueueNum, .getStatus].enumerated() {
      try frontEnd.send(together: FrontEnd.setUp(index) + [(request, [])])
      #expect(try frontEnd.reply()?.code == request.rawValue)
      #expect(frontEnd.backend.takeBatches() == [.start([index])])
    }
    // A refusal is an answer too.
    try frontEnd.send(
      together: FrontEnd.setUp(3) + [(.setVringNum, FrontEnd.state(99, 8))], lastNeedsReply: true)
    #expect(try frontEnd.reply()?.number == 1)
    #expect(frontEnd.backend.takeBatches() == [.start([3])])
    _ = try frontEnd.close()
  }

  @Test func `E79: a ring that is stopped before it started was never started`() throws {
    let frontEnd = try prepared()
    try frontEnd.send(
      together: FrontEnd.setUp(0) + FrontEnd.setUp(1) + [(.getVringBase, FrontEnd.state(1, 0))])
    #expect(try frontEnd.reply()?.payload == FrontEnd.state(1, 0))
    #expect(frontEnd.backend.takeBatches() == [.start([0])])
    try frontEnd.send(together: FrontEnd.setUp(1) + [(.resetOwner, [])], lastNeedsReply: true)
    #expect(try frontEnd.reply()?.number == 0)
    #expect(frontEnd.backend.takeBatches() == [.stop([0])])
    _ = try frontEnd.close()
  }

  @Test func `E02, E69: an answer tells of the rings its own message concerned`() throws {
    let frontEnd = try prepared()
    let backend = frontEnd.backend
    backend.state.withLock { $0.refusedRings = [1] }
    let error = try EventFD()
    try frontEnd.send(.setVringErr, UInt64(1).bytes, fds: [error.descriptor])
    // The last of a ring's messages, which has made it due anew.
    try frontEnd.send(together: FrontEnd.setUp(1), lastNeedsReply: true)
    #expect(try frontEnd.reply()?.number == 1)
    #expect(error.drain() == 1)
    // Another ring's, while that one fails once more.
    try frontEnd.send(together: FrontEnd.setUp(1) + FrontEnd.setUp(2), lastNeedsReply: true)
    #expect(try frontEnd.reply()?.number == 0)
    #expect(error.drain() == 1)
    #expect(backend.running.keys.sorted() == [2])
    #expect(
      frontEnd.events.filter { $0 == .ringFailed(1, "the avail ring is in no region") }.count == 2)
    // One that concerns all of them.
    let table = MemoryTable(regions: [FrontEnd.region(0)]).bytes
    #expect(
      try frontEnd.acknowledged(.setMemTable, table, fds: [try TestFile().descriptor]) == 1)
    #expect(backend.running.keys.sorted() == [2], "it keeps no other from starting")
    _ = try frontEnd.close()
  }

  @Test func `E93: features can't change under a ring that is due, unless it won't run`() throws {
    let frontEnd = try prepared()
    let changed: Features = [.version1, .vhostUserProtocol, .ringEventIdx]
    let change: [(Request, [UInt8])] = [(.setFeatures, changed.rawValue.bytes)]
    frontEnd.backend.state.withLock { $0.refusedRings = [0] }
    try frontEnd.send(together: FrontEnd.setUp(0) + change, lastNeedsReply: true)
    #expect(try frontEnd.reply()?.number == 1, "the ring is concerned, and fails again")
    #expect(frontEnd.events.contains(.negotiated(changed, [.mq, .replyAck])))
    frontEnd.backend.state.withLock { $0.refusedRings = [] }
    let back: Features = [.version1, .vhostUserProtocol]
    try frontEnd.send(
      together: FrontEnd.setUp(0) + [(.setFeatures, back.rawValue.bytes)], lastNeedsReply: true)
    #expect(try frontEnd.reply()?.number == 1)
    #expect(frontEnd.backend.running[0]?.features == changed)
    _ = try frontEnd.close()
  }
}
