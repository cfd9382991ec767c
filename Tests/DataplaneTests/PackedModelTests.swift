import Linux
import Testing

@testable import Dataplane

/// Two packed rings with a naive driver each: random chains go in, the queues move the frames from one to the
/// other, and what comes out is held against plain arithmetic.
@Suite struct PackedModelTests {
  struct Sent {
    var id: UInt16
    var slots: Int
    var frame: [UInt8]
  }

  struct Posted {
    var id: UInt16
    var parts: [PackedDriver.Part]
    var slots: Int
    var room: Int { parts.reduce(0) { $0 + $1.length } }
  }

  @Test(
    "2.8: chains of every shape, bursts of every length, many laps of rings of odd sizes",
    arguments: [(1, 3), (3, 1), (4, 4), (7, 13), (16, 8), (61, 100), (128, 61)], [false, true])
  func model(sizes: (Int, Int), inOrder: Bool) throws {
    var random = SplitMix(state: UInt64(sizes.0 * 1000 + sizes.1))
    let source = try PackedDriver(size: sizes.0, start: sizes.0 - 1, bytes: 1 << 23)
    let sink = try PackedDriver(size: sizes.1, start: sizes.1, bytes: 1 << 23)
    let bench = try Bench()
    let other = try Bench()
    var transmitq = try bench.queue(source, source.setup(inOrder: inOrder))
    var receiveq = try other.queue(sink, sink.setup(inOrder: inOrder), isTransmitq: false)
    var sent: [Sent] = []
    var posted: [Posted] = []
    var received = 0
    var expected = 0
    for round in 0..<500 {
      while let chain = offer(source, sent.reduce(0) { $0 + $1.slots }, round, &random) {
        sent.append(chain)
      }
      while let chain = post(sink, posted.reduce(0) { $0 + $1.slots }, &random) {
        posted.append(chain)
      }
      let (frames, _) = bench.gather(&transmitq)
      #expect(frames == min(sent.count, Burst.size))
      for index in 0..<frames { #expect(bench.bytes(index) == sent[index].frame) }
      let delivered = receiveq.deliver(bench.burst, bench.burst.natural, frames, limit: 65_550)
      #expect(source.used == nil && sink.used == nil, "nothing is shown before the burst ends")
      receiveq.publish()
      transmitq.publish()

      // The sender has all of them back.
      if inOrder, frames > 0 {
        #expect(source.used == .init(id: sent[frames - 1].id, length: 0, isWritten: false))
        source.pass(sent.prefix(frames).reduce(0) { $0 + $1.slots })
      } else {
        for chain in sent.prefix(frames) {
          #expect(source.used == .init(id: chain.id, length: 0, isWritten: false))
          source.pass(chain.slots)
        }
      }
      #expect(source.used == nil)
      // The receiver has those for which there was room, in order.
      for chain in sent.prefix(frames) {
        let needed = 12 + chain.frame.count
        var room = 0
        let buffers = posted.prefix { chain in
          defer { room += chain.room }
          return room < needed
        }
        // A shorter one behind it may still fit.
        if room < needed { continue }
        expected += 1
        var bytes: [UInt8] = []
        for buffer in buffers {
          let length = min(buffer.room, needed - bytes.count)
          #expect(sink.used == .init(id: buffer.id, length: UInt32(length), isWritten: true))
          bytes += buffer.parts.flatMap { sink.memory.read($0.offset, $0.length) }.prefix(length)
          sink.pass(buffer.slots)
        }
        #expect(
          bytes == [UInt8](repeating: 0, count: 10) + [UInt8(buffers.count), 0] + chain.frame)
        posted.removeFirst(buffers.count)
      }
      #expect(sink.used == nil)
      received += delivered.frames
      #expect(received == expected)
      sent.removeFirst(frames)
    }
    #expect(received > 0)
    #expect(bench.counters.sample.fault == nil && other.counters.sample.fault == nil)
  }

  /// Sends a frame in a random chain; `nil` when there is no room for it, or now and then.
  private func offer(
    _ driver: PackedDriver, _ used: Int, _ round: Int, _ random: inout SplitMix
  ) -> Sent? {
    let room = driver.size - used
    if room == 0 || random.next() % 8 == 0 { return nil }
    let bytes = frame(length: 14 + Int(random.next() % 200), seed: UInt8(truncatingIfNeeded: round))
    let whole = [UInt8](repeating: 0, count: 12) + bytes
    // Each lap has its own part of the memory.
    let place = 1 << 20 | 2048 * (driver.made % 2048)
    driver.memory.write(whole, at: place)
    let indirect = random.next() % 4 == 0
    let count =
      random.next() % 2 == 0 ? 1 : 1 + Int(random.next() % UInt64(indirect ? 6 : min(5, room)))
    let parts = cut(place, whole.count, count, writable: false, &random)
    let id = UInt16(truncatingIfNeeded: random.next())
    offer(driver, parts, id, indirect: indirect)
    return Sent(id: id, slots: indirect ? 1 : count, frame: bytes)
  }

  /// Posts a buffer of a random shape; `nil` when there is no room for it, or now and then.
  private func post(_ driver: PackedDriver, _ used: Int, _ random: inout SplitMix) -> Posted? {
    let room = driver.size - used
    if room == 0 || random.next() % 16 == 0 { return nil }
    let place = 1 << 20 | 2048 * (driver.made % 2048)
    let indirect = random.next() % 4 == 0
    let count =
      random.next() % 2 == 0 ? 1 : 1 + Int(random.next() % UInt64(indirect ? 6 : min(5, room)))
    let length = 12 + Int(random.next() % 300)
    let parts = cut(place, length, count, writable: true, &random)
    let id = UInt16(truncatingIfNeeded: random.next())
    offer(driver, parts, id, indirect: indirect)
    return Posted(id: id, parts: parts, slots: indirect ? 1 : count)
  }

  private func offer(
    _ driver: PackedDriver, _ parts: [PackedDriver.Part], _ id: UInt16, indirect: Bool
  ) {
    if indirect {
      // The table lies behind the bytes, in the same 2048.
      let table = parts[0].offset / 2048 * 2048 + 1024
      driver.offerIndirect(parts, id: id, table: table)
    } else {
      driver.offer(parts, id: id)
    }
  }

  private func cut(
    _ place: Int, _ length: Int, _ count: Int, writable: Bool, _ random: inout SplitMix
  ) -> [PackedDriver.Part] {
    let cuts =
      [0] + (1..<count).map { _ in Int(random.next() % UInt64(length + 1)) }.sorted() + [length]
    return zip(cuts, cuts.dropFirst()).map {
      PackedDriver.Part(offset: place + $0, length: $1 - $0, writable: writable)
    }
  }

  /// A generator of the same numbers each time.
  struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var word = state
      word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
      word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
      return word ^ word >> 31
    }
  }
}
