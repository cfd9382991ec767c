import Testing

@testable import Dataplane

/// What makes a flow: the same number for all its frames, in both directions, however they are wrapped.
@Suite struct FlowHashTests {
  /// One end of a flow.
  struct End: Sendable {
    var station: UInt8
    var port: UInt16
  }

  /// A packet's form: everything but its ends.
  struct Form: Sendable, CustomTestStringConvertible {
    var isIPv6 = false
    var next: UInt8 = 6
    var tags: [UInt16] = []
    /// Bytes of IPv4 options.
    var options = 0
    /// Flags and offset of IPv4.
    var fragment: UInt16 = 0
    /// Extension headers of IPv6: number and bytes.
    var extensions: [(number: UInt8, length: Int)] = []

    var testDescription: String {
      "\(isIPv6 ? "IPv6" : "IPv4") \(next) \(tags) \(options) \(fragment) \(extensions)"
    }

    /// A frame of 40 bytes behind the headers, which begin with ports.
    func frame(_ from: End, _ to: End, vary: UInt8 = 0) -> [UInt8] {
      var bytes: [UInt8] = [2, 0, 0, 0, 0, to.station, 2, 0, 0, 0, 0, from.station]
      for tag in tags { bytes += big(tag) + big(100 + UInt16(vary)) }
      bytes += big(isIPv6 ? 0x86DD : 0x0800)
      if isIPv6 {
        let first = extensions.first?.number ?? next
        bytes += [0x60, 0, vary, vary, 0, 40, first, 64 - vary]
        for end in [from, to] {
          bytes += [0xFD, 0, 0, 1] + [UInt8](repeating: 0, count: 11) + [end.station]
        }
        for (index, header) in extensions.enumerated() {
          let following = index + 1 < extensions.count ? extensions[index + 1].number : next
          bytes += [following, UInt8(header.length / 8 - 1)]
          bytes += [UInt8](repeating: vary, count: header.length - 2)
        }
      } else {
        bytes += [0x45 + UInt8(options / 4), vary, 0, 60, vary, 1]
        bytes += big(fragment) + [64 - vary, next, vary, vary]
        for end in [from, to] { bytes += [10, 0, 0, end.station] }
        bytes += [UInt8](repeating: vary, count: options)
      }
      bytes += big(from.port) + big(to.port)
      return bytes + [UInt8](repeating: vary, count: 36)
    }

    private func big(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }
  }

  static let forms = [
    Form(), Form(next: 17), Form(options: 4), Form(next: 17, options: 40),
    Form(tags: [0x8100]), Form(tags: [0x88A8, 0x8100], options: 8),
    Form(isIPv6: true), Form(isIPv6: true, next: 17, tags: [0x8100]),
    Form(isIPv6: true, extensions: [(0, 8)]),
    Form(
      isIPv6: true, next: 17, tags: [0x88A8, 0x8100], extensions: [(0, 8), (43, 24), (60, 16)]),
  ]

  /// Packets whose ports are none, or are not looked for: these are told apart by their addresses alone.
  static let portless = [
    Form(next: 1), Form(next: 47), Form(fragment: 0x2000), Form(next: 17, fragment: 0x0001),
    Form(isIPv6: true, next: 58), Form(isIPv6: true, extensions: [(44, 8)]),
    Form(isIPv6: true, extensions: [(50, 8)]),
    Form(isIPv6: true, extensions: [(0, 8), (60, 8), (60, 8), (60, 8), (60, 8)]),
  ]

  private let bench: Bench
  private let scratch = UnsafeMutableRawPointer.allocate(byteCount: FlowHash.reach, alignment: 64)

  init() throws { bench = try Bench() }

  /// The hash of a frame in one piece; `behind` is what lies behind its end.
  private func hash(_ bytes: [UInt8], behind: UInt8 = 0, key: UInt64 = 7) -> FlowHash {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes.count + 128, alignment: 64)
    defer { memory.deallocate() }
    memory.initializeMemory(as: UInt8.self, repeating: behind, count: bytes.count + 128)
    bytes.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
    bench.hold(bytes, at: 0)
    bench.burst.addresses[0] = UInt(bitPattern: memory)
    return FlowHash(bench.burst, 0, key: key, scratch: scratch)
  }

  /// The hash of a frame that is cut in two.
  private func hash(_ bytes: [UInt8], cut: Int) -> FlowHash {
    bench.hold(bytes, at: 0)
    let base = UnsafeMutableRawPointer(bitPattern: bench.burst.addresses[0])!
    bench.burst.addresses[0] = 0
    bench.burst.pieces[5] = Piece(base, UInt32(cut))
    bench.burst.pieces[6] = Piece(base + cut, UInt32(bytes.count - cut))
    bench.burst.extents[0] = .init(first: 5, count: 2)
    return FlowHash(bench.burst, 0, key: 7, scratch: scratch)
  }

  private let here = End(station: 1, port: 40_000)
  private let there = End(station: 2, port: 443)

  @Test(
    "Both directions of a flow are one flow, and what changes from frame to frame is no part of it (E35)",
    arguments: forms + portless)
  func symmetric(_ form: Form) {
    let flow = hash(form.frame(here, there))
    #expect(hash(form.frame(there, here)) == flow)
    #expect(hash(form.frame(here, there, vary: 3)) == flow)
    #expect(hash(form.frame(here, there), key: 8) != flow)
  }

  @Test("Another port at either end is another flow", arguments: forms)
  func ports(_ form: Form) {
    let flow = hash(form.frame(here, there))
    for port in [UInt16(40_001), 39_999, 0, 443] {
      #expect(hash(form.frame(End(station: 1, port: port), there)) != flow)
    }
    #expect(hash(form.frame(here, End(station: 2, port: 444))) != flow)
    #expect(hash(form.frame(here, End(station: 3, port: 443))) != flow)
    // The ports at the other two ends.
    #expect(hash(form.frame(End(station: 1, port: 443), End(station: 2, port: 40_000))) != flow)
  }

  @Test(
    "What has no ports, or not in each of its fragments, goes by its addresses", arguments: portless
  )
  func addresses(_ form: Form) {
    let flow = hash(form.frame(here, there))
    #expect(hash(form.frame(End(station: 1, port: 1), End(station: 2, port: 2))) == flow)
    #expect(hash(form.frame(End(station: 3, port: 40_000), there)) != flow)
  }

  @Test("A tag, options and extension headers do not make another flow")
  func wrapping() {
    let four = hash(Form().frame(here, there))
    #expect(hash(Form(tags: [0x8100]).frame(here, there)) == four)
    #expect(hash(Form(options: 20).frame(here, there)) == four)
    #expect(hash(Form(next: 17).frame(here, there)) != four)
    let six = hash(Form(isIPv6: true).frame(here, there))
    #expect(hash(Form(isIPv6: true, extensions: [(60, 32)]).frame(here, there)) == six)
    #expect(six != four)
  }

  @Test("However a frame is cut, its flow is the same", arguments: forms)
  func pieces(_ form: Form) {
    let bytes = form.frame(here, there)
    let whole = hash(bytes)
    for cut in 1..<bytes.count { #expect(hash(bytes, cut: cut) == whole, "cut at \(cut)") }
  }

  @Test(
    "A frame that ends early, or lies about its lengths: nothing behind its end is looked at",
    arguments: forms)
  func short(_ form: Form) {
    let bytes = form.frame(here, there)
    for length in 16...bytes.count {
      let front = Array(bytes.prefix(length))
      #expect(hash(front, behind: 0x11) == hash(front, behind: 0xEE), "\(length) bytes")
      if length > 16 { #expect(hash(front, cut: 8) == hash(front)) }
    }
    // The lengths of headers that are nowhere near what they say.
    var lying = bytes
    let at = 14 + 4 * form.tags.count
    for value in [UInt8(0x40), 0x4F, 0xFF] {
      lying[at] = value
      if form.isIPv6 { lying[at + 41] = value }
      #expect(hash(lying, behind: 0x11) == hash(lying, behind: 0xEE))
    }
  }

  @Test("Frames that are not IP go by their stations; frames of 14 bytes too")
  func stations() {
    let one = frame(length: 60)
    let back = frame(to: [2, 0, 0, 0, 0, 1], from: [2, 0, 0, 0, 0, 2], length: 200, seed: 9)
    #expect(hash(one) == hash(back))
    #expect(hash(frame(from: [2, 0, 0, 0, 0, 9])) != hash(one))
    #expect(hash(Array(one.prefix(14)), cut: 6) == hash(one))
    for type: [UInt8] in [[0x08, 0], [0x86, 0xDD], [0x81, 0]] {
      let stub = Array(one.prefix(12)) + type
      #expect(hash(stub, cut: 13) == hash(one))
    }
  }

  @Test("A thousand flows spread over eight queues")
  func spread() {
    var counts = [Int](repeating: 0, count: 8)
    for port in 0..<1000 {
      let flow = hash(Form().frame(End(station: 1, port: UInt16(30_000 + port)), there))
      counts[Int(flow.word.multipliedFullWidth(by: 8).high)] += 1
    }
    #expect(counts.allSatisfy { (75...175).contains($0) }, "\(counts)")
  }

  @Test("Flows differ and spread with every key", arguments: KeyedHashTests.secrets)
  func keys(_ key: UInt64) {
    var counts = [Int](repeating: 0, count: 8)
    var words: Set<UInt32> = []
    for port in 0..<1000 {
      let word = FlowHash(UInt64(1 << 16 | port), 2 << 16 | 443, kind: 6, key: key).word
      counts[Int(word.multipliedFullWidth(by: 8).high)] += 1
      words.insert(word)
    }
    #expect(words.count > 995)
    #expect(counts.allSatisfy { (60...200).contains($0) }, "\(counts)")
  }
}
