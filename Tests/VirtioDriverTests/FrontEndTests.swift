import Linux
import Testing

@testable import VirtioDriver

private func attach(
  _ configure: (FakeBackend) -> Void = { _ in }
) throws -> (FrontEnd, FakeBackend) {
  let (ours, theirs) = try UnixSocket.pair()
  let backend = FakeBackend(theirs)
  configure(backend)
  try backend.start()
  return (FrontEnd(socket: ours), backend)
}

@Suite struct FrontEndTests {
  @Test("A port attaches with QEMU's messages in QEMU's order")
  func order() throws {
    let (frontEnd, backend) = try attach()
    let port = try GuestPort(frontEnd: frontEnd)
    try port.stop()
    port.disconnect()
    backend.join()
    let ring: [FrontEndRequest] = [
      .setVringNum, .setVringBase, .setVringAddr, .setVringKick, .setVringCall, .setVringEnable,
    ]
    #expect(
      backend.log.map(\.request) == [
        .getFeatures, .getProtocolFeatures, .setProtocolFeatures, .getQueueNum, .setOwner,
        .getFeatures, .setFeatures, .setMemTable,
      ] + ring + ring + [
        .setStatus, .getFeatures, .setVringEnable, .getVringBase, .setVringEnable, .getVringBase,
      ])
    let table = try #require(backend.log.first { $0.request == .setMemTable })
    #expect(table.descriptors == 1 && table.payload.count == 8 + 32)
    #expect(table.flags == 9)
    #expect(backend.log.filter { $0.request == .setVringKick }.allSatisfy { $0.descriptors == 1 })
  }

  @Test("Without protocol features nothing of them is sent")
  func plain() throws {
    let (frontEnd, backend) = try attach { $0.offered = [.version1] }
    let port = try GuestPort(frontEnd: frontEnd)
    #expect(port.features == [.version1])
    port.disconnect()
    backend.join()
    let sent = Set(backend.log.map(\.request))
    #expect(!sent.contains(.setVringEnable) && !sent.contains(.getProtocolFeatures))
    #expect(backend.log.allSatisfy { $0.flags == 1 })
  }

  @Test("A refusal, a missing reply and a closed connection are errors of their own")
  func errors() throws {
    let (frontEnd, backend) = try attach {
      $0.refuses[.netSetMTU] = 7
      $0.ignores = [.getMaxMemSlots]
    }
    try frontEnd.negotiate()
    #expect(throws: FrontEndError.refused(.netSetMTU, code: 7)) { try frontEnd.setMTU(9000) }
    frontEnd.timeout = 50
    #expect(throws: FrontEndError.timeout(.getMaxMemSlots)) { try frontEnd.maxMemorySlots() }
    let (other, second) = try attach()
    #expect(throws: FrontEndError.notOffered("9 queue pairs of 8")) {
      var options = GuestPort.Options()
      options.queuePairs = 9
      _ = try GuestPort(frontEnd: other, options: options)
    }
    other.close()
    second.join()
    frontEnd.close()
    backend.join()
    #expect(throws: FrontEndError.closed) { try frontEnd.setMTU(9000) }
    #expect(frontEnd.isClosed())
  }

  @Test("Payloads are what the specification says")
  func payloads() throws {
    let (frontEnd, backend) = try attach()
    try frontEnd.negotiate()
    let memory = try GuestMemory([
      .init(guestAddress: 0, length: 8192, userAddress: 0x7000),
      .init(guestAddress: 4 << 30, length: 4096, userAddress: 0x9000, fileOffset: 4096),
    ])
    try frontEnd.shareMemory(memory)
    try frontEnd.addRegion(memory.regions[1])
    try frontEnd.removeRegion(memory.regions[1])
    try frontEnd.setRingKick(3, nil)
    try frontEnd.sendRARP(EthernetAddress(0x0102_0304_0506))
    frontEnd.close()
    backend.join()
    func payload(_ request: FrontEndRequest) -> [UInt8] {
      backend.log.last { $0.request == request }!.payload
    }
    let second = FrontEndMessage.words(4 << 30 as UInt64, 4096, 0x9000, 4096)
    #expect(
      payload(.setMemTable)
        == [2, 0, 0, 0, 0, 0, 0, 0] + FrontEndMessage.words(0 as UInt64, 8192, 0x7000, 0) + second)
    #expect(payload(.addMemReg) == [0, 0, 0, 0, 0, 0, 0, 0] + second)
    #expect(payload(.remMemReg) == payload(.addMemReg))
    #expect(payload(.setVringKick) == [3, 1, 0, 0, 0, 0, 0, 0])
    #expect(payload(.sendRARP) == [1, 2, 3, 4, 5, 6, 0, 0])
    #expect(memory.userAddress(of: 4 << 30 + 5) == 0x9005)
    #expect(memory.userAddress(of: 8192) == nil && memory.buffer(at: 8000, length: 193) == nil)
  }

  @Test("Connecting waits for a listener, and listening for a back-end")
  func paths() throws {
    let path = "/tmp/virtio-driver-test-\(UInt32.random(in: 0 ... .max)).sock"
    let late = try Thread(name: "late") {
      _ = try? Poller.wait([], milliseconds: 30)
      guard let listener = try? UnixListener(path: path) else { return }
      _ = try? FrontEnd.accept(on: listener)
    }
    _ = try FrontEnd.connect(path: path)
    late.join()
    #expect(throws: FrontEndError.self) {
      try FrontEnd.connect(path: path + "x", milliseconds: 5)
    }
  }
}
