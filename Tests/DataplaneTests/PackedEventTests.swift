import Linux
import Testing

@testable import Dataplane

@Suite struct PackedEventTests {
  @Test("E30 2.8.10: the driver is interrupted as its structure says", arguments: [false, true])
  func interrupts(eventIndex: Bool) throws {
    for size in [1, 2, 3, 7] {
      for start in 0..<(2 * size) {
        let call = try EventFD()
        let driver = try PackedDriver(size: size, start: start)
        let bench = try Bench()
        for count in 1...size {
          for flags: UInt16 in 0...3 {
            for event in 0..<(2 * size) {
              var queue = try bench.queue(
                driver, driver.setup(eventIndex: eventIndex, call: call.descriptor))
              queue.notify()
              driver.setDriverEvent(flags | 0x10, driver.word(event))
              for _ in 0..<count { queue.use(0, span: 1, written: 0) }
              queue.publish()
              queue.notify()
              // Whether one of the descriptors passed is the one asked for, wrap counter included.
              let passed = (start..<(start + count)).contains {
                driver.word($0) == driver.word(event)
              }
              let wanted =
                switch flags {
                case 1: false
                case 2: !eventIndex || passed
                default: true
                }
              #expect(
                call.drain() == (wanted ? 1 : 0),
                "size \(size), \(start) + \(count), flags \(flags), event \(event)")
              queue.notify()
              #expect(call.drain() == 0, "said once")
            }
          }
        }
      }
    }
  }

  @Test("HG-17: an event beyond the ring is none, and harms nothing")
  func poison() throws {
    let call = try EventFD()
    let driver = try PackedDriver(size: 7)
    let bench = try Bench()
    var queue = try bench.queue(driver, driver.setup(eventIndex: true, call: call.descriptor))
    for word in stride(from: 0, through: UInt16.max, by: 97) {
      driver.setDriverEvent(2, word)
      queue.use(0, span: 3, written: 0)
      queue.publish()
      queue.notify()
    }
  }

  @Test("E30: kicks are unwanted while polling, wanted before sleep", arguments: [false, true])
  func kicks(eventIndex: Bool) throws {
    let driver = try PackedDriver(size: 5, start: 8)
    let bench = try Bench()
    var queue = try bench.queue(driver, driver.setup(eventIndex: eventIndex))
    queue.suppressKicks()
    #expect(driver.deviceEvent.flags == 1)
    #expect(!queue.requestKicks())
    #expect(driver.deviceEvent.flags == (eventIndex ? 2 : 0))
    if eventIndex { #expect(driver.deviceEvent.word == driver.word(8)) }
    driver.send(frame())
    #expect(queue.requestKicks(), "what came meanwhile is seen")
    #expect(bench.gather(&queue).frames == 1)
    #expect(!queue.requestKicks())
    if eventIndex { #expect(driver.deviceEvent.word == driver.word(9)) }
  }
}
