import CLinux
import Glibc
import Linux
import Testing

@testable import Dataplane

/// Frames that begin with other bytes than their sender's, in every kind of queue, and headers that were judged.
@Suite struct FrontTests {
  /// What is dropped from a frame's beginning, and what is put there.
  struct Rewriting: CustomStringConvertible, Sendable {
    var name: String
    var dropped: Int
    var put: [UInt8]

    var description: String { name }

    func applied(to frame: [UInt8]) -> [UInt8] { put + frame.dropFirst(dropped) }
  }

  static let addresses: [UInt8] = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8]
  static let rewritings = [
    Rewriting(name: "tag pushed", dropped: 12, put: addresses + [0x81, 0, 0, 10]),
    Rewriting(
      name: "two tags pushed", dropped: 12, put: addresses + [0x88, 0xA8, 0, 7, 0x81, 0, 0, 10]),
    Rewriting(name: "tag popped", dropped: 16, put: addresses),
    Rewriting(name: "addresses changed", dropped: 12, put: addresses),
    Rewriting(name: "a byte more", dropped: 0, put: [7]),
    Rewriting(name: "a byte less", dropped: 1, put: []),
    Rewriting(name: "tunnel header put", dropped: 0, put: (0..<50).map { UInt8($0) + 1 }),
    Rewriting(name: "tunnel header of IPv6 put", dropped: 0, put: (0..<128).map { UInt8($0) + 1 }),
    Rewriting(name: "tunnel header dropped", dropped: 50, put: []),
    Rewriting(name: "more dropped than is judged, and replaced", dropped: 40, put: addresses),
    Rewriting(name: "nothing", dropped: 0, put: []),
  ]

  /// How the frame lies in its sender's memory.
  enum Source: CaseIterable, Sendable {
    /// Behind its virtio-net header, in one buffer.
    case plain
    /// In one piece, which nothing lies before.
    case apart
    /// In pieces that are cut everywhere.
    case pieces
  }

  /// Where it goes.
  enum Target: CaseIterable, Sendable {
    case split, splitSmall, packed, packedSmall, tap
  }

  /// Takes `bytes` from a split ring, as a worker does.
  private func take(_ bench: Bench, _ bytes: [UInt8], _ source: Source) throws {
    let memory = try RingMemory(size: 32)
    var queue = try bench.queue(memory)
    let header = [UInt8](repeating: 0, count: 12)
    switch source {
    case .plain: memory.send(bytes)
    case .apart:
      let place = memory.allocate(bytes.count)
      memory.write(bytes, at: place)
      let other = memory.allocate(12)
      memory.write(header, at: other)
      memory.describe(0, address: memory.address(other), length: 12, flags: 1, next: 1)
      memory.describe(1, address: memory.address(place), length: UInt32(bytes.count))
      memory.offer(0)
    case .pieces:
      var rest = header + bytes
      var index = 0
      for length in [5, 10, 1, 3, 20, 9, 100, 100_000] where !rest.isEmpty {
        let part = Array(rest.prefix(length))
        rest.removeFirst(part.count)
        let place = memory.allocate(part.count)
        memory.write(part, at: place)
        memory.describe(
          index, address: memory.address(place), length: UInt32(part.count),
          flags: rest.isEmpty ? 0 : 1, next: UInt16(index + 1))
        index += 1
      }
      memory.offer(0)
    }
    #expect(bench.gather(&queue).frames == 1)
    held.all.append(memory)
  }

  /// Guests' memory, kept as long as the test.
  private final class Held { var all: [AnyObject] = [] }
  private let held = Held()

  /// Delivers frame 0 of the burst, and returns the bytes that came, without the virtio-net header.
  private func deliver(_ bench: Bench, _ target: Target) throws -> [UInt8] {
    switch target {
    case .split, .splitSmall:
      let memory = try RingMemory(size: 32)
      let size = target == .split ? 4096 : 90
      let places = (0..<20).map { index in
        let place = memory.allocate(size)
        memory.describe(
          index, address: memory.address(place), length: UInt32(size), flags: 2)
        memory.offer(UInt16(index))
        return place
      }
      var queue = try bench.queue(memory)
      let delivered = bench.deliver(&queue)
      queue.publish()
      #expect(delivered.frames == 1)
      let bytes = (0..<Int(memory.usedIndex)).flatMap {
        memory.read(places[$0], Int(memory.usedEntry($0).length))
      }
      return Array(bytes.dropFirst(12))
    case .packed, .packedSmall:
      let driver = try PackedDriver(size: 32)
      var queue = try bench.queue(driver, isTransmitq: false)
      let size = target == .packed ? 4096 : 90
      let parts = (0..<20).map { index in
        let part = PackedDriver.Part(
          offset: driver.memory.allocate(size), length: size, writable: true)
        driver.offer([part], id: UInt16(index))
        return part
      }
      #expect(bench.deliver(&queue).frames == 1)
      queue.publish()
      var bytes: [UInt8] = []
      var index = 0
      while let used = driver.used {
        bytes += driver.memory.read(parts[index].offset, Int(used.length))
        driver.pass(1)
        index += 1
      }
      return Array(bytes.dropFirst(12))
    case .tap:
      var both: [CInt] = [-1, -1]
      let kind = CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
      try SystemError.check(socketpair(AF_UNIX, kind, 0, &both), "socketpair")
      let ends = both.map { OwnedFD(taking: $0) }
      let queue = TapQueue(
        descriptor: ends[0].raw, headerSize: 12, offloads: .tcp, state: bench.state)
      #expect(queue.deliver(bench.burst, bench.burst.natural, 1, limit: 65_550).frames == 1)
      var buffer = [UInt8](repeating: 0, count: 70_000)
      let count = recv(ends[1].raw, &buffer, buffer.count, 0)
      return count < 12 ? [] : Array(buffer[12..<count])
    }
  }

  private func rewrite(_ bench: Bench, _ rewriting: Rewriting) -> Bool {
    bench.burst.beginMarking(1)
    return rewriting.put.withUnsafeBytes { bytes in
      // An empty array has no address.
      withUnsafeTemporaryAllocation(byteCount: 1, alignment: 1) { none in
        bench.burst.rewrite(
          0, dropping: rewriting.dropped,
          putting: bytes.baseAddress ?? UnsafeRawPointer(none.baseAddress!),
          count: rewriting.put.count)
      }
    }
  }

  @Test(
    "Bytes dropped from a frame and put in front of it arrive so, whatever it came in and goes to; restored, it is its sender's again",
    arguments: rewritings, Source.allCases)
  func rewritten(_ rewriting: Rewriting, _ source: Source) throws {
    for length in [80, 300, 1514] {
      for target in Target.allCases {
        let bench = try Bench()
        let bytes = frame(length: length)
        try take(bench, bytes, source)
        let natural = bench.burst.addresses[0]
        #expect(rewrite(bench, rewriting))
        let expected = rewriting.applied(to: bytes)
        #expect(Int(bench.burst.lengths[0]) == expected.count)
        #expect(try deliver(bench, target) == expected, "\(length) to \(target)")
        // Another receiver may get the other form.
        bench.burst.restore(1)
        #expect(bench.burst.special.marked == 0)
        #expect(bench.burst.addresses[0] == natural)
        #expect(try deliver(bench, target) == bytes, "\(length) to \(target), restored")
      }
    }
  }

  @Test(
    "A frame may be rewritten again, and is restored to what it was at first",
    arguments: Source.allCases)
  func twice(_ source: Source) throws {
    for first in Self.rewritings {
      for second in Self.rewritings {
        let bench = try Bench()
        let bytes = frame(length: 400)
        try take(bench, bytes, source)
        // What there is no headroom for is refused, and changes nothing.
        guard rewrite(bench, first) else {
          Issue.record("\(first)")
          continue
        }
        let once = first.applied(to: bytes)
        let isDone = rewrite(bench, second)
        #expect(
          isDone || first.put.count + second.put.count > Front.headroom, "\(first), \(second)")
        let expected = isDone ? second.applied(to: once) : once
        #expect(try deliver(bench, .packedSmall) == expected, "\(first), then \(second)")
        #expect(try deliver(bench, .split) == expected, "\(first), then \(second)")
        bench.burst.restore(1)
        #expect(try deliver(bench, .tap) == bytes)
      }
    }
  }

  @Test("A plain frame that is tagged stays one that is copied as plain ones are")
  func staysPlain() throws {
    let bench = try Bench()
    try take(bench, frame(length: 200), .plain)
    for rewriting in Self.rewritings.prefix(4) {
      #expect(rewrite(bench, rewriting))
      #expect(bench.burst.addresses[0] != 0, "\(rewriting)")
      bench.burst.restore(1)
    }
    // One that nothing lies before has no room for a tag there: it might be the first byte of a mapping.
    try take(bench, frame(length: 200), .apart)
    #expect(rewrite(bench, Self.rewritings[0]))
    #expect(bench.burst.addresses[0] == 0)
  }

  @Test(
    "What would leave no frame is refused, and the frame is as it was", arguments: Source.allCases)
  func refused(_ source: Source) throws {
    let bench = try Bench()
    let bytes = frame(length: 64)
    for (dropped, put) in [(60, 4), (64, 0), (65, 20), (0, 200), (0, 65_500)] {
      try take(bench, bytes, source)
      let rewriting = Rewriting(
        name: "", dropped: dropped, put: [UInt8](repeating: 1, count: put))
      #expect(!rewrite(bench, rewriting), "\(dropped), \(put)")
      #expect(bench.burst.special.marked == 0)
      #expect(try deliver(bench, .split) == bytes)
    }
  }

  // ---- Headers that were judged ----

  /// TCP over IPv4 or IPv6 with a payload, whose sender asks for segments of 100 bytes.
  private static func segmented(isIPv6: Bool) -> (frame: [UInt8], header: [UInt8], front: Int) {
    let payload = 900
    let ip: [UInt8] =
      isIPv6
      ? [0x60, 0, 0, 0, UInt8((20 + payload) >> 8), UInt8((20 + payload) & 255), 6, 64]
        + [UInt8](repeating: 0xFE, count: 16) + [UInt8](repeating: 0xFD, count: 16)
      : [
        0x45, 0, UInt8((40 + payload) >> 8), UInt8((40 + payload) & 255), 0, 1, 0x40, 0, 64, 6, 0,
        0,
      ]
        + [10, 0, 0, 1, 10, 0, 0, 2]
    let tcp: [UInt8] = [4, 1, 4, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0x12, 0x34, 0, 0]
    let front = 14 + ip.count + tcp.count
    let frame =
      [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1] + (isIPv6 ? [0x86, 0xDD] : [8, 0]) + ip + tcp
      + (0..<payload).map { UInt8(truncatingIfNeeded: $0) }
    let header: [UInt8] =
      [1, isIPv6 ? 4 : 1, UInt8(front), 0, 100, 0, UInt8(14 + ip.count), 0, 16, 0, 0, 0]
    return (frame, header, front)
  }

  @Test(
    "HG-13: of a frame that asks for segments and passes whole, the headers that were judged are delivered, whatever its sender writes there meanwhile",
    arguments: [false, true], [Target.split, .packed, .tap])
  func judgedHeaders(_ isIPv6: Bool, _ target: Target) throws {
    let bench = try Bench()
    let memory = try RingMemory(size: 32)
    held.all.append(memory)
    var setup = memory.setup()
    setup.offloads = .all
    let (bytes, header, front) = Self.segmented(isIPv6: isIPv6)
    var queue = try bench.queue(memory, setup)
    let place = memory.send(bytes, header: header)
    var gathered = queue.gather(bench.burst)
    #expect(gathered.frames == 1)
    let judged = bench.burst.judge(&gathered, headerSize: 12, allowed: .all, bench.counters)
    #expect(judged.bytes == bytes.count && gathered.dropped == 0)
    // Now it is another version, another protocol, and no header at all.
    memory.write([UInt8](repeating: 0x5A, count: 12 + front), at: place)
    let (received, delivered) = try deliverWhole(bench, target)
    #expect(Array(delivered.prefix(front)) == Array(bytes.prefix(front)))
    #expect(delivered == bytes)
    #expect(Array(received.prefix(10)) == Array(header.prefix(10)))
  }

  /// As `deliver`, to a receiver that takes over everything; with the virtio-net header.
  private func deliverWhole(
    _ bench: Bench, _ target: Target
  ) throws -> (header: [UInt8], frame: [UInt8]) {
    var bytes: [UInt8] = []
    if target == .tap {
      var both: [CInt] = [-1, -1]
      let kind = CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
      try SystemError.check(socketpair(AF_UNIX, kind, 0, &both), "socketpair")
      let ends = both.map { OwnedFD(taking: $0) }
      let queue = TapQueue(
        descriptor: ends[0].raw, headerSize: 12, offloads: .all, state: bench.state)
      #expect(queue.deliver(bench.burst, bench.burst.natural, 1, limit: 65_550).frames == 1)
      bytes = [UInt8](repeating: 0, count: 4096)
      bytes.removeLast(4096 - max(0, recv(ends[1].raw, &bytes, bytes.count, 0)))
    } else if target == .split {
      let memory = try RingMemory(size: 8)
      let place = memory.allocate(4096)
      memory.describe(0, address: memory.address(place), length: 4096, flags: 2)
      memory.offer(0)
      var setup = memory.setup()
      setup.offloads = .all
      var queue = try bench.queue(memory, setup)
      #expect(bench.deliver(&queue).frames == 1)
      queue.publish()
      bytes = memory.read(place, Int(memory.usedEntry(0).length))
    } else {
      let driver = try PackedDriver(size: 8)
      var setup = driver.setup()
      setup.offloads = .all
      var queue = try bench.queue(driver, setup, isTransmitq: false)
      let part = PackedDriver.Part(
        offset: driver.memory.allocate(4096), length: 4096, writable: true)
      driver.offer([part], id: 1)
      #expect(bench.deliver(&queue).frames == 1)
      queue.publish()
      bytes = driver.memory.read(part.offset, Int(driver.used?.length ?? 0))
    }
    return (Array(bytes.prefix(12)), Array(bytes.dropFirst(12)))
  }

  @Test(
    "A tag that is pushed moves what a frame asks for, whole and in segments",
    arguments: [false, true])
  func offloadsMove(_ isIPv6: Bool) throws {
    let bench = try Bench()
    let memory = try RingMemory(size: 32)
    held.all.append(memory)
    var setup = memory.setup()
    setup.offloads = .all
    let (bytes, header, front) = Self.segmented(isIPv6: isIPv6)
    var queue = try bench.queue(memory, setup)
    memory.send(bytes, header: header)
    var gathered = queue.gather(bench.burst)
    _ = bench.burst.judge(&gathered, headerSize: 12, allowed: .all, bench.counters)
    let tag = Rewriting(
      name: "tag", dropped: 12, put: Array(bytes.prefix(12)) + [0x81, 0, 0, 10])
    #expect(rewrite(bench, tag))
    let tagged = tag.applied(to: bytes)
    let (received, delivered) = try deliverWhole(bench, .split)
    #expect(delivered == tagged)
    #expect(received[2] == UInt8(front + 4) && received[6] == header[6] + 4 && received[8] == 16)
    // Nine segments of 100 bytes, each with the tag.
    var segments = try #require(Segmenter(bench.burst, 0))
    #expect(segments.count == 9)
    while segments.next() {
      #expect(bench.burst.lengths[Burst.size] == UInt32(front + 4 + 100))
      let (base, length, skipped) = bench.burst.front(of: Burst.size)
      #expect(length == front + 4 && skipped == 0)
      #expect((12..<16).map { base.load(fromByteOffset: $0, as: UInt8.self) } == [0x81, 0, 0, 10])
    }
    bench.burst.restore(1)
    #expect(try deliverWhole(bench, .packed).frame == bytes)
    #expect(try deliverWhole(bench, .packed).header.prefix(10) == header.prefix(10))
    // What is asked for may not lie in what is dropped.
    #expect(!rewrite(bench, Rewriting(name: "", dropped: front, put: [])))
    #expect(try deliverWhole(bench, .packed).frame == bytes)
  }
}
