import Testing

@testable import Dataplane

/// The frames of a flow come in order, whatever their receiver changes, and however slowly it takes them.
@Suite struct OvertakingTests {
  /// Ports 0 of one pair and 1 of eight know each other.
  private func bed(workers: Int = 1, filled: Int = 16, eventIndex: Bool = false) throws
    -> SteeringBed
  {
    let bed = try SteeringBed([1, 8], workers: workers, filled: filled, eventIndex: eventIndex)
    bed.introduce()
    return bed
  }

  /// Sends `count` frames of a flow to port 1, of which nothing is taken.
  private func send(_ count: Int, of flow: Int, _ bed: SteeringBed) {
    for number in 0..<count {
      bed.send(SteeringBed.frame(flow, from: 0, to: 1, number: number), from: 0)
    }
  }

  /// The guest of port 1 sends a frame of a flow on `pair`.
  private func answer(_ flow: Int, on pair: Int, _ bed: SteeringBed) {
    bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: pair)
    _ = bed.take(0)
  }

  @Test("A flow stays until its driver has given back what came before (E35)", arguments: [1, 2])
  func stays(workers: Int) throws {
    let bed = try bed(workers: workers)
    answer(3, on: 2, bed)
    send(10, of: 3, bed)
    answer(3, on: 5, bed)
    send(10, of: 3, bed)
    // All but the last were taken.
    #expect(bed.take(1, pair: 2, most: 19).count == 19)
    send(1, of: 3, bed)
    #expect(bed.take(1, pair: 2, most: 1).count == 1)
    send(1, of: 3, bed)
    #expect(bed.take(1, pair: 5) == [])
    // What came on other flows since does not hold it.
    #expect(bed.take(1, pair: 2).count == 2)
    answer(4, on: 2, bed)
    send(7, of: 4, bed)
    send(1, of: 3, bed)
    #expect(bed.take(1, pair: 5).count == 1)
    #expect(bed.take(1, pair: 2).count == 7)
  }

  @Test("A flow moves when its driver waits for the next frame, though it has given nothing back")
  func waits() throws {
    let bed = try bed(eventIndex: true)
    answer(3, on: 2, bed)
    send(10, of: 3, bed)
    answer(3, on: 5, bed)
    #expect(bed.take(1, pair: 2, most: 9, reposts: false).count == 9)
    bed.await(1, pair: 2)
    send(1, of: 3, bed)
    #expect(bed.take(1, pair: 2, reposts: false).count == 2)
    bed.await(1, pair: 2)
    send(1, of: 3, bed)
    #expect(bed.take(1, pair: 2) == [])
    #expect(bed.take(1, pair: 5).count == 1)
  }

  @Test("A flow that its receiver had not sent yet stays in order when it does")
  func firstAnswer() throws {
    let bed = try bed()
    send(5, of: 3, bed)
    let first = try #require((0..<8).first { !bed.take(1, pair: $0, most: 1).isEmpty })
    answer(3, on: (first + 1) % 8, bed)
    send(5, of: 3, bed)
    #expect(bed.take(1, pair: first).count == 9)
    send(5, of: 3, bed)
    #expect(bed.take(1, pair: (first + 1) % 8).count == 5)
  }

  @Test(
    "Receivers that take what they like, when they like, see every flow in order (E35)",
    arguments: [1, 2, 3], [false, true])
  func order(workers: Int, eventIndex: Bool) throws {
    let bed = try bed(workers: workers, eventIndex: eventIndex)
    var random = SplitMix(state: UInt64(7 + workers))
    var numbers = [Int](repeating: 0, count: 16)
    var newest = [Int](repeating: -1, count: 16)
    var reordered = 0
    var moves = 0
    var pairs = [Int](repeating: -1, count: 16)
    func take(_ pair: Int, most: Int) {
      for bytes in bed.take(1, pair: pair, most: most) {
        let flow = Int(bytes[35])
        let number = Int(bytes[42]) << 8 | Int(bytes[43])
        if number < newest[flow] { reordered += 1 }
        if pairs[flow] != pair { moves += 1 }
        newest[flow] = number
        pairs[flow] = pair
      }
      // The next it will look at.
      bed.await(1, pair: pair)
    }
    for _ in 0..<1500 {
      for _ in 0..<(random.next() % 12) {
        let flow = Int(random.next() % 16)
        bed.put(SteeringBed.frame(flow, from: 0, to: 1, number: numbers[flow]), from: 0)
        numbers[flow] += 1
      }
      bed.turn()
      // Its acknowledgements leave now on this CPU, now on that.
      if random.next() % 2 == 0 {
        answer(Int(random.next() % 16), on: Int(random.next() % 8), bed)
      }
      take(Int(random.next() % 8), most: Int(random.next() % 24))
    }
    #expect(reordered == 0)
    // Flows do follow.
    #expect(moves > 100)
  }

  @Test(
    "A flow whose pair was never filled goes to one that was, and back when it is (E36)",
    arguments: [1, 2])
  func unfilled(workers: Int) throws {
    let bed = try bed(workers: workers, filled: 1)
    for flow in 0..<8 { answer(flow, on: flow, bed) }
    #expect(bed.places(0..<60, from: 0, to: 1) == [Int](repeating: 0, count: 60))
    #expect(bed.places(0..<60, from: 0, to: 1) == [Int](repeating: 0, count: 60))
    for pair in 0..<8 { #expect(bed.drops(1, 2 * pair) == [:]) }
    bed.fill(1, pair: 5)
    #expect(bed.places(0..<8, from: 0, to: 1) == [0, 5, 5, 5, 5, 5, 0, 0])
  }

  @Test("Where no pair was ever filled frames are dropped by name")
  func noneFilled() throws {
    let bed = try SteeringBed([1, 8], filled: 0)
    bed.send(SteeringBed.frame(0, from: 1, to: 9), from: 1)
    bed.send(SteeringBed.frame(0, from: 0, to: 1), from: 0)
    #expect((0..<8).reduce(0) { $0 + (bed.drops(1, 2 * $1)[.noReceiveBuffer] ?? 0) } == 1)
  }
}

/// What a driver has taken of what was delivered.
@Suite struct SeenTests {
  @Test(
    "A split ring's driver has seen what it gave back, or waits behind", arguments: [0, 5, 65_530])
  func split(start: Int) throws {
    let driver = try SplitDriver(size: 8, start: UInt16(start))
    let bench = try Bench()
    var queue = try bench.queue(
      driver.memory, driver.memory.setup(base: UInt32(start), eventIndex: true))
    driver.memory.usedEvent = UInt16(truncatingIfNeeded: start - 1)
    for id in 0..<8 { try offer(driver, UInt16(id)) }
    let isUnfilled = queue.isUnfilled
    #expect(!isUnfilled)
    bench.hold([UInt8](repeating: 7, count: 60), at: 0)
    for _ in 0..<5 { #expect(bench.deliver(&queue).frames == 1) }
    queue.publish()
    let mark = queue.mark
    #expect(!queue.hasSeen(mark))
    // It has taken four of five.
    for place in 0..<4 { driver.memory.offer(UInt16(place)) }
    driver.memory.usedEvent = UInt16(truncatingIfNeeded: start + 4)
    #expect(!queue.hasSeen(mark))
    driver.memory.usedEvent = UInt16(truncatingIfNeeded: start + 5)
    #expect(queue.hasSeen(mark))
    driver.memory.usedEvent = UInt16(truncatingIfNeeded: start - 1)
    #expect(!queue.hasSeen(mark))
    driver.memory.offer(4)
    #expect(queue.hasSeen(mark))
  }

  private func offer(_ driver: SplitDriver, _ id: UInt16) throws {
    let place = driver.memory.allocate(2048)
    driver.memory.describe(
      Int(id), address: driver.memory.address(place), length: 2048, flags: 2)
    driver.memory.offer(id)
  }

  @Test("A packed ring's driver has seen what it gave back", arguments: [5, 7, 8])
  func packed(size: Int) throws {
    let driver = try PackedDriver(size: size)
    let bench = try Bench()
    let setup = driver.setup(eventIndex: true)
    var queue = try bench.queue(driver, setup, isTransmitq: false)
    let isUnfilled = queue.isUnfilled
    #expect(isUnfilled)
    driver.setDriverEvent(1)
    let places = (0..<size).map { _ in driver.memory.allocate(2048) }
    func offer() {
      driver.offer(
        [.init(offset: places[driver.made % size], length: 2048, writable: true)], id: 0)
    }
    for _ in 0..<size { offer() }
    bench.hold([UInt8](repeating: 7, count: 60), at: 0)
    // Several laps, in steps that meet the ring's end differently.
    for step in 0..<40 {
      let count = 1 + step % size
      for _ in 0..<count { #expect(bench.deliver(&queue).frames == 1) }
      queue.publish()
      let mark = queue.mark
      #expect(!queue.hasSeen(mark))
      for _ in 0..<(count - 1) {
        driver.pass(1)
        offer()
        #expect(!queue.hasSeen(mark))
      }
      driver.pass(1)
      // Which may be a word from two laps ago.
      driver.setDriverEvent(2, mark)
      #expect(!queue.hasSeen(mark))
      offer()
      #expect(queue.hasSeen(mark))
    }
    #expect(!queue.hasSeen(UInt16(size)))
  }
}
