import Linux
import Testing

@testable import Dataplane

/// Where a packed ring goes on when the process that worked on it has died, at any moment.
@Suite struct RingJournalTests {
  /// When the process dies.
  enum Moment: CaseIterable {
    /// Between bursts.
    case idle
    /// A burst was taken and not shown.
    case taken
    /// It was about to be shown.
    case intended
    /// It was shown, and no more.
    case shown
  }

  /// A ring, its driver, and a record of it in memory that stays.
  private final class Ring {
    let driver: PackedDriver
    let bench: Bench
    let mapping: Mapping
    let isTransmitq: Bool
    let inOrder: Bool
    /// The base that the front-end knows of: where the ring began.
    let base: UInt32
    var queue: PackedQueue

    init(size: Int, start: Int, isTransmitq: Bool, inOrder: Bool = false) throws {
      driver = try PackedDriver(size: size, start: start)
      bench = try Bench()
      mapping = try .own(RingJournal.byteCount)
      self.isTransmitq = isTransmitq
      self.inOrder = inOrder
      base = UInt32(driver.word(start))
      var setup = driver.setup(inOrder: inOrder)
      setup.journal = RingJournal(mapping.base)
      queue = try bench.queue(driver, setup, isTransmitq: isTransmitq)
    }

    var journal: RingJournal { RingJournal(mapping.base) }

    var setup: RingSetup {
      var setup = driver.setup(inOrder: inOrder)
      (setup.base, setup.agreedBase) = (base, base)
      setup.journal = journal
      return setup
    }

    /// Another process takes the ring from a front-end that knows where it began and no more.
    func restart() throws { queue = try bench.queue(driver, setup, isTransmitq: isTransmitq) }

    /// Offers chains of so many descriptors each, ids from `id` on.
    func offer(_ shapes: [Int], id: Int, place: Int) {
      for (index, pieces) in shapes.enumerated() {
        let parts = (0..<pieces).map { piece in
          PackedDriver.Part(
            offset: place + 256 * index + 80 * piece / pieces,
            length: pieces == 1 ? 80 : 80 / pieces,
            writable: !isTransmitq)
        }
        driver.offer(parts, id: UInt16(id + index))
      }
    }

    /// Works on what is offered, up to a moment.
    func work(_ count: Int, until moment: Moment?) -> Int {
      let frames =
        isTransmitq ? bench.gather(&queue).frames : bench.deliver(&queue, count: count).frames
      switch moment {
      case nil: queue.publish()
      case .idle?, .taken?: break
      case .intended?: journal.intend(queue.next.word)
      case .shown?:
        journal.intend(queue.next.word)
        queue.ring.publishUsed(queue.heldIndex, queue.held)
      }
      return frames
    }
  }

  @Test(
    "A packed ring goes on where its burst was shown or not, whenever the process died, whatever its size and lap",
    arguments: Moment.allCases, [false, true])
  func goesOn(moment: Moment, isTransmitq: Bool) throws {
    for inOrder in isTransmitq ? [false, true] : [false] {
      for size in [4, 7, 16, 61] {
        let ring = try Ring(size: size, start: 3 % size, isTransmitq: isTransmitq, inOrder: inOrder)
        let place = ring.driver.memory.allocate(256 * 64)
        for index in 0..<8 {
          ring.bench.hold(frame(length: 60, seed: UInt8(index)), at: index)
          if isTransmitq {
            ring.driver.memory.write(
              [UInt8](repeating: 0, count: 12) + frame(length: 68), at: place + 256 * index)
          }
        }
        for round in 0..<(4 * size) {
          let shapes =
            isTransmitq ? [1] : (0..<(1 + round % min(3, size / 2))).map { 1 + ($0 + round) % 2 }
          let chains = isTransmitq ? [Int](repeating: 1, count: 1 + round % min(5, size)) : shapes
          let note = "size \(size), round \(round), in order \(inOrder), \(moment)"
          ring.offer(chains, id: round, place: place)
          let slots = chains.reduce(0, +)
          if moment == .idle {
            #expect(ring.work(chains.count, until: nil) == chains.count, "\(note)")
            try ring.restart()
          } else {
            #expect(ring.work(chains.count, until: moment) == chains.count, "\(note)")
            // In order one mark stands for many, and of so small a ring there may be none left to tell it from a new one.
            if inOrder, ring.queue.ring.looksNew {
              ring.queue.publish()
              ring.driver.pass(slots)
              continue
            }
            try ring.restart()
            let wasTaken = ring.queue.next.word == ring.driver.word(ring.driver.made)
            if !wasTaken {
              // Nothing was written over: the frames are still there, to be taken once more.
              #expect(moment != .shown, "\(note)")
              #expect(ring.queue.next.word == ring.driver.word(ring.driver.passed), "\(note)")
              #expect(chains.count == 1 && slots == 1 || inOrder, "\(note)")
              #expect(ring.work(chains.count, until: nil) == chains.count, "\(note)")
            }
          }
          #expect(ring.queue.next.word == ring.driver.word(ring.driver.made), "\(note)")
          if inOrder {
            let last = UInt16(round + chains.count - 1)
            #expect(ring.driver.used?.id == last, "\(note)")
          } else {
            for index in chains.indices {
              #expect(ring.driver.used?.id == UInt16(round + index), "\(note), chain \(index)")
              ring.driver.pass(chains[index])
            }
          }
          if inOrder { ring.driver.pass(slots) }
          #expect(ring.driver.used == nil, "\(note)")
        }
      }
    }
  }

  @Test("What is given back of a burst that was not shown holds no frame")
  func empty() throws {
    let ring = try Ring(size: 8, start: 13, isTransmitq: false)
    let place = ring.driver.memory.allocate(256 * 8)
    for index in 0..<3 { ring.bench.hold(frame(length: 60, seed: UInt8(index)), at: index) }
    ring.offer([1, 2, 1], id: 5, place: place)
    #expect(ring.work(3, until: .taken) == 3)
    #expect(ring.driver.used == nil)
    try ring.restart()
    for (id, span) in [(5, 1), (6, 2), (7, 1)] {
      #expect(ring.driver.used?.id == UInt16(id) && ring.driver.used?.length == 0)
      ring.driver.pass(span)
    }
  }

  @Test(
    "A ring that its driver has made anew begins where the front-end says, and so does another ring"
  )
  func anew() throws {
    func started(_ change: (Ring, inout RingSetup) throws -> Void) throws -> UInt16 {
      let ring = try Ring(size: 8, start: 0, isTransmitq: true)
      let place = ring.driver.memory.allocate(256 * 8)
      ring.driver.memory.write([UInt8](repeating: 0, count: 12) + frame(length: 68), at: place)
      ring.offer([1, 1, 1], id: 0, place: place)
      // All of them lie at one place.
      #expect(ring.work(3, until: nil) > 0)
      var setup = ring.setup
      try change(ring, &setup)
      return try ring.bench.queue(ring.driver, setup).next.word
    }
    #expect(try started { _, _ in } == 0x8003, "the same ring")
    let fresh = try started { ring, _ in
      for index in 0..<8 {
        ring.driver.writeRaw(index, address: 0, length: 0, flags: index < 5 ? 0x80 : 0)
      }
    }
    #expect(fresh == 0x8000)
    #expect(try started { ring, _ in ring.journal.forget() } == 0x8000)
    #expect(try started { _, setup in setup.base = 2 } == 2, "it goes on where it was stopped")
    let told = try started { _, setup in (setup.base, setup.agreedBase) = (5, 5) }
    #expect(told == 5, "the front-end knows better")
    #expect(try started { _, setup in setup.size = 4 } == 0x8000)
    let moved = try started { _, setup in
      setup.descriptors += 16
    }
    #expect(moved == 0x8000)
  }
}
