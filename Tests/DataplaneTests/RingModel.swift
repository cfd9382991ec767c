import Testing

@testable import Dataplane

/// A driver's hands on a ring of either layout, as slow and plain as can be.
protocol ModelDriver: AnyObject {
  associatedtype Queue: Virtqueue

  var memory: RingMemory { get }
  var size: Int { get }
  /// Grows with every chain made available.
  var made: Int { get }
  /// Descriptors that the driver may use now.
  var room: Int { get }
  /// The used element where the driver looks for one.
  var used: PackedDriver.Used? { get }

  func queue(_ bench: Bench, isTransmitq: Bool, inOrder: Bool) throws -> Queue
  /// Makes a chain available, with buffer ID `id` if the driver may choose one; returns the ID it has.
  func offer(_ parts: [PackedDriver.Part], id: UInt16, table: Int?) -> UInt16
  /// Takes the used element of a chain, or of chains, that had so many descriptors.
  func pass(_ slots: Int)
}

/// Two rings with a naive driver each: random chains go in, the queues move the frames from one to the other, and
/// what comes out is held against plain arithmetic.
struct RingModel<Source: ModelDriver, Sink: ModelDriver> {
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

  let source: Source
  let sink: Sink
  var inOrder = false
  private let bench: Bench
  private let other: Bench
  private var random: SplitMix
  private var sent: [Sent] = []
  private var posted: [Posted] = []
  private(set) var received = 0

  init(_ source: Source, _ sink: Sink, inOrder: Bool = false) throws {
    self.source = source
    self.sink = sink
    self.inOrder = inOrder
    random = SplitMix(state: UInt64(source.size * 1000 + sink.size))
    bench = try Bench()
    other = try Bench()
  }

  mutating func run(rounds: Int) throws {
    var transmitq = try source.queue(bench, isTransmitq: true, inOrder: inOrder)
    var receiveq = try sink.queue(other, isTransmitq: false, inOrder: inOrder)
    var expected = 0
    for round in 0..<rounds {
      while let chain = offer(round) { sent.append(chain) }
      while let chain = post() { posted.append(chain) }
      let (frames, _) = bench.gather(&transmitq)
      #expect(frames == min(sent.count, Burst.size))
      for index in 0..<frames { #expect(bench.bytes(index) == sent[index].frame) }
      let delivered = receiveq.deliver(bench.burst, bench.burst.natural, frames, limit: 65_550)
      #expect(source.used == nil && sink.used == nil, "nothing is shown before the burst ends")
      receiveq.publish()
      transmitq.publish()
      takeBack(sent.prefix(frames))
      expected += takeReceived(sent.prefix(frames))
      received += delivered.frames
      #expect(received == expected)
      sent.removeFirst(frames)
    }
    #expect(received > 0)
    #expect(bench.counters.sample.fault == nil && other.counters.sample.fault == nil)
  }

  /// The sender has all of them back.
  private func takeBack(_ chains: ArraySlice<Sent>) {
    if inOrder, let last = chains.last {
      #expect(source.used == .init(id: last.id, length: 0, isWritten: false))
      source.pass(chains.reduce(0) { $0 + $1.slots })
    } else {
      for chain in chains {
        #expect(source.used == .init(id: chain.id, length: 0, isWritten: false))
        source.pass(chain.slots)
      }
    }
    #expect(source.used == nil)
  }

  /// The receiver has those for which there was room, in order. Returns how many.
  private mutating func takeReceived(_ chains: ArraySlice<Sent>) -> Int {
    var count = 0
    for chain in chains {
      let needed = 12 + chain.frame.count
      var room = 0
      let buffers = posted.prefix { chain in
        defer { room += chain.room }
        return room < needed
      }
      // A shorter one behind it may still fit.
      if room < needed { continue }
      count += 1
      var bytes: [UInt8] = []
      for buffer in buffers {
        let length = min(buffer.room, needed - bytes.count)
        #expect(sink.used == .init(id: buffer.id, length: UInt32(length), isWritten: true))
        bytes += buffer.parts.flatMap { sink.memory.read($0.offset, $0.length) }.prefix(length)
        sink.pass(buffer.slots)
      }
      #expect(bytes == [UInt8](repeating: 0, count: 10) + [UInt8(buffers.count), 0] + chain.frame)
      posted.removeFirst(buffers.count)
    }
    #expect(sink.used == nil)
    return count
  }

  // ---- Chains ----

  /// Sends a frame in a random chain; `nil` when there is no room for it, or now and then.
  private mutating func offer(_ round: Int) -> Sent? {
    if source.room == 0 || random.next() % 8 == 0 { return nil }
    let bytes = frame(length: 14 + Int(random.next() % 200), seed: UInt8(truncatingIfNeeded: round))
    let whole = [UInt8](repeating: 0, count: 12) + bytes
    let shape = shape(source)
    source.memory.write(whole, at: shape.place)
    let parts = cut(shape.place, whole.count, shape.count, writable: false)
    let id = source.offer(
      parts, id: UInt16(truncatingIfNeeded: random.next()), table: shape.table)
    return Sent(id: id, slots: shape.table == nil ? shape.count : 1, frame: bytes)
  }

  /// Posts a buffer of a random shape; `nil` when there is no room for it, or now and then.
  private mutating func post() -> Posted? {
    if sink.room == 0 || random.next() % 16 == 0 { return nil }
    let shape = shape(sink)
    // Where there are few, each must hold any frame, or the ring would stand still.
    let length = 12 + (sink.size < 4 ? 213 : 0) + Int(random.next() % 300)
    let parts = cut(shape.place, length, shape.count, writable: true)
    let id = sink.offer(parts, id: UInt16(truncatingIfNeeded: random.next()), table: shape.table)
    return Posted(id: id, parts: parts, slots: shape.table == nil ? shape.count : 1)
  }

  /// Where the next chain's bytes lie, its descriptors, and where its indirect table is, if it has one. Each chain
  /// has 2048 bytes of memory of its own, the table in the second half.
  private mutating func shape(
    _ driver: some ModelDriver
  ) -> (place: Int, count: Int, table: Int?) {
    let place = 1 << 20 | 2048 * (driver.made % 2048)
    let indirect = random.next() % 4 == 0
    let most = indirect ? 6 : min(5, driver.room)
    let count = random.next() % 2 == 0 ? 1 : 1 + Int(random.next() % UInt64(most))
    return (place, count, indirect ? place + 1024 : nil)
  }

  private mutating func cut(
    _ place: Int, _ length: Int, _ count: Int, writable: Bool
  ) -> [PackedDriver.Part] {
    let cuts =
      [0] + (1..<count).map { _ in Int(random.next() % UInt64(length + 1)) }.sorted() + [length]
    return zip(cuts, cuts.dropFirst()).map {
      PackedDriver.Part(offset: place + $0, length: $1 - $0, writable: writable)
    }
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
