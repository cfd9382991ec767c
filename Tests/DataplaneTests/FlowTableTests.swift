import Linux
import Synchronization
import Testing

@testable import Dataplane

@Suite struct FlowTableTests {
  private let arena = Arena(node: 0, allowHuge: false)
  private let table: FlowTable

  init() throws { table = FlowTable(try arena.allocate(bytes: FlowTable.byteCount)) }

  private func flow(_ number: Int) -> FlowHash { FlowHash(UInt64(number), 0, kind: 0, key: 1) }

  /// Flows that all belong into one set.
  private func crowd(_ count: Int) -> [FlowHash] {
    Array((0...).lazy.map(flow).filter { $0.word & 0x3FF == 5 }.prefix(count))
  }

  @Test("A flow is on the pair it was sent on last; one never sent is on none (E35)")
  func records() {
    for number in 0..<500 { #expect(table.pair(of: flow(number)) == -1) }
    for number in 0..<500 { table.record(flow(number), pair: number % 256) }
    for number in 0..<500 { #expect(table.pair(of: flow(number)) == number % 256) }
    for number in 0..<500 { table.record(flow(number), pair: (number + 1) % 256) }
    for number in 0..<500 { #expect(table.pair(of: flow(number)) == (number + 1) % 256) }
    table.clear()
    for number in 0..<500 { #expect(table.pair(of: flow(number)) == -1) }
  }

  @Test(
    "Four flows fit where the hash puts them; flows of one frame do not displace one that goes on")
  func displaces() {
    let flows = crowd(200)
    for (number, flow) in flows.prefix(4).enumerated() { table.record(flow, pair: number) }
    for (number, flow) in flows.prefix(4).enumerated() { #expect(table.pair(of: flow) == number) }
    let lasting = flows[0]
    for flow in flows.dropFirst(4) {
      table.record(lasting, pair: 9)
      table.record(flow, pair: 1)
      #expect(table.pair(of: lasting) == 9)
      #expect(table.pair(of: flow) == 1)
    }
    // All four go on, and a fifth one comes: one of them makes room, the newest is there.
    table.clear()
    for _ in 0..<2 { for flow in flows.prefix(4) { table.record(flow, pair: 2) } }
    table.record(flows[4], pair: 3)
    #expect(table.pair(of: flows[4]) == 3)
    #expect(flows.prefix(4).count { table.pair(of: $0) == 2 } == 3)
    // Whoever was displaced comes back with the next frame.
    for flow in flows.prefix(4) {
      table.record(flow, pair: 2)
      #expect(table.pair(of: flow) == 2)
    }
  }

  @Test("Flows that others record, or have displaced, never show a pair they were not sent on")
  func concurrent() throws {
    let table = table
    let flows = crowd(6)
    let box = Box()
    // Flow n is sent on pairs n and n + 10 in turn.
    let writers = try (0..<2).map { writer in
      try Linux.Thread(name: "recorder") {
        for round in 0..<20_000 {
          let number = (round * 7 + writer) % flows.count
          table.record(flows[number], pair: round % 2 == 0 ? number : number + 10)
        }
      }
    }
    let reader = try Linux.Thread(name: "looker") {
      while !box.stop.load(ordering: .relaxed) {
        for (number, flow) in flows.enumerated() {
          let pair = table.pair(of: flow)
          if pair != -1, pair % 10 != number { box.wrong.store(true, ordering: .relaxed) }
        }
      }
    }
    for writer in writers { writer.join() }
    box.stop.store(true, ordering: .relaxed)
    reader.join()
    let wrong = box.wrong.load(ordering: .relaxed)
    #expect(!wrong)
    for (number, flow) in flows.enumerated() {
      table.record(flow, pair: number)
      #expect(table.pair(of: flow) == number)
    }
  }

  @Test("Where a flow is sent and where it was delivered, when and how far, are kept apart")
  func delivery() {
    let flow = flow(5)
    table.recordDelivery(flow, -1, pair: 255, at: .init(63), place: 0xFFFF)
    var entry = table.find(flow).entry
    #expect(entry.sent == -1 && entry.delivered == 255 && entry.place == 0xFFFF)
    #expect(entry.time == .init(63) && !entry.isMarked)
    table.record(flow, pair: 3)
    let index = table.find(flow).index
    table.recordDelivery(flow, index, pair: 0, at: .init(1), place: nil)
    entry = table.find(flow).entry
    #expect(entry.sent == 3 && entry.delivered == 0 && entry.place == nil)
    #expect(entry.time == .init(1) && entry.isMarked)
    // Another flow has the place meanwhile.
    table.clear()
    table.recordDelivery(flow, index, pair: 7, at: .init(2), place: 0)
    entry = table.find(flow).entry
    #expect(entry.sent == -1 && entry.delivered == 7 && entry.place == 0)
  }

  @Test("A pause is two seconds at least, across the clock's end too")
  func pause() {
    for start in 0..<64 {
      let time = FlowTable.Time(UInt8(start))
      for steps in 0..<64 {
        let later = FlowTable.Time(UInt8((start + steps) % 64))
        #expect(later.isPause(since: time) == (steps >= 3))
      }
    }
    // Two microseconds a tick, and four.
    #expect(FlowTable.Time(tick: 3 << 19).isPause(since: .init(tick: 0)))
    #expect(!FlowTable.Time(tick: 1_000_000).isPause(since: .init(tick: 0)))
  }

  private final class Box: Sendable {
    let stop = Atomic<Bool>(false)
    let wrong = Atomic<Bool>(false)
  }
}

extension FlowTable {
  /// The pair a flow was sent on last, or -1.
  func pair(of flow: FlowHash) -> Int { find(flow).entry.sent }
}
