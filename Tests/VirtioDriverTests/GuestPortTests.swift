import Linux
import Testing

@testable import VirtioDriver

private func attach(
  _ options: GuestPort.Options = .init(), _ configure: (FakeBackend) -> Void = { _ in }
) throws -> (GuestPort, FakeBackend) {
  let (ours, theirs) = try UnixSocket.pair()
  let backend = FakeBackend(theirs)
  configure(backend)
  try backend.start()
  return (try GuestPort(socket: ours, options: options), backend)
}

@Suite struct GuestPortTests {
  private static let a = EthernetAddress.station(1)
  private static let b = EthernetAddress.station(2)

  static let shapes: [(String, VirtioFeatures, QueuePair.TransmitLayout, [UInt64])] = [
    ("mergeable", .usual, .init(), [0]),
    ("chained", .usual, .init(pieces: 4), [0, 4 << 30]),
    ("indirect", .usual, .init(pieces: 3, indirect: true), [0, 1 << 30, 4 << 30]),
    ("not mergeable", [.version1, .protocolFeatures], .init(pieces: 2), [0]),
    ("legacy", [.protocolFeatures], .init(pieces: 2), [0]),
    ("in order", .usual.union(.inOrder), .init(pieces: 3), [0]),
    ("packed", .usual.union(.ringPacked), .init(), [0]),
    ("packed, chained", .usual.union(.ringPacked), .init(pieces: 4), [0, 4 << 30]),
    ("packed, indirect", .usual.union(.ringPacked), .init(pieces: 3, indirect: true), [0]),
    ("packed, in order", .usual.union([.ringPacked, .inOrder]), .init(pieces: 2), [0]),
  ]

  @Test("Frames of every length come back whole and in order", arguments: shapes)
  func echo(
    _ shape: (name: String, features: VirtioFeatures, layout: QueuePair.TransmitLayout, [UInt64])
  ) throws {
    var options = GuestPort.Options()
    options.features = shape.features
    options.transmitLayout = shape.layout
    options.regionAddresses = shape.3
    // A packed ring's size need not be a power of two (2.8).
    options.ringSize = shape.features.contains(.ringPacked) ? 61 : 64
    options.queuePairs = 2
    if shape.features.contains(.mrgRxbuf) { options.receiveBufferLength = 300 }
    let (port, backend) = try attach(options)
    var checkers = [SequenceChecker(), SequenceChecker()]
    for sequence in 0..<600 as Range<UInt64> {
      for queue in 0..<2 {
        let frame = TestFrame.make(
          to: Self.b, from: Self.a, stream: UInt32(queue), sequence: sequence,
          length: TestFrame.minLength + Int(sequence) * 2)
        #expect(try port.send(frame, queue: queue, milliseconds: 20_000))
      }
      if sequence % 4 == 3 {
        for queue in 0..<2 {
          for _ in 0..<4 {
            checkers[queue].accept(
              try #require(try port.receive(queue: queue, milliseconds: 20_000)))
          }
        }
      }
    }
    #expect(checkers.allSatisfy { $0.isClean && $0.received == 600 })
    #expect(port.offences == [])
    #expect(port.statistics.sentFrames == 1200 && port.statistics.receivedFrames == 1200)
    #expect(port.statistics.sentBytes == port.statistics.receivedBytes)
    port.disconnect()
    backend.join()
  }

  @Test(
    "Receive buffers of several descriptors are filled and come back, merged or not",
    arguments: [VirtioFeatures(), .mrgRxbuf], [VirtioFeatures(), .ringPacked])
  func chainedReceiveBuffers(merging: VirtioFeatures, ring: VirtioFeatures) throws {
    var options = GuestPort.Options()
    options.features = VirtioFeatures([.version1, .protocolFeatures, .indirectDesc])
      .union(merging).union(ring)
    options.ringSize = 32
    options.receiveBufferLength = merging == [] ? 12 + 9000 : 700
    options.transmitBufferLength = 12 + 9000
    for layout in [
      QueuePair.TransmitLayout(pieces: 5), .init(pieces: 19, indirect: true),
      .init(pieces: 1, indirect: true),
    ] {
      options.receiveLayout = layout
      let (port, backend) = try attach(options)
      for sequence in 0..<64 as Range<UInt64> {
        let frame = TestFrame.make(
          to: Self.b, from: Self.a, sequence: sequence, length: 60 + Int(sequence) * 40)
        #expect(port.send(frame))
        #expect(try port.receive(milliseconds: 2000) == frame)
      }
      #expect(port.offences == [])
      port.disconnect()
      backend.join()
    }
  }

  @Test("A transmitq that nobody serves fills up")
  func full() throws {
    var options = GuestPort.Options()
    options.ringSize = 16
    let (port, backend) = try attach(options) { $0.echoes = false }
    let frame = EthernetFrame.make(to: Self.b, from: Self.a, length: 60)
    for _ in 0..<16 { #expect(port.send(frame)) }
    #expect(!port.send(frame))
    #expect(try !port.send(frame, milliseconds: 5))
    #expect(try port.receive(milliseconds: 5) == nil)
    port.disconnect()
    backend.join()
  }

  @Test(
    "Rings go on where they stopped, and after a back-end was lost (E24, E79, E80)",
    arguments: [VirtioFeatures(), .ringPacked, .inOrder, [.ringPacked, .inOrder]])
  func restart(_ layout: VirtioFeatures) throws {
    var options = GuestPort.Options()
    options.features = .usual.union(layout)
    let (port, backend) = try attach(options)
    var checker = SequenceChecker()
    func pass(_ range: Range<UInt64>) throws {
      for sequence in range {
        #expect(port.send(TestFrame.make(to: Self.b, from: Self.a, sequence: sequence)))
        checker.accept(try #require(try port.receive(milliseconds: 20_000)))
      }
    }
    try pass(0..<300)
    try port.stop()
    // 300 descriptors of 256: the second lap, whose wrap counter is 0.
    let base: UInt32 = layout.contains(.ringPacked) ? 44 | 44 << 16 : 300
    #expect(port.bases == [base, base])
    try port.restart()
    try pass(300..<500)
    port.disconnect()
    backend.join()
    let (ours, theirs) = try UnixSocket.pair()
    let second = FakeBackend(theirs)
    try second.start()
    try port.reconnect(FrontEnd(socket: ours))
    try pass(500..<600)
    #expect(checker.isClean && checker.received == 600)
    #expect(port.offences == [])
    port.disconnect()
    second.join()
  }

  @Test("Test frames tell truncation, change, loss and reordering")
  func checker() {
    let frames = (0..<5 as Range<UInt64>).map {
      TestFrame.make(to: Self.b, from: Self.a, stream: 9, sequence: $0, length: 200, vlan: 5)
    }
    #expect(TestFrame.verify(frames[3]) == .init(stream: 9, sequence: 3))
    #expect(TestFrame.verify(Array(frames[3].dropLast())) == nil)
    for index in frames[3].indices where index != 12 && index != 13 {
      var damaged = frames[3]
      damaged[index] ^= 0x10
      #expect(TestFrame.verify(damaged) == nil)
    }
    var checker = SequenceChecker()
    for index in [0, 1, 3, 2, 4] { checker.accept(frames[index]) }
    #expect(checker.missing == 1 && checker.reordered == 1 && checker.received == 5)
    let short = TestFrame.make(to: Self.b, from: Self.a, sequence: 1, length: 42)
    #expect(TestFrame.verify(short + [UInt8](repeating: 0, count: 18)) != nil)
    #expect(Self.a.description == "02:00:00:00:00:01")
  }
}
