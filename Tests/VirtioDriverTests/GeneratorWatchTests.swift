import Testing

@testable import VirtioDriver

/// Single frames beside the traffic of all lanes.
@Suite struct GeneratorWatchTests {
  private let generator = Generator(capacity: 2)

  init() throws {
    for _ in 0..<2 {
      var lane = try Lane.alone(.init(ringSize: 32))
      lane.isSending = false
      generator.add(lane)
    }
  }

  /// Shows receive buffer `number` of lane 1 as filled, as its device would.
  private func arrive(_ number: UInt16) {
    generator[1].receiveq.writeUsedEntry(number, UInt32(number % 32), 12 + 64)
    generator[1].receiveq.usedIndex = number + 1
  }

  private var samples: [UInt32] {
    var all: [UInt32] = []
    generator.forEachSample { all.append($0) }
    return all
  }

  @Test("Each frame that arrives is a sample, and the next one goes only then")
  func arrivals() {
    generator.startSampling()
    var next: UInt16 = 0
    var prepared = 0
    let found = generator.watch(
      1, every: 0, seconds: 0.01,
      prepare: {
        // Nothing to be offered every other time.
        prepared += 1
        return prepared % 2 == 0
      },
      offer: {
        #expect(generator[1].counts.receivedFrames == UInt64(next))
        arrive(next)
        next += 1
      })
    #expect(found.offered == Int(next) && next > 0 && found.missed == 0)
    #expect(samples.count == found.offered)
    #expect(generator[1].counts.receivedFrames == UInt64(next))
  }

  @Test("One that does not arrive is missed, no sample, and waited for to the end")
  func missed() {
    generator.startSampling()
    generator[0].setFlows([.init(to: .station(2), from: .station(1))])
    let found = generator.watch(from: 0, to: 1, seconds: 0.001)
    #expect(found.offered == 1 && found.missed == 1 && found.seconds >= 1)
    #expect(samples.isEmpty && generator[0].counts.sentFrames == 1)
  }

  @Test("With a distance between frames there are no more than fit; without one there is none")
  func interval() {
    generator.startSampling()
    var next: UInt16 = 0
    let found = generator.watch(
      1, every: 0.01, seconds: 0.05, prepare: { true },
      offer: {
        arrive(next)
        next += 1
      })
    #expect(found.offered <= 5 && found.offered == samples.count)
    let none = generator.watch(
      1, every: nil, seconds: 0.001, prepare: { true }, offer: { Issue.record("offered") })
    #expect(none.offered == 0 && none.missed == 0)
  }

  @Test("Counts of some lanes leave the others out")
  func counts() {
    generator[0].setFlows([.init(to: .broadcast, from: .station(1))])
    generator.send(3, lane: 0)
    #expect(generator.counts(of: 0..<1).sentFrames == 3)
    #expect(generator.counts(of: 1..<2).sentFrames == 0)
    #expect(generator.counts.sentFrames == 3)
  }
}
