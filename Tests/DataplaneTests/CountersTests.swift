import Testing

@testable import Dataplane

@Suite struct CountersTests {
  @Test("Each reason has a place of its own, and none lies behind the counters' memory")
  func places() throws {
    let spare = 16
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: Counters.byteCount + spare * 8, alignment: 64)
    defer { memory.deallocate() }
    memory.initializeMemory(as: UInt64.self, repeating: 0, count: Counters.byteCount / 8 + spare)
    let counters = Counters(memory)
    for (index, reason) in DropReason.allCases.enumerated() { counters.drop(reason, index + 1) }
    for (index, reason) in DropReason.allCases.enumerated() {
      #expect(counters.load(reason) == UInt64(index + 1), "\(reason)")
    }
    for place in 0..<spare {
      #expect(memory.load(fromByteOffset: Counters.byteCount + place * 8, as: UInt64.self) == 0)
    }
    let sample = counters.sample
    #expect(sample.drops.count == DropReason.allCases.count && sample.fault == nil)
    #expect(sample.frames == 0 && sample.bytes == 0 && sample.replicas == 0)
  }
}
