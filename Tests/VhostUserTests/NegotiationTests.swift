import Linux
import Synchronization
import Testing

@testable import VhostUser

@Suite struct NegotiationTests {
  /// The messages of QEMU 7.2 with two queue pairs, in its order: one vhost device a pair, each negotiating
  /// for itself, and the per-device requests only with the first.
  @Test func `E66…E83: QEMU's way from connecting to both pairs running, and back`() throws {
    let frontEnd = try FrontEnd()
    let backend = frontEnd.backend
    let driver: Features = [.netMrgRxbuf, .netMQ, .ringEventIdx, .version1, .vhostUserProtocol]

    for pair in 0..<2 {
      #expect(try frontEnd.ask(.getFeatures).number == backend.features.rawValue)
      let offered = try frontEnd.ask(.getProtocolFeatures).number
      #expect(offered == ProtocolFeatures.supported.rawValue)
      try frontEnd.send(.setProtocolFeatures, offered.bytes)
      if pair == 0 {
        #expect(try frontEnd.ask(.getQueueNum).number == 2)
        #expect(try frontEnd.ask(.getMaxMemSlots).number == 8)
        try frontEnd.send(.setOwner)
      }
      #expect(try frontEnd.ask(.getFeatures).number == backend.features.rawValue)
      for index in [2 * pair, 2 * pair + 1] {
        try frontEnd.send(
          .setVringErr, UInt64(index).bytes, fds: [try EventFD().descriptor])
        try frontEnd.send(
          .setVringCall, UInt64(index).bytes, fds: [try EventFD().descriptor])
      }
    }
    #expect(try frontEnd.acknowledged(.netSetMTU, UInt64(1500).bytes) == 0)

    // The driver is ready: the guest's notifiers, then a pair at a time.
    var kicks: [EventFD] = []
    var calls: [EventFD] = []
    for index in 0..<4 {
      calls.append(try EventFD())
      try frontEnd.send(.setVringCall, UInt64(index).bytes, fds: [calls[index].descriptor])
    }
    for pair in 0..<2 {
      for index in [2 * pair, 2 * pair + 1] {
        try frontEnd.send(.setVringEnable, FrontEnd.state(index, 1))
      }
      try frontEnd.send(.setFeatures, driver.rawValue.bytes)
      var status = try frontEnd.ask(.getStatus).number
      if status & 8 == 0 {
        status |= 8
        try frontEnd.send(.setStatus, status.bytes)
      }
      if pair == 0 {
        let region = SingleRegion(FrontEnd.region(0)).bytes
        #expect(
          try frontEnd.acknowledged(.addMemReg, region, fds: [try TestFile().descriptor]) == 0)
      }
      for index in [2 * pair, 2 * pair + 1] {
        try frontEnd.send(.setVringNum, FrontEnd.state(index, 256))
        try frontEnd.send(.setVringBase, FrontEnd.state(index, 7))
        try frontEnd.send(.setVringAddr, FrontEnd.address(index).bytes)
        kicks.append(try EventFD())
        try frontEnd.send(.setVringKick, UInt64(index).bytes, fds: [kicks[index].descriptor])
      }
      try frontEnd.settle()
      #expect(backend.running.isEmpty, "E01: nothing runs before DRIVER_OK")
    }
    #expect(try frontEnd.ask(.getStatus).number == 8)
    try frontEnd.send(.setStatus, UInt64(15).bytes)
    try frontEnd.settle()
    #expect(backend.running.keys.sorted() == [0, 1, 2, 3])
    #expect(backend.running.values.allSatisfy { $0.enabled && $0.base == 7 && $0.size == 256 })
    #expect(backend.running.values.allSatisfy { $0.kick != nil && $0.error != nil })
    #expect(backend.running[2]?.features == driver)
    #expect(backend.running[2]?.driver == 0x7000_1000)
    #expect(backend.running[2]?.device == 0x7000_2000)

    // The guest stops its driver. QEMU 7.2 resets the status first and asks for the bases after.
    backend.state.withLock { $0.progress = 100 }
    try frontEnd.send(.setStatus, UInt64(0).bytes)
    for index in 0..<4 {
      let reply = try frontEnd.ask(.getVringBase, FrontEnd.state(index, 0))
      #expect(reply.payload == FrontEnd.state(index, 107))
    }
    #expect(backend.running.isEmpty)
    #expect(try frontEnd.close() == .frontEndClosed)
  }

  @Test(arguments: [ProtocolFeatures.supported, [.mq, .replyAck]])
  func `E66…E83: virtio-user's way, with and without STATUS`(offered: ProtocolFeatures) throws {
    let frontEnd = try FrontEnd(FakeBackend(protocolFeatures: offered))
    let backend = frontEnd.backend
    let hasStatus = offered.contains(.status)
    try frontEnd.send(.setOwner)
    _ = try frontEnd.ask(.getFeatures)
    let accepted = try frontEnd.ask(.getProtocolFeatures).number & (1 << 0 | 1 << 3 | 1 << 16)
    try frontEnd.send(.setProtocolFeatures, accepted.bytes)
    // "Create" the queues, then accept features.
    for index in 0..<4 {
      try frontEnd.send(.setVringCall, UInt64(index).bytes, fds: [try EventFD().descriptor])
    }
    let driver: Features = [.netMrgRxbuf, .version1, .vhostUserProtocol]
    try frontEnd.send(.setFeatures, driver.rawValue.bytes)
    if hasStatus {
      #expect(try frontEnd.acknowledged(.setStatus, UInt64(11).bytes) == 0)
      #expect(try frontEnd.ask(.getStatus).number == 11)
    }
    let table = MemoryTable(regions: [FrontEnd.region(0), FrontEnd.region(1)])
    let files = [try TestFile().descriptor, try TestFile().descriptor]
    #expect(try frontEnd.acknowledged(.setMemTable, table.bytes, fds: files) == 0)
    for index in 0..<4 {
      try frontEnd.send(.setVringNum, FrontEnd.state(index, 512))
      try frontEnd.send(.setVringBase, FrontEnd.state(index, 0))
      try frontEnd.send(.setVringAddr, FrontEnd.address(index).bytes)
      try frontEnd.send(.setVringKick, UInt64(index).bytes, fds: [try EventFD().descriptor])
    }
    try frontEnd.settle()
    #expect(backend.running.count == (hasStatus ? 0 : 4))
    // Only the first pair is enabled.
    for index in 0..<2 { try frontEnd.send(.setVringEnable, FrontEnd.state(index, 1)) }
    if hasStatus { #expect(try frontEnd.acknowledged(.setStatus, UInt64(15).bytes) == 0) }
    try frontEnd.settle()
    #expect(backend.running.count == 4)
    #expect(backend.running.filter(\.value.enabled).keys.sorted() == [0, 1])

    // Stop: disable, then ask for the bases, and start a second time.
    for index in 0..<4 { try frontEnd.send(.setVringEnable, FrontEnd.state(index, 0)) }
    for index in 0..<4 { _ = try frontEnd.ask(.getVringBase, FrontEnd.state(index, 0)) }
    #expect(backend.running.isEmpty)
    if hasStatus { #expect(try frontEnd.acknowledged(.setStatus, UInt64(0).bytes) == 0) }
    try frontEnd.send(.setFeatures, driver.rawValue.bytes)
    #expect(try frontEnd.acknowledged(.setMemTable, table.bytes, fds: files) == 0)
    try frontEnd.configure(0)
    try frontEnd.send(.setVringEnable, FrontEnd.state(0, 1))
    if hasStatus { #expect(try frontEnd.acknowledged(.setStatus, UInt64(15).bytes) == 0) }
    try frontEnd.settle()
    #expect(backend.running.keys.sorted() == [0])
    #expect(try frontEnd.close() == .frontEndClosed)
  }

  @Test func `E09, HP-07: features not offered are refused, by name`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.send(.setFeatures, Features([.version1, .netRSS]).rawValue.bytes)
    let error = try frontEnd.failure()
    #expect(error.kind == .refused)
    #expect(error.message == "SET_FEATURES: VIRTIO_NET_F_RSS not offered")
    #expect(!frontEnd.backend.calls.contains { if case .negotiated = $0 { true } else { false } })
  }

  @Test func `E09: protocol features not offered are refused`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.send(.setProtocolFeatures, UInt64(1 << 12).bytes)
    #expect(
      try frontEnd.failure().message
        == "SET_PROTOCOL_FEATURES: VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD not offered")
  }

  @Test func `E93, HP-07: on a live ring only LOG_ALL changes`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate()
    try frontEnd.setMemory()
    try frontEnd.configure(1, base: 3)
    try frontEnd.settle()
    _ = frontEnd.backend.takeCalls()
    let same: Features = [.version1, .vhostUserProtocol]
    #expect(try frontEnd.acknowledged(.setFeatures, same.rawValue.bytes) == 0)
    #expect(frontEnd.backend.takeCalls() == [], "the same features disturb nothing")
    #expect(
      try frontEnd.acknowledged(.setFeatures, same.union(.ringPacked).rawValue.bytes) == 1)
    #expect(frontEnd.backend.takeCalls() == [], "a refused change disturbs nothing")
    #expect(try frontEnd.acknowledged(.setFeatures, same.union(.logAll).rawValue.bytes) == 0)
    #expect(frontEnd.backend.running[1]?.features == same.union(.logAll))
    #expect(frontEnd.backend.running[1]?.base == 3)
    _ = try frontEnd.close()
  }

  @Test func `E70: protocol features are negotiated before features, or not at all`() throws {
    let frontEnd = try FrontEnd(FakeBackend(features: [.version1]))
    try frontEnd.send(.getProtocolFeatures)
    #expect(try frontEnd.failure().kind == .refused)
  }

  @Test func `E68, E69: need_reply counts only once REPLY_ACK is negotiated`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.send(.setOwner, needReply: true)
    // On the message that negotiates it there is nobody to answer yet.
    try frontEnd.send(
      .setProtocolFeatures, ProtocolFeatures.replyAck.rawValue.bytes, needReply: true)
    #expect(try frontEnd.acknowledged(.setOwner) == 0)
    // A message with a reply of its own gets that one alone.
    try frontEnd.send(.getFeatures, needReply: true)
    #expect(try frontEnd.reply()?.number == frontEnd.backend.features.rawValue)
    try frontEnd.send(.getVringBase, FrontEnd.state(0, 0), needReply: true)
    #expect(try frontEnd.reply()?.payload == FrontEnd.state(0, 0))
    try frontEnd.settle()
    _ = try frontEnd.close()
  }

  @Test func `names are the specifications'`() {
    let features: Features = [.netMrgRxbuf, .ringEventIdx, .vhostUserProtocol, .version1]
    #expect(
      features.names == [
        "VIRTIO_NET_F_MRG_RXBUF", "VIRTIO_RING_F_EVENT_IDX", "VHOST_USER_F_PROTOCOL_FEATURES",
        "VIRTIO_F_VERSION_1",
      ])
    #expect(Features(rawValue: 1 << 44).names == ["bit 44"])
    #expect(ProtocolFeatures.status.names == ["VHOST_USER_PROTOCOL_F_STATUS"])
    #expect(DeviceStatus(rawValue: 0x0F).names.last == "FEATURES_OK")
    #expect(Request.allCases.count == 43)
    #expect(Set(Request.allCases.map(\.name)).count == 43)
  }
}
