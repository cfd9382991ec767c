import Linux
import Synchronization
import Testing

@testable import VhostUser

@Suite struct RingTests {
  typealias Call = FakeBackend.Call

  /// A front-end with ring 1 live at base 5, enabled, and the record of calls empty.
  private func live(
    _ protocolFeatures: ProtocolFeatures = [.mq, .replyAck]
  ) throws -> (FrontEnd, kick: EventFD, call: EventFD) {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate(protocolFeatures: protocolFeatures)
    try frontEnd.setMemory()
    try frontEnd.send(.setVringEnable, FrontEnd.state(1, 1))
    let (kick, call) = try frontEnd.configure(1, base: 5)
    try frontEnd.settle()
    try #require(frontEnd.backend.running.keys.sorted() == [1])
    _ = frontEnd.backend.takeCalls()
    frontEnd.backend.state.withLock { $0.progress = 10 }
    return (frontEnd, kick, call)
  }

  enum Piece: CaseIterable { case features, memory, size, address, kick }

  @Test(arguments: Piece.allCases)
  func `E72, E74: a ring waits for its last piece, whichever that is`(last: Piece) throws {
    let frontEnd = try FrontEnd()
    let kick = try EventFD()
    func send(_ piece: Piece) throws {
      switch piece {
      case .features: try frontEnd.negotiate()
      case .memory: try frontEnd.setMemory()
      case .size: try frontEnd.send(.setVringNum, FrontEnd.state(0, 128))
      case .address: try frontEnd.send(.setVringAddr, FrontEnd.address(0).bytes)
      case .kick: try frontEnd.send(.setVringKick, UInt64(0).bytes, fds: [kick.descriptor])
      }
    }
    for piece in Piece.allCases where piece != last { try send(piece) }
    try frontEnd.settle()
    #expect(frontEnd.backend.running.isEmpty)
    try send(last)
    try frontEnd.settle()
    #expect(frontEnd.backend.running[0]?.size == 128)
    _ = try frontEnd.close()
  }

  @Test func `E73, E78: bit 8 of the kick means polling`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate()
    try frontEnd.setMemory()
    try frontEnd.configure(0)
    try frontEnd.send(.setVringKick, UInt64(0x100).bytes)
    try frontEnd.send(.setVringCall, UInt64(0x100).bytes)
    try frontEnd.settle()
    let ring = try #require(frontEnd.backend.running[0])
    #expect(ring.kick == nil && ring.call == nil)
    _ = try frontEnd.close()
  }

  @Test func `E75: enabled from the start only without VHOST_USER_F_PROTOCOL_FEATURES`() throws {
    for (features, enabled) in [
      (Features.version1, true), ([.version1, .vhostUserProtocol], false),
    ] {
      let frontEnd = try FrontEnd()
      try frontEnd.negotiate(features)
      try frontEnd.setMemory()
      try frontEnd.configure(1)
      try frontEnd.settle()
      #expect(frontEnd.backend.running[1]?.enabled == enabled)
      _ = try frontEnd.close()
    }
  }

  @Test func `E76, E77: enabling is kept while stopped, and changes a ring while it runs`() throws {
    let (frontEnd, _, _) = try live()
    #expect(try frontEnd.acknowledged(.setVringEnable, FrontEnd.state(1, 1)) == 0)
    #expect(frontEnd.backend.takeCalls() == [], "nothing changes")
    #expect(try frontEnd.acknowledged(.setVringEnable, FrontEnd.state(1, 0)) == 0)
    #expect(frontEnd.backend.takeCalls() == [.setEnabled(1, false)] as [Call], "it goes on")
    #expect(frontEnd.events.last == .ringEnabled(1, false))
    _ = try frontEnd.ask(.getVringBase, FrontEnd.state(1, 0))
    try frontEnd.send(.setVringEnable, FrontEnd.state(1, 1))
    try frontEnd.send(.setVringKick, UInt64(1).bytes, fds: [try EventFD().descriptor])
    try frontEnd.settle()
    #expect(
      frontEnd.backend.takeCalls() == [.stop(1), .start(1, base: 15, enabled: true)] as [Call])
    _ = try frontEnd.close()
  }

  @Test func `E79: GET_VRING_BASE stops until the next kick, and keeps the rest`() throws {
    let (frontEnd, _, call) = try live()
    #expect(
      try frontEnd.ask(.getVringBase, FrontEnd.state(1, 0)).payload == FrontEnd.state(1, 15))
    #expect(frontEnd.backend.takeCalls() == [.stop(1)])
    #expect(
      try frontEnd.ask(.getVringBase, FrontEnd.state(1, 0)).payload == FrontEnd.state(1, 15))
    // Nothing but a kick starts it.
    try frontEnd.send(.setVringBase, FrontEnd.state(1, 40))
    try frontEnd.send(.setVringAddr, FrontEnd.address(1).bytes)
    try frontEnd.setMemory()
    try frontEnd.settle()
    #expect(frontEnd.backend.running.isEmpty)
    try frontEnd.send(.setVringKick, UInt64(1).bytes, fds: [try EventFD().descriptor])
    try frontEnd.settle()
    let ring = try #require(frontEnd.backend.running[1])
    #expect(ring.base == 40)
    #expect(ring.call != nil)
    _ = call
    _ = try frontEnd.close()
  }

  @Test func `E77, E82, E86: a change to what a live ring stands on stops it, and it goes on`()
    throws
  {
    let (frontEnd, _, _) = try live()
    let table = MemoryTable(regions: [FrontEnd.region(0), FrontEnd.region(2)]).bytes
    let files = [try TestFile().descriptor, try TestFile().descriptor]
    let changes: [(Request, [UInt8], [OwnedFD])] = [
      (.setVringAddr, FrontEnd.address(1, flags: 1).bytes, []),
      (.setVringNum, FrontEnd.state(1, 512), []),
      (.setMemTable, table, files),
    ]
    var base: UInt32 = 5
    for (request, payload, fds) in changes {
      #expect(try frontEnd.acknowledged(request, payload, fds: fds) == 0)
      base += 10
      var expected: [Call] = [.stop(1), .start(1, base: base, enabled: true)]
      if request == .setMemTable { expected.insert(.setMemory([0, 2 << 20]), at: 1) }
      #expect(frontEnd.backend.takeCalls() == expected, "\(request.name)")
    }
    #expect(frontEnd.backend.running[1]?.size == 512)
    _ = try frontEnd.close()
  }

  @Test func `E77, E78: a live ring goes on while its descriptors change`() throws {
    let (frontEnd, _, _) = try live()
    let changes: [(Request, Call, (RingConfiguration) -> OwnedFD?)] = [
      (.setVringCall, .setCall(1), \.call), (.setVringErr, .setError(1), \.error),
      (.setVringKick, .setKick(1), \.kick),
    ]
    for (request, call, descriptor) in changes {
      #expect(
        try frontEnd.acknowledged(request, UInt64(1).bytes, fds: [try EventFD().descriptor]) == 0)
      #expect(frontEnd.backend.takeCalls() == [call])
      #expect(frontEnd.backend.running[1].flatMap(descriptor) != nil)
      #expect(try frontEnd.acknowledged(request, UInt64(0x101).bytes) == 0)
      #expect(frontEnd.backend.takeCalls() == [call])
      #expect(frontEnd.backend.running[1].flatMap(descriptor) == nil)
    }
    _ = try frontEnd.close()
  }

  @Test func `E02: a live ring that can't take another kick descriptor is stopped, and told of`()
    throws
  {
    let (frontEnd, _, _) = try live()
    let backend = frontEnd.backend
    let error = try EventFD()
    try frontEnd.send(.setVringErr, UInt64(1).bytes, fds: [error.descriptor])
    try frontEnd.settle()
    _ = backend.takeCalls()
    backend.state.withLock { $0.refusedKicks = [1] }
    let kick = try EventFD()
    #expect(try frontEnd.acknowledged(.setVringKick, UInt64(1).bytes, fds: [kick.descriptor]) == 1)
    #expect(backend.takeCalls() == [.setKick(1), .stop(1)] as [Call])
    #expect(error.drain() == 1)
    #expect(frontEnd.events.last == .ringFailed(1, "the kick descriptor can't be waited for"))
    // It is like any ring that did not start: the next message about it tries again.
    #expect(try frontEnd.acknowledged(.setVringEnable, FrontEnd.state(1, 0)) == 0)
    #expect(backend.takeCalls() == [.start(1, base: 15, enabled: false)] as [Call])
    _ = try frontEnd.close()
  }

  @Test func `E77: what is so already disturbs no live ring`() throws {
    let (frontEnd, _, _) = try live()
    let messages: [(Request, [UInt8])] = [
      (.setVringNum, FrontEnd.state(1, 256)), (.setVringAddr, FrontEnd.address(1).bytes),
      (.setVringEnable, FrontEnd.state(1, 1)),
      (.setFeatures, Features([.version1, .vhostUserProtocol]).rawValue.bytes),
      (.setProtocolFeatures, ProtocolFeatures([.mq, .replyAck]).rawValue.bytes),
      (.setOwner, []),
    ]
    for (request, payload) in messages {
      #expect(try frontEnd.acknowledged(request, payload) == 0)
      #expect(frontEnd.backend.takeCalls() == [], "\(request.name)")
    }
    _ = try frontEnd.close()
  }

  @Test func `E80: a new base of a live ring moves it, though it began there`() throws {
    let (frontEnd, _, _) = try live()
    #expect(try frontEnd.acknowledged(.setVringBase, FrontEnd.state(1, 5)) == 0)
    #expect(
      frontEnd.backend.takeCalls() == [.stop(1), .start(1, base: 5, enabled: true)] as [Call])
    _ = try frontEnd.close()
  }

  @Test func `E83: a new call descriptor of a live ring is signalled once`() throws {
    let (frontEnd, _, old) = try live()
    #expect(old.drain() == 0, "the ring was not live when this one came")
    let new = try EventFD()
    try frontEnd.send(.setVringCall, UInt64(1).bytes, fds: [new.descriptor])
    try frontEnd.settle()
    #expect(new.drain() == 1)
    #expect(old.drain() == 0)
    _ = try frontEnd.close()
  }

  @Test func `E84: RESET_OWNER stops and disables rings and keeps the rest`() throws {
    let (frontEnd, _, _) = try live()
    try frontEnd.send(.resetOwner)
    try frontEnd.settle()
    #expect(frontEnd.backend.takeCalls() == [.stop(1)])
    try frontEnd.send(.setVringKick, UInt64(1).bytes, fds: [try EventFD().descriptor])
    try frontEnd.settle()
    #expect(frontEnd.backend.takeCalls() == [.start(1, base: 15, enabled: false)] as [Call])
    _ = try frontEnd.close()
  }

  @Test func `E84: RESET_DEVICE goes back to the beginning, but keeps memory`() throws {
    let (frontEnd, _, _) = try live([.replyAck, .resetDevice])
    #expect(try frontEnd.acknowledged(.resetDevice) == 0)
    #expect(
      frontEnd.backend.takeCalls()
        == [.stop(1), .negotiated([], [.replyAck, .resetDevice])] as [Call])
    try frontEnd.send(.setFeatures, Features.version1.rawValue.bytes)
    try frontEnd.configure(1)
    try frontEnd.settle()
    #expect(frontEnd.backend.running.keys.sorted() == [1])
    _ = try frontEnd.close()
  }

  @Test func `E01: with STATUS a ring runs from DRIVER_OK to reset`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate(protocolFeatures: [.replyAck, .status])
    try frontEnd.setMemory()
    try frontEnd.configure(0)
    #expect(try frontEnd.acknowledged(.setStatus, UInt64(11).bytes) == 0)
    #expect(frontEnd.backend.running.isEmpty)
    _ = frontEnd.backend.takeCalls()
    #expect(try frontEnd.acknowledged(.setStatus, UInt64(15).bytes) == 0)
    #expect(
      frontEnd.backend.takeCalls()
        == [.status(DeviceStatus(rawValue: 15)), .start(0, base: 0, enabled: false)] as [Call])
    #expect(try frontEnd.acknowledged(.setStatus, UInt64(0).bytes) == 0)
    #expect(frontEnd.backend.takeCalls() == [.stop(0), .status([])] as [Call])
    // The next DRIVER_OK alone does not revive it.
    #expect(try frontEnd.acknowledged(.setStatus, UInt64(15).bytes) == 0)
    #expect(frontEnd.backend.running.isEmpty)
    #expect(try frontEnd.acknowledged(.setStatus, UInt64(256).bytes) == 1)
    _ = try frontEnd.close()
  }

  @Test func `E01: FEATURES_OK is not confirmed before there are features`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.send(.setProtocolFeatures, ProtocolFeatures.status.rawValue.bytes)
    try frontEnd.send(.setStatus, UInt64(11).bytes)
    #expect(try frontEnd.ask(.getStatus).number == 3)
    _ = try frontEnd.close()
  }

  @Test func `E02: a ring that would not start is an error in the answer, and on its descriptor`()
    throws
  {
    let frontEnd = try FrontEnd()
    frontEnd.backend.state.withLock { $0.refusedRings = [1] }
    try frontEnd.negotiate()
    try frontEnd.setMemory()
    let error = try EventFD()
    try frontEnd.send(.setVringErr, UInt64(1).bytes, fds: [error.descriptor])
    try frontEnd.configure(1, base: 3)
    try frontEnd.settle()
    #expect(error.drain() == 1)
    #expect(frontEnd.events.contains(.ringFailed(1, "the avail ring is in no region")))
    #expect(try frontEnd.acknowledged(.setVringAddr, FrontEnd.address(1).bytes) == 1)
    #expect(try frontEnd.acknowledged(.setVringEnable, FrontEnd.state(1, 1)) == 1)
    frontEnd.backend.state.withLock { $0.refusedRings = [] }
    #expect(try frontEnd.acknowledged(.setVringAddr, FrontEnd.address(1).bytes) == 0)
    #expect(frontEnd.backend.running[1]?.base == 3)
    #expect(frontEnd.backend.running[1]?.enabled == true)
    _ = try frontEnd.close()
  }

  @Test func `E22, E80: a packed ring's size and base; a split one's are refused`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate([.version1, .ringPacked])
    try frontEnd.setMemory()
    try frontEnd.configure(0, size: 48, base: 0x8000_8000)
    try frontEnd.settle()
    #expect(frontEnd.backend.running[0]?.base == 0x8000_8000)
    _ = try frontEnd.ask(.getVringBase, FrontEnd.state(0, 0))
    // The driver changes its mind: what was right for packed rings is judged again.
    try frontEnd.send(.setFeatures, Features.version1.rawValue.bytes)
    let kick = try EventFD()
    #expect(
      try frontEnd.acknowledged(.setVringKick, UInt64(0).bytes, fds: [kick.descriptor]) == 1)
    #expect(frontEnd.backend.running.isEmpty)
    #expect(frontEnd.events.contains(.ringFailed(0, "48 is no power of two")))
    #expect(try frontEnd.acknowledged(.setVringBase, FrontEnd.state(0, 0x1_0000)) == 1)
    _ = try frontEnd.close()
  }

  @Test func `E80: a packed ring's halves of a base are any, a split ring's has one`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate([.version1, .ringPacked])
    try frontEnd.setMemory()
    for base in [0x0000_8005, 0x8005_8005, 0, 0x8004_8005, 0x0005_8005, 0x8000_0000] as [UInt32] {
      #expect(try frontEnd.acknowledged(.setVringBase, FrontEnd.state(0, base)) == 0, "\(base)")
    }
    try frontEnd.configure(0, size: 48, base: 0x8004_8005)
    try frontEnd.settle()
    #expect(frontEnd.backend.running[0]?.base == 0x8004_8005)
    _ = try frontEnd.close()
  }

  @Test func `E81: the end of the connection stops every ring, then resets`() throws {
    let (frontEnd, _, _) = try live()
    #expect(try frontEnd.close() == .frontEndClosed)
    #expect(frontEnd.backend.calls == [.stop(1), .reset])
  }

  @Test func `the stop event stops every ring, then resets`() throws {
    let (frontEnd, _, _) = try live()
    frontEnd.stop.signal()
    #expect(try frontEnd.end() == .stopped)
    #expect(frontEnd.backend.calls == [.stop(1), .reset])
    #expect(try frontEnd.reply() == nil)
  }

  @Test func `E38, E92, E95: RARP and MTU reach the back-end`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate()
    #expect(try frontEnd.acknowledged(.sendRARP, [2, 0, 0, 0, 0, 1, 9, 9]) == 0)
    #expect(frontEnd.backend.calls.last == .sendRARP([2, 0, 0, 0, 0, 1]))
    for (mtu, answer) in [(67, 1), (68, 0), (65_535, 0), (65_536, 1)] as [(UInt64, UInt64)] {
      #expect(try frontEnd.acknowledged(.netSetMTU, mtu.bytes) == answer, "\(mtu)")
    }
    frontEnd.backend.state.withLock { $0.refusesMTU = true }
    #expect(try frontEnd.acknowledged(.netSetMTU, UInt64(1500).bytes) == 1)
    _ = try frontEnd.close()
  }
}
