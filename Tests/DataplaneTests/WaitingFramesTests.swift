import Testing

@testable import Dataplane

@Suite struct WaitingFramesTests {
  @Test("What comes out is what went in, in order, and no more than there is room for (E98)")
  func model() {
    var random = SystemRandomNumberGenerator()
    for capacity in [1 << 12, 1 << 13] {
      let frames = WaitingFrames.make(capacity: capacity)
      defer { frames.free() }
      var model: [(length: Int, until: UInt64)] = []
      var refused = 0
      for step in 0..<10_000 as Range<UInt64> {
        if Int.random(in: 0..<100, using: &random) < (step / 500 % 2 == 0 ? 60 : 40) {
          let length = Int.random(in: 1...capacity / 4, using: &random)
          if let place = unsafe frames.append(length, until: step) {
            unsafe place.initializeMemory(
              as: UInt8.self, repeating: UInt8(step & 0xFF), count: length)
            model.append((length, step))
          } else {
            refused += 1
            #expect(
              model.reduce(0) { $0 + $1.length + 32 } > capacity / 2,
              "half of it can always be used")
          }
        } else if let oldest = model.first {
          let first = unsafe frames.first
          #expect(unsafe first.length == oldest.length && first.until == oldest.until)
          let bytes = unsafe UnsafeRawBufferPointer(start: first.base, count: first.length)
          #expect(unsafe bytes.allSatisfy { $0 == UInt8(oldest.until & 0xFF) })
          frames.removeFirst()
          model.removeFirst()
        }
        #expect(frames.count == model.count)
      }
      #expect(refused > 0)
      #expect(frames.removeAll() == model.count && frames.count == 0)
    }
  }

  @Test("The least room that there may be holds the longest frames")
  func longest() {
    let frames = WaitingFrames.make(capacity: WaitingFrames.leastCapacity)
    defer { frames.free() }
    var count = 0
    while unsafe frames.append(Burst.maximumLength + 12, until: 0) != nil { count += 1 }
    #expect(count == 3)
  }
}
