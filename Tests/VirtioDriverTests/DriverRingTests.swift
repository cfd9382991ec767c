import Linux
import Testing

@testable import VirtioDriver

func makeRing(
  _ size: Int, _ memory: GuestMemory, eventIndex: Bool = false, tables: Int = 0,
  packed: Bool = false, inOrder: Bool = false
) throws -> DriverRing {
  let parts = try #require(RingParts(size: size, packed: packed, in: memory))
  let ring = try DriverRing(
    size: size, parts: parts, in: memory,
    options: .init(
      eventIndex: eventIndex, tableEntries: tables, packed: packed, inOrder: inOrder))
  guard let ring else { throw FrontEndError.memory }
  return ring
}

@Suite struct DriverRingTests {
  @Test("2.7: every size, past the wrap of the 16-bit indices", arguments: 0...15)
  func everySize(shift: Int) throws {
    let size = 1 << shift
    let memory = try GuestMemory(length: 4 << 20)
    var ring = try makeRing(size, memory, eventIndex: shift % 2 == 0)
    let device = ReferenceDevice(ring, memory)
    var sent: UInt64 = 0
    var returned: UInt64 = 0
    while sent < 70_000 {
      while let token = ring.add(Piece(0x1000 + sent % 4096, 1), writable: false) {
        #expect(Int(token) < size)
        sent += 1
      }
      #expect(ring.freeCount == 0)
      ring.publish()
      while let chain = device.next() {
        #expect(chain.readable.count == 1)
        device.complete(UInt32(chain.head), 0)
      }
      device.publish()
      while ring.nextUsed() != nil { returned += 1 }
      #expect(ring.freeCount == size && ring.outstanding == 0)
    }
    #expect(sent == returned)
    #expect(ring.violation == nil)
  }

  @Test("2.7.5: chains of every shape arrive as they were added")
  func layouts() throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try makeRing(16, memory, tables: 8)
    let device = ReferenceDevice(ring, memory)
    for round in 0..<3000 {
      let readable = (0..<round % 5).map { Piece(UInt64(0x2000 + 64 * $0), UInt32($0 + 1)) }
      let writable = (0..<(readable.isEmpty ? 1 : round % 4)).map {
        Piece(UInt64(0x8000 + 64 * $0), UInt32($0 + 7))
      }
      let layout: ChainLayout =
        switch round % 3 {
        case 0: .direct
        case 1: .indirect(after: 0)
        default: .indirect(after: 2)
        }
      let added = ring.add(readable: readable, writable: writable, layout: layout)
      let token = try #require(added)
      ring.publish()
      let chain = try #require(device.next())
      #expect(chain.head == token)
      #expect(chain.readable == readable && chain.writable == writable)
      let normal = if case .indirect(let after) = layout { after } else { 99 }
      #expect(chain.tables == (readable.count + writable.count > normal ? 1 : 0))
      let length = writable.reduce(0) { $0 + Int($1.length) }
      device.complete(UInt32(chain.head), length)
      device.publish()
      #expect(ring.nextUsed() == .init(token: token, length: UInt32(length)))
      #expect(ring.freeCount == 16)
    }
    #expect(ring.violation == nil)
  }

  @Test("A full ring refuses, and takes again what has been returned, in any order")
  func fullAndOutOfOrder() throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try makeRing(64, memory)
    let device = ReferenceDevice(ring, memory)
    var generator = SystemRandomNumberGenerator()
    var held: [UInt16] = []
    for _ in 0..<2000 {
      while let token = ring.add(
        readable: [Piece](repeating: Piece(0x1000, 8), count: Int.random(in: 1...4)))
      {
        #expect(!held.contains(token))
        held.append(token)
      }
      #expect(ring.freeCount < 4)
      ring.publish()
      while device.next() != nil {}
      held.shuffle(using: &generator)
      let returned = Set(held.suffix(held.count / 2 + 1))
      for head in held where returned.contains(head) { device.complete(UInt32(head), 0) }
      device.publish()
      var seen: Set<UInt16> = []
      while let used = ring.nextUsed() { seen.insert(used.token) }
      #expect(seen == returned)
      held.removeAll { returned.contains($0) }
      #expect(ring.outstanding == held.count)
    }
  }

  @Test("2.7.13.4, 2.7.7: kicks and interrupts only when asked for", arguments: [false, true])
  func notifications(eventIndex: Bool) throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try makeRing(8, memory, eventIndex: eventIndex)
    let device = ReferenceDevice(ring, memory)
    ring.disableInterrupts()
    func turn(_ ring: inout DriverRing) {
      while let chain = device.next() { device.complete(UInt32(chain.head), 0) }
      device.publish()
      while ring.nextUsed() != nil {}
    }
    for _ in 0..<70_000 {
      device.suppressKicks()
      _ = ring.add(Piece(0x1000, 1), writable: false)
      ring.publishAndKick()
      turn(&ring)
    }
    // With EVENT_IDX suppression means an event index that is passed once in 65,536 buffers.
    #expect(ring.kicks <= (eventIndex ? 2 : 0))
    #expect(device.interrupts <= (eventIndex ? 2 : 0))
    let (kicks, interrupts) = (ring.kicks, device.interrupts)
    for _ in 0..<100 {
      #expect(!device.requestKicks())
      var waiting = ring.enableInterrupts()
      #expect(!waiting)
      _ = ring.add(Piece(0x1000, 1), writable: false)
      ring.publishAndKick()
      #expect(device.requestKicks())
      while let chain = device.next() { device.complete(UInt32(chain.head), 0) }
      device.publish()
      waiting = ring.enableInterrupts()
      #expect(waiting)
      while ring.nextUsed() != nil {}
    }
    #expect(ring.kicks == kicks + 100)
    #expect(device.interrupts == interrupts + 100)
    let more = try ring.waitForUsed(milliseconds: 0)
    #expect(!more)
  }

  @Test(
    "2.7.13.4: a device that sleeps is kicked, however many buffers ago a kick was last considered",
    arguments: [false, true], [false, true])
  func lateKick(eventIndex: Bool, inOrder: Bool) throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try makeRing(8, memory, eventIndex: eventIndex, inOrder: inOrder)
    let device = ReferenceDevice(ring, memory)
    // The index comes round and is the same again, or nearly.
    for more in [65_536, 65_537, 131_072] {
      device.suppressKicks()
      for number in 1...more {
        // It has taken all but the last, and sleeps.
        if number == more { #expect(!device.requestKicks()) }
        _ = ring.add(Piece(0x1000, 1), writable: false)
        ring.publish()
        if number == more { break }
        while let chain = device.next() { device.complete(UInt32(chain.head), 0) }
        device.publish()
        while ring.nextUsed() != nil {}
      }
      let isWanted = ring.shouldKick()
      #expect(isWanted)
      let isWantedAgain = ring.shouldKick()
      #expect(!isWantedAgain)
      while let chain = device.next() { device.complete(UInt32(chain.head), 0) }
      device.publish()
      while ring.nextUsed() != nil {}
    }
  }

  @Test("2.7.8: what a device does wrong is seen and survived")
  func violations() throws {
    let memory = try GuestMemory(length: 1 << 20)
    var ring = try makeRing(8, memory)
    let device = ReferenceDevice(ring, memory)
    let added = ring.add(Piece(0x1000, 10), writable: true)
    let token = try #require(added)
    ring.publish()
    ring.usedIndex = 5
    #expect(ring.nextUsed() == nil && ring.nextUsed() == nil)
    #expect(ring.violation == .usedIndexJump(from: 0, to: 5) && ring.violations == 1)
    device.complete(9, 0)
    device.publish()
    #expect(ring.nextUsed() == nil)
    #expect(ring.violations == 2)
    device.complete(UInt32(token), 11)
    device.publish()
    #expect(ring.nextUsed() == .init(token: token, length: 10))
    #expect(ring.violations == 3)
    ring.reset()
    #expect(ring.freeCount == 8 && ring.usedIndex == 0 && ring.nextToken == 0)
  }

  @Test("Bursts: reserve, post, take, repost, release")
  func bursts() throws {
    let memory = try GuestMemory(length: 1 << 20)
    let buffers = try #require(memory.allocate(64 * 256))
    var ring = try makeRing(64, memory)
    let device = ReferenceDevice(ring, memory)
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
        #expect(chain.writable == [Piece(pool.base + 256 * UInt64(chain.head), 256)])
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
      #expect(ring.reserve(&span) == 44)
      ring.release(span.span, 28..<44)
      ring.post(span.span, count: 28, pool: pool, length: 256, writable: true)
      ring.publish()
    }
    #expect(ring.violation == nil)
  }

  @Test("Driver and device on two threads")
  func threads() throws {
    let memory = try GuestMemory(length: 1 << 20)
    let buffers = try #require(memory.allocate(256 * 64))
    var ring = try makeRing(256, memory, eventIndex: true)
    nonisolated(unsafe) let device = ReferenceDevice(ring, memory)
    let total = 50_000
    let kick = ring.kickEvent
    let thread = try Thread(name: "device") {
      var next: UInt64 = 0
      while next < UInt64(total) {
        while let chain = device.next() {
          let bytes = device.read(chain)
          if FrontEndMessage.load(bytes, at: 0) as UInt64 != next { return }
          next += 1
          device.complete(UInt32(chain.head), 0)
        }
        device.publish()
        if !device.requestKicks() {
          _ = try? Poller.wait(
            [(descriptor: kick.descriptor.raw, interest: .read)], milliseconds: 100)
          kick.drain()
        }
      }
    }
    var sent: UInt64 = 0
    var returned = 0
    let deadline = Deadline(milliseconds: 30_000)
    while returned < total, !deadline.isOver {
      while sent < UInt64(total), let head = ring.nextToken {
        let buffer = buffers.slice(64 * Int(head), 64)
        buffer.write(FrontEndMessage.words(sent))
        _ = ring.add(buffer.piece, writable: false)
        sent += 1
      }
      ring.publishAndKick()
      if try !ring.waitForUsed(milliseconds: 1000) { continue }
      while ring.nextUsed() != nil { returned += 1 }
    }
    thread.join()
    #expect(returned == total)
    #expect(ring.violation == nil)
  }
}
