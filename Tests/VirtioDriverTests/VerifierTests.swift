import Testing

@testable import VirtioDriver

/// What checks a generator's frames must find everything that can be wrong with them.
@Suite struct VerifierTests {
  private let memory: GuestMemory
  private let buffer: GuestBuffer
  private let flow = Lane.Flow(to: .station(2), from: .station(1))
  private let verifier: Verifier

  init() throws {
    memory = try GuestMemory(length: 1 << 16)
    buffer = try #require(memory.allocate(4096))
    verifier = Verifier([.init(flows: [flow.front, flow.front], next: 0)], segmented: false)
  }

  /// Builds frame `number` of lane 0, in two pieces, and receives it, changed, in pieces of `step` bytes.
  private func pass(
    _ number: UInt64, length: Int = 100, step: Int = 4096, change: ([UInt8]) -> [UInt8] = { $0 }
  ) {
    let stamp = Verifier.stamp(lane: 0, sequence: number)
    buffer.write(FrontEndMessage.words(flow.front[0], flow.front[1], stamp))
    verifier.fill(
      buffer, [(offset: 0, length: 50), (offset: 2000, length: length - 50)], stamp: stamp,
      length: length)
    let frame = change(buffer.read(count: 50) + buffer.read(at: 2000, count: length - 50))
    verifier.receive(on: 0)
    var offset = 0
    while offset < frame.count {
      let header = [UInt8](repeating: 0xff, count: offset == 0 ? 12 : 0)
      var piece = header + frame[offset..<min(offset + step, frame.count)]
      unsafe piece.withUnsafeMutableBytes {
        guard let base = $0.baseAddress else { return }
        unsafe verifier.take(base, $0.count, header: header.count)
      }
      offset += step
    }
    verifier.finish()
  }

  @Test("Whole frames in order, in one piece or several")
  func whole() {
    for number in 0..<10 as Range<UInt64> { pass(number, step: number % 2 == 0 ? 4096 : 30) }
    #expect(verifier.findings == .init(whole: 10))
  }

  @Test("Any byte that differs", arguments: [0, 5, 6, 13, 16, 22, 24, 49, 50, 98, 99])
  func changed(byte: Int) {
    pass(0) { frame in
      var frame = frame
      frame[byte] ^= 0x10
      return frame
    }
    // A changed number may be that of a later frame: then the rest does not fit it.
    #expect(verifier.findings == .init(corrupt: 1))
  }

  @Test("A byte too few or too many")
  func length() {
    pass(0) { Array($0.dropLast()) }
    pass(1) { $0 + [0] }
    pass(2) { Array($0.prefix(20)) }
    #expect(verifier.findings == .init(corrupt: 3))
  }

  @Test("A frame again, and one after a later one of its flow")
  func order() {
    pass(0)
    pass(0)
    pass(4)
    pass(2)
    // The other flow.
    pass(1)
    #expect(verifier.findings == .init(whole: 3, disordered: 2))
  }
}
