import Testing

@testable import Dataplane

/// On which receiveq a frame comes, where a port has several: virtio v1.4, 5.1.9.5.6.
@Suite struct SteeringTests {
  /// Ports of several queue pairs, without threads: every receiveq has buffers posted.
  private final class Bed {
    static let ringSize = 64
    let plane: Dataplane
    private let workers: Int
    /// By port, then by ring.
    private var rings: [[RingMemory]] = []
    private var sent: [[Int]] = []
    private var taken: [[Int]] = []

    /// - Parameters:
    ///   - pairs: of each port.
    ///   - enabled: how many of them are enabled at first.
    init(_ pairs: [Int], enabled: Int = 16, workers: Int = 1) throws {
      self.workers = workers
      plane = try Dataplane(
        .init(
          workers: (0..<workers).map { _ in .init(cpu: nil, node: 0) }, hugepages: false,
          threads: false))
      for (port, count) in pairs.enumerated() {
        #expect(try plane.addPort(pairs: count) == port)
        rings.append([])
        sent.append([Int](repeating: 0, count: count))
        taken.append([Int](repeating: 0, count: count))
        for index in 0..<(2 * count) {
          let ring = try RingMemory(size: Bed.ringSize)
          rings[port].append(ring)
          if index % 2 == 0 {
            for number in 0..<Bed.ringSize {
              ring.describe(
                number, address: ring.address(ring.allocate(2048)), length: 2048, flags: 2)
              ring.offer(UInt16(number))
            }
          }
          try start(port, index, base: 0, enabled: index / 2 < enabled)
        }
      }
    }

    deinit { plane.stop() }

    private func start(_ port: Int, _ index: Int, base: UInt32, enabled: Bool) throws {
      let ring = rings[port][index]
      try plane.startRing(
        index, of: port, ring.setup(base: base, enabled: enabled), memory: ring.memory,
        worker: index / 2 % workers)
    }

    /// Enables or disables a pair, as SET_VRING_ENABLE does.
    func enable(_ pair: Int, of port: Int, _ enabled: Bool = true) throws {
      for index in [2 * pair, 2 * pair + 1] {
        plane.setEnabled(enabled, queue: index, of: port)
      }
    }

    /// Makes a frame available; `turn` lets it go.
    func put(_ bytes: [UInt8], from port: Int, pair: Int = 0) {
      let number = sent[port][pair]
      sent[port][pair] += 1
      let ring = rings[port][2 * pair + 1]
      if number < Bed.ringSize {
        ring.send(bytes, descriptor: number)
      } else {
        // A place that was used long ago.
        let place = ring.buffers + number % Bed.ringSize * 192
        ring.write([UInt8](repeating: 0, count: 12) + bytes, at: place)
        ring.describe(
          number % Bed.ringSize, address: ring.address(place), length: UInt32(12 + bytes.count))
        ring.offer(UInt16(number % Bed.ringSize))
      }
    }

    /// Lets ports 0 and 1 know each other.
    func introduce() {
      for port in 0...1 {
        send(SteeringTests.frame(200 + port, from: port, to: 9), from: port)
      }
      _ = take(0)
      _ = take(1)
    }

    func turn() {
      for worker in 0..<workers { _ = plane.turn(worker: worker) }
    }

    func send(_ bytes: [UInt8], from port: Int, pair: Int = 0) {
      put(bytes, from: port, pair: pair)
      turn()
    }

    /// What has come to a port since the last time, by pair.
    func take(_ port: Int) -> [Int: [[UInt8]]] {
      var frames: [Int: [[UInt8]]] = [:]
      for pair in 0..<taken[port].count {
        let ring = rings[port][2 * pair]
        while taken[port][pair] != Int(ring.usedIndex) {
          let used = ring.usedEntry(taken[port][pair])
          let place = ring.buffers + Int(used.id) * 2048
          frames[pair, default: []].append(ring.read(place + 12, Int(used.length) - 12))
          taken[port][pair] += 1
          ring.offer(UInt16(used.id))
        }
      }
      return frames
    }

    /// The pairs on which something has come to a port.
    func pairs(_ port: Int) -> [Int] { take(port).keys.sorted() }

    /// Lets a frame of each flow go from port to port and returns the pairs it came on.
    func places(_ flows: Range<Int>, from: Int, pair: Int = 0, to: Int) -> [Int] {
      flows.map { flow in
        send(SteeringTests.frame(flow, from: from, to: to), from: from, pair: pair)
        let came = pairs(to)
        #expect(came.count == 1)
        return came.first ?? -1
      }
    }

    func drops(_ port: Int, _ queue: Int) -> [DropReason: UInt64] {
      plane.counters(port: port, queue: queue)?.drops ?? [:]
    }
  }

  /// A frame of UDP flow `flow` between two ports.
  private static func frame(_ flow: Int, from: Int, to: Int, number: Int = 0) -> [UInt8] {
    let ports = [[UInt8(1), UInt8(flow)], [2, 0]]
    let ends = from < to ? ports : ports.reversed()
    return [2, 0, 0, 0, 0, UInt8(to), 2, 0, 0, 0, 0, UInt8(from), 8, 0]
      + [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, UInt8(from), 10, 0, 0, UInt8(to)]
      + ends.joined() + [0, 26, 0, 0, UInt8(number >> 8), UInt8(number & 0xFF)]
      + [UInt8](repeating: 7, count: 16)
  }

  /// Ports 0 of one pair and 1 of eight know each other.
  private func bed(enabled: Int = 16, workers: Int = 1) throws -> Bed {
    let bed = try Bed([1, 8], enabled: enabled, workers: workers)
    bed.introduce()
    return bed
  }

  @Test(
    "After initialisation frames come on receiveq1 alone, until more pairs are enabled (E33)",
    arguments: [1, 2])
  func first(workers: Int) throws {
    let bed = try bed(enabled: 1, workers: workers)
    #expect(Set(bed.places(0..<60, from: 0, to: 1)) == [0])
    for pair in 1..<8 { try bed.enable(pair, of: 1) }
    #expect(Set(bed.places(0..<60, from: 0, to: 1)).count > 4 / workers)
  }

  @Test(
    "A pair that is not enabled gets nothing, and what is in its transmitq is dropped by name (E34)",
    arguments: [1, 2])
  func disabled(workers: Int) throws {
    let bed = try bed(enabled: 4, workers: workers)
    #expect(Set(bed.places(0..<60, from: 0, to: 1)).isSubset(of: [0, 1, 2, 3]))
    for pair in 4..<8 {
      for flow in 0..<10 { bed.send(Self.frame(flow, from: 1, to: 0), from: 1, pair: pair) }
      #expect(bed.drops(1, 2 * pair + 1) == [.queueDisabled: 10])
    }
    #expect(bed.pairs(0) == [])
    // Nor has what was dropped told where the flows are.
    #expect(Set(bed.places(0..<10, from: 0, to: 1)).isSubset(of: [0, 1, 2, 3]))
  }

  @Test(
    "A flow comes on the pair that it was sent on last, and moves with it (E35)",
    arguments: [1, 2, 3])
  func follows(workers: Int) throws {
    let bed = try bed(workers: workers)
    for shift in [0, 3, 5] {
      for flow in 0..<40 {
        bed.send(Self.frame(flow, from: 1, to: 0), from: 1, pair: (flow + shift) % 8)
      }
      #expect(bed.pairs(0) == [0])
      #expect(bed.places(0..<40, from: 0, to: 1) == (0..<40).map { ($0 + shift) % 8 })
    }
  }

  @Test(
    "A flow that its receiver never sent stays on one pair, whichever that is (E35)",
    arguments: [1, 2])
  func unknown(workers: Int) throws {
    let bed = try bed(workers: workers)
    let places = bed.places(0..<60, from: 0, to: 1)
    #expect(Set(places).count > 2)
    for _ in 0..<3 { #expect(bed.places(0..<60, from: 0, to: 1) == places) }
  }

  @Test(
    "Between two ports of several pairs each side has its own pair for a flow (E35)",
    arguments: [1, 2])
  func bothSides(workers: Int) throws {
    let bed = try Bed([4, 8], workers: workers)
    bed.introduce()
    for flow in 0..<32 {
      bed.send(Self.frame(flow, from: 0, to: 1), from: 0, pair: flow % 4)
      bed.send(Self.frame(flow, from: 1, to: 0), from: 1, pair: 7 - flow % 8)
    }
    _ = bed.take(0)
    _ = bed.take(1)
    for flow in 0..<32 {
      #expect(bed.places(flow..<(flow + 1), from: 0, pair: flow % 4, to: 1) == [7 - flow % 8])
      #expect(
        bed.places(flow..<(flow + 1), from: 1, pair: 7 - flow % 8, to: 0) == [flow % 4])
    }
  }

  @Test("Flows of one burst part for their pairs; each stays in order, whatever lies between (E35)")
  func bursts() throws {
    let bed = try bed()
    for flow in 0..<16 {
      bed.send(Self.frame(flow, from: 1, to: 0), from: 1, pair: flow % 8)
    }
    var numbers = [Int](repeating: 0, count: 16)
    var expected = numbers
    var state: UInt64 = 1
    for round in 0..<40 {
      for _ in 0..<(1 + round % 48) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let flow = Int(state >> 60)
        // Now and then to everybody, and to an address that is known nowhere.
        var bytes = Self.frame(flow, from: 0, to: 1, number: numbers[flow])
        if state >> 40 & 15 == 0 { bytes[5] = 99 }
        bed.put(bytes, from: 0)
        numbers[flow] += 1
      }
      bed.turn()
      for (pair, frames) in bed.take(1) {
        for bytes in frames {
          let flow = Int(bytes[35])
          #expect(flow % 8 == pair)
          #expect(Int(bytes[42]) << 8 | Int(bytes[43]) == expected[flow])
          expected[flow] += 1
        }
      }
    }
    #expect(expected == numbers)
  }

  @Test(
    "A flow whose pair is disabled or stopped goes to another, and comes back with it (E36)",
    arguments: [1, 2])
  func reset(workers: Int) throws {
    let bed = try bed(workers: workers)
    for flow in 0..<24 { bed.send(Self.frame(flow, from: 1, to: 0), from: 1, pair: flow % 8) }
    for closed in [5, 2] {
      try bed.enable(closed, of: 1, false)
      let places = bed.places(0..<24, from: 0, to: 1)
      for (flow, place) in places.enumerated() {
        #expect(flow % 8 == closed ? place != closed : place == flow % 8)
      }
      // One of them has been sent on another pair meanwhile: it stays there.
      bed.send(Self.frame(closed, from: 1, to: 0), from: 1, pair: 7)
      try bed.enable(closed, of: 1)
      let after = bed.places(0..<24, from: 0, to: 1)
      #expect(after[closed] == 7)
      bed.send(Self.frame(closed, from: 1, to: 0), from: 1, pair: closed)
      #expect(bed.places(0..<24, from: 0, to: 1) == (0..<24).map { $0 % 8 })
    }
    #expect(bed.plane.stopRing(2 * 3, of: 1) != nil)
    #expect(!bed.places(0..<24, from: 0, to: 1).contains(3))
    for ring in 0..<8 where ring != 3 { #expect(bed.plane.stopRing(2 * ring, of: 1) != nil) }
    bed.send(Self.frame(0, from: 0, to: 1), from: 0)
    #expect(bed.drops(0, 1) == [.destinationDown: 1])
  }

  @Test("With one pair left what was recorded is forgotten (E36)")
  func forgets() throws {
    let bed = try bed()
    let unknown = bed.places(0..<24, from: 0, to: 1)
    for flow in 0..<24 { bed.send(Self.frame(flow, from: 1, to: 0), from: 1, pair: flow % 8) }
    #expect(bed.places(0..<24, from: 0, to: 1) == (0..<24).map { $0 % 8 })
    for pair in 1..<8 { try bed.enable(pair, of: 1, false) }
    #expect(bed.places(0..<24, from: 0, to: 1).allSatisfy { $0 == 0 })
    for pair in 1..<8 { try bed.enable(pair, of: 1) }
    #expect(bed.places(0..<24, from: 0, to: 1) == unknown)
  }

  @Test("A port's table goes with it; its successor begins anew")
  func removed() throws {
    let bed = try bed()
    for flow in 0..<8 { bed.send(Self.frame(flow, from: 1, to: 0), from: 1, pair: flow) }
    for _ in 0..<100 {
      bed.plane.removePort(try bed.plane.addPort(pairs: 8))
    }
    #expect(bed.places(0..<8, from: 0, to: 1) == Array(0..<8))
    bed.plane.removePort(1)
    #expect(try bed.plane.addPort(pairs: 4) == 1)
    bed.send(Self.frame(0, from: 0, to: 1), from: 0)
    #expect(bed.drops(0, 1) == [.noDestination: 1])
  }
}
