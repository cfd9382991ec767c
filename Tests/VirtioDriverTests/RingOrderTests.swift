import Linux
import Testing

@testable import VirtioDriver

/// Packed rings, and rings with VIRTIO_F_IN_ORDER, against the reference devices.
@Suite struct RingOrderTests {
  enum Kind: String, CaseIterable, Sendable {
    case packed, packedInOrder, splitInOrder

    var isPacked: Bool { self != .splitInOrder }
    var isInOrder: Bool { self != .packed }
  }

  private func make(
    _ kind: Kind, _ size: Int, _ memory: GuestMemory, eventIndex: Bool = false, tables: Int = 0
  ) throws -> DriverRing {
    try makeRing(
      size, memory, eventIndex: eventIndex, tables: tables, packed: kind.isPacked,
      inOrder: kind.isInOrder)
  }

  private func device(_ ring: borrowing DriverRing, _ memory: GuestMemory) -> ReferenceDevice {
    ring.options.packed ? PackedReferenceDevice(ring, memory) : ReferenceDevice(ring, memory)
  }

  static let sizes = [1, 2, 3, 5, 7, 8, 63, 64, 100, 255, 256, 1000, 32_767, 32_768]

  @Test("2.8, E24, E31: every size, past many wraps", arguments: sizes, Kind.allCases)
  func everySize(size: Int, kind: Kind) throws {
    if !kind.isPacked, size & (size - 1) != 0 { return }
    let memory = try GuestMemory(length: 4 << 20)
    var ring = try make(kind, size, memory, eventIndex: size % 2 == 0)
    let device = device(ring, memory)
    var sent: UInt64 = 0
    var returned: UInt64 = 0
    let total = UInt64(max(2000, 5 * size))
    while sent < total {
      // A number that leaves the ring's beginning elsewhere each time.
      let limit = sent + UInt64(max(1, size - size / 3))
      while sent < limit, let token = ring.add(Piece(0x1000 + sent % 4096, 1), writable: false) {
        #expect(Int(token) < size)
        sent += 1
      }
      ring.publish()
      while let chain = device.next() {
        #expect(chain.readable.count == 1)
        device.complete(UInt32(chain.head), 0)
      }
      device.publish()
      while ring.nextUsed() != nil { returned += 1 }
      let waiting = ring.hasUsed
      #expect(ring.freeCount == size && ring.outstanding == 0 && !waiting)
    }
    #expect(sent == returned)
    #expect(ring.violation == nil)
  }

  @Test("2.8.6, 2.8.7: chains of every shape arrive as they were added", arguments: Kind.allCases)
  func layouts(_ kind: Kind) throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try make(kind, kind.isPacked ? 13 : 16, memory, tables: 8)
    let device = device(ring, memory)
    for round in 0..<3000 {
      let readable = (0..<round % 5).map { Piece(UInt64(0x2000 + 64 * $0), UInt32($0 + 1)) }
      let writable = (0..<(readable.isEmpty ? 1 : round % 4)).map {
        Piece(UInt64(0x8000 + 64 * $0), UInt32($0 + 7))
      }
      let indirect = round % 3 == 0
      let added = ring.add(
        readable: readable, writable: writable, layout: indirect ? .indirect(after: 0) : .direct)
      let token = try #require(added)
      #expect(device.next() == nil, "not before it is published")
      ring.publish()
      let chain = try #require(device.next())
      if kind.isPacked { #expect(chain.head == token) }
      #expect(chain.readable == readable && chain.writable == writable)
      #expect(chain.tables == (indirect ? 1 : 0))
      let length = writable.reduce(0) { $0 + Int($1.length) }
      device.complete(UInt32(chain.head), length)
      device.publish()
      #expect(ring.nextUsed() == .init(token: token, length: UInt32(length)))
      #expect(ring.freeCount == ring.size)
    }
    #expect(ring.violation == nil)
  }

  @Test("2.8.5: a packed ring takes chains back in any order")
  func outOfOrder() throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try make(.packed, 61, memory)
    let device = device(ring, memory)
    var held: [UInt16] = []
    for _ in 0..<3000 {
      while let token = ring.add(
        readable: [Piece](repeating: Piece(0x1000, 8), count: Int.random(in: 1...4)))
      {
        #expect(!held.contains(token))
        held.append(token)
      }
      #expect(ring.freeCount < 4)
      ring.publish()
      while device.next() != nil {}
      held.shuffle()
      let returned = held.suffix(held.count / 2 + 1)
      for id in returned { device.complete(UInt32(id), 0) }
      device.publish()
      var seen: [UInt16] = []
      while let used = ring.nextUsed() { seen.append(used.token) }
      #expect(seen == Array(returned))
      held.removeLast(returned.count)
      #expect(ring.outstanding == held.count)
    }
    #expect(ring.violation == nil)
  }

  @Test(
    "2.7.9, 2.8.8, E18: one used entry stands for a batch",
    arguments: [Kind.packedInOrder, .splitInOrder])
  func batches(_ kind: Kind) throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try make(kind, kind.isPacked ? 61 : 64, memory)
    let device = device(ring, memory)
    var waiting: [(token: UInt16, writable: UInt32)] = []
    var held: [UInt16] = []
    for round in 0..<3000 {
      while true {
        let count = Int.random(in: 1...4)
        let added = ring.add(
          readable: [], writable: [Piece](repeating: Piece(0x1000, 8), count: count))
        guard let token = added else { break }
        waiting.append((token, UInt32(8 * count)))
      }
      ring.publish()
      while let chain = device.next() { held.append(chain.head) }
      #expect(held.count == waiting.count)
      let count = Int.random(in: 1...held.count)
      let single = round % 3 == 0
      if single {
        for head in held.prefix(count) { device.complete(UInt32(head), 5) }
      } else {
        device.completeTogether(Array(held.prefix(count)), 5)
      }
      device.publish()
      for index in 0..<count {
        let length = single || index == count - 1 ? 5 : waiting[index].writable
        let more = ring.hasUsed
        #expect(more)
        #expect(ring.nextUsed() == .init(token: waiting[index].token, length: length))
      }
      #expect(ring.nextUsed() == nil)
      let more = ring.hasUsed
      #expect(!more)
      held.removeFirst(count)
      waiting.removeFirst(count)
    }
    #expect(ring.violation == nil)
  }

  @Test(
    "2.8.10, E30: kicks and interrupts only when asked for",
    arguments: [false, true], [Kind.packed, .packedInOrder])
  func notifications(eventIndex: Bool, kind: Kind) throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try make(kind, 7, memory, eventIndex: eventIndex)
    let device = device(ring, memory)
    ring.disableInterrupts()
    for round in 0..<2000 {
      device.suppressKicks()
      for _ in 0...round % 7 { _ = ring.add(Piece(0x1000, 1), writable: false) }
      ring.publishAndKick()
      while let chain = device.next() { device.complete(UInt32(chain.head), 0) }
      device.publish()
      while ring.nextUsed() != nil {}
    }
    #expect(ring.kicks == 0 && device.interrupts == 0)
    for round in 1...500 {
      let waiting = device.requestKicks()
      #expect(!waiting)
      let used = ring.enableInterrupts()
      #expect(!used)
      for _ in 0...round % 7 { _ = ring.add(Piece(0x1000, 1), writable: false) }
      ring.publishAndKick()
      let kicked = ring.kicks
      #expect(kicked == round)
      #expect(device.requestKicks())
      while let chain = device.next() { device.complete(UInt32(chain.head), 0) }
      device.publish()
      #expect(device.interrupts == round)
      while ring.nextUsed() != nil {}
    }
    if !eventIndex { return }
    // The third from here, by its place: asked for once, and kicked for once.
    for round in 0..<100 {
      var place = ring.availPosition
      place.advance(by: 2, size: 7)
      ring.deviceEvent = EventSuppression(.descriptor, at: place)
      let before = ring.kicks
      for step in 0..<7 {
        _ = ring.add(Piece(0x1000, 1), writable: false)
        ring.publishAndKick()
        #expect(ring.kicks == before + (step >= 2 ? 1 : 0), "round \(round), step \(step)")
        while let chain = device.next() { device.complete(UInt32(chain.head), 0) }
        device.publish()
        while ring.nextUsed() != nil {}
      }
    }
  }

  @Test("2.8: what a device does wrong is seen and survived")
  func violations() throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try make(.packed, 7, memory)
    let device = device(ring, memory)
    let first = ring.add(Piece(0x1000, 10), writable: true)
    let token = try #require(first)
    ring.publish()
    _ = device.next()
    device.complete(UInt32(token), 11)
    device.publish()
    #expect(ring.nextUsed() == .init(token: token, length: 10))
    #expect(ring.violation == .overlong(token: token, length: 11, writable: 10))
    _ = ring.add(Piece(0x1000, 10), writable: true)
    ring.publish()
    device.complete(9, 0)
    device.publish()
    #expect(ring.nextUsed() == nil && ring.nextUsed() == nil)
    #expect(ring.violations == 2)
    ring.reset()
    #expect(ring.freeCount == 7 && ring.resumeBase == PackedReferenceDevice.fresh)
  }

  @Test("Bursts: reserve, post, take, repost, release", arguments: Kind.allCases)
  func bursts(_ kind: Kind) throws {
    let memory = try GuestMemory(length: 1 << 20)
    let buffers = try #require(memory.allocate(64 * 256))
    var ring = try make(kind, kind.isPacked ? 61 : 64, memory)
    let device = device(ring, memory)
    var heads = [UInt16](repeating: 0, count: 48)
    var lengths = [UInt32](repeating: 0, count: 48)
    let pool = DriverRing.Pool(base: buffers.address, stride: 256)
    var span = heads.mutableSpan
    #expect(ring.reserve(&span) == 48)
    ring.post(span.span, count: 48, pool: pool, length: 256, writable: true)
    ring.publish()
    for round in 0..<2000 {
      var served = 0
      while let chain = device.next() {
        let offset = chain.writable[0].address - pool.base
        #expect(chain.writable.count == 1 && offset % 256 == 0 && offset < 64 * 256)
        #expect(chain.writable[0].length == 256)
        if kind.isPacked { #expect(offset == 256 * UInt64(chain.head)) }
        device.complete(UInt32(chain.head), device.write([1, 2, UInt8(round % 256)], to: chain))
        served += 1
      }
      device.publish()
      #expect(served == 48)
      var lengthSpan = lengths.mutableSpan
      #expect(ring.take(&span, lengths: &lengthSpan, limit: 20) == 20)
      #expect(lengthSpan[19] == 3)
      ring.repost(span.span, count: 20)
      #expect(ring.take(&span, lengths: &lengthSpan) == 28)
      ring.release(span.span, 0..<28)
      #expect(ring.reserve(&span) == min(48, ring.size - 20))
      ring.release(span.span, 28..<min(48, ring.size - 20))
      ring.post(span.span, count: 28, pool: pool, length: 256, writable: true)
      ring.publish()
    }
    #expect(ring.violation == nil)
  }

  @Test("E24: a device that comes back begins with the oldest buffer not returned")
  func resume() throws {
    let memory = try GuestMemory(length: 1 << 20)
    for kind in [Kind.packed, .packedInOrder] {
      var ring = try make(kind, 7, memory)
      var device = device(ring, memory)
      for round in 0..<50 {
        var added: [UInt64] = []
        for index in 0..<3 {
          let address = UInt64(0x1000 + 16 * index)
          let token = ring.add(
            readable: [Piece](repeating: Piece(address, 1), count: 1 + (round + index) % 2))
          #expect(token != nil)
          added.append(address)
        }
        ring.publish()
        let chains = (0..<3).compactMap { _ in device.next() }
        // The last one was taken, but its used element never written; the driver has taken none of them.
        if kind.isInOrder {
          device.completeTogether([chains[0].head, chains[1].head], 0)
        } else {
          for chain in chains.prefix(2) { device.complete(UInt32(chain.head), 0) }
        }
        device.publish()
        device = PackedReferenceDevice(
          size: 7, descriptors: ring.parts.descriptors.pointer,
          avail: ring.parts.avail.pointer, used: ring.parts.used.pointer, eventIndex: false,
          base: ring.resumeBase, call: nil, translate: device.translate)
        let again = try #require(device.next())
        #expect(again.readable[0].address == added[2])
        #expect(device.next() == nil)
        device.complete(UInt32(again.head), 0)
        device.publish()
        for _ in 0..<3 { #expect(ring.nextUsed() != nil) }
      }
      #expect(ring.violation == nil)
    }
  }
}
