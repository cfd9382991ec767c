import Testing

@testable import Dataplane

/// On which receiveq a frame comes, where a port has several: virtio v1.4, 5.1.9.5.6.
@Suite struct SteeringTests {
  /// Ports 0 of one pair and 1 of eight know each other.
  private func bed(enabled: Int = 16, workers: Int = 1) throws -> SteeringBed {
    let bed = try SteeringBed([1, 8], enabled: enabled, workers: workers)
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
      for flow in 0..<10 { bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: pair) }
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
        bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: (flow + shift) % 8)
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
    let bed = try SteeringBed([4, 8], workers: workers)
    bed.introduce()
    for flow in 0..<32 {
      bed.send(SteeringBed.frame(flow, from: 0, to: 1), from: 0, pair: flow % 4)
      bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: 7 - flow % 8)
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
      bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: flow % 8)
    }
    var numbers = [Int](repeating: 0, count: 16)
    var expected = numbers
    var state: UInt64 = 1
    for round in 0..<40 {
      for _ in 0..<(1 + round % 48) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let flow = Int(state >> 60)
        // Now and then to everybody, and to an address that is known nowhere.
        var bytes = SteeringBed.frame(flow, from: 0, to: 1, number: numbers[flow])
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
    for flow in 0..<24 {
      bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: flow % 8)
    }
    for closed in [5, 2] {
      try bed.enable(closed, of: 1, false)
      let places = bed.places(0..<24, from: 0, to: 1)
      for (flow, place) in places.enumerated() {
        #expect(flow % 8 == closed ? place != closed : place == flow % 8)
      }
      // One of them has been sent on another pair meanwhile: it stays there.
      bed.send(SteeringBed.frame(closed, from: 1, to: 0), from: 1, pair: 7)
      try bed.enable(closed, of: 1)
      let after = bed.places(0..<24, from: 0, to: 1)
      #expect(after[closed] == 7)
      bed.send(SteeringBed.frame(closed, from: 1, to: 0), from: 1, pair: closed)
      #expect(bed.places(0..<24, from: 0, to: 1) == (0..<24).map { $0 % 8 })
    }
    #expect(bed.plane.stopRing(2 * 3, of: 1) != nil)
    #expect(!bed.places(0..<24, from: 0, to: 1).contains(3))
    for ring in 0..<8 where ring != 3 { #expect(bed.plane.stopRing(2 * ring, of: 1) != nil) }
    bed.send(SteeringBed.frame(0, from: 0, to: 1), from: 0)
    #expect(bed.drops(0, 1) == [.destinationDown: 1])
  }

  @Test("With one pair left what was recorded is forgotten (E36)")
  func forgets() throws {
    let bed = try bed()
    let unknown = bed.places(0..<24, from: 0, to: 1)
    for flow in 0..<24 {
      bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: flow % 8)
    }
    #expect(bed.places(0..<24, from: 0, to: 1) == (0..<24).map { $0 % 8 })
    for pair in 1..<8 { try bed.enable(pair, of: 1, false) }
    #expect(bed.places(0..<24, from: 0, to: 1).allSatisfy { $0 == 0 })
    for pair in 1..<8 { try bed.enable(pair, of: 1) }
    #expect(bed.places(0..<24, from: 0, to: 1) == unknown)
  }

  @Test("A port's table goes with it; its successor begins anew")
  func removed() throws {
    let bed = try bed()
    for flow in 0..<8 { bed.send(SteeringBed.frame(flow, from: 1, to: 0), from: 1, pair: flow) }
    for _ in 0..<100 {
      bed.plane.removePort(try bed.plane.addPort(pairs: 8))
    }
    #expect(bed.places(0..<8, from: 0, to: 1) == Array(0..<8))
    bed.plane.removePort(1)
    #expect(try bed.plane.addPort(pairs: 4) == 1)
    bed.send(SteeringBed.frame(0, from: 0, to: 1), from: 0)
    #expect(bed.drops(0, 1) == [.noDestination: 1])
  }
}
