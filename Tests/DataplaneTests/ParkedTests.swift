import Linux
import Synchronization
import Testing

@testable import Dataplane

/// Bursts that can't be delivered at once, as another worker holds a receiveq.
@Suite struct ParkedTests {
  /// Three senders and two receivers at the first of two workers, which is turned by hand; the test is the other one.
  private struct Bed {
    let plane: Dataplane
    let senders: [RingMemory]
    let receivers: [RingMemory]
    let ports: [Int]
    private let states: [QueueState]

    init() throws {
      plane = try Dataplane(
        .init(
          workers: [.init(cpu: nil, node: 0), .init(cpu: nil, node: 0)], hugepages: false,
          threads: false))
      let plane = plane
      ports = try (0..<5).map { _ in try plane.addPort(pairs: 1) }
      let ports = ports
      senders = try (0..<3).map { place in
        let ring = try RingMemory(size: 64)
        try plane.startRing(1, of: ports[place], ring.setup(), memory: ring.memory, worker: 0)
        return ring
      }
      receivers = try (3..<5).map { place in
        let ring = try RingMemory(size: 64)
        for index in 0..<64 {
          ring.describe(index, address: ring.address(ring.allocate(2048)), length: 2048, flags: 2)
          ring.offer(UInt16(index))
        }
        try plane.startRing(0, of: ports[place], ring.setup(), memory: ring.memory, worker: 0)
        plane.learn(Bed.station(place), port: ports[place])
        return ring
      }
      states = (3..<5).map { place in
        plane.state.withLock { $0.ports[ports[place]]!.state.queue(0) }
      }
    }

    static func station(_ place: Int) -> MACAddress {
      MACAddress([0x52, 0x54, 0, 0, 0, UInt8(place)])
    }

    /// Sends frames with these numbers from a sender to a receiver (3 or 4), or to all.
    func send(_ numbers: [UInt8], from sender: Int, to receiver: Int?, at first: Int = 0) {
      for (place, number) in numbers.enumerated() {
        let target =
          receiver.map { [0x52, 0x54, 0, 0, 0, UInt8($0)] } ?? [UInt8](repeating: 0xFF, count: 6)
        senders[sender].send(
          target + [0x52, 0x54, 0, 0, 0, UInt8(sender), 0x88, 0xB5, UInt8(sender), number]
            + [UInt8](repeating: 0, count: 48), descriptor: first + place)
      }
    }

    /// Holds a receiver's queue, as another worker does.
    func hold(_ receiver: Int) { states[receiver - 3].lock.pointee.store(1, ordering: .releasing) }
    func release(_ receiver: Int) {
      states[receiver - 3].lock.pointee.store(0, ordering: .releasing)
    }

    /// Senders and numbers of the frames that a receiver has got, in order.
    func received(_ receiver: Int) -> [[UInt8]] {
      let ring = receivers[receiver - 3]
      return (0..<Int(ring.usedIndex)).map { place in
        let at = ring.buffers + 2048 * Int(ring.usedEntry(place).id) + 12 + 14
        return ring.read(at, 2)
      }
    }

    func drops(_ sender: Int) -> [DropReason: UInt64] {
      plane.counters(port: ports[sender], queue: 1)?.drops ?? [:]
    }
  }

  /// A turn, while which what is held is let go as soon as `condition` holds. Returns the frames taken.
  private func releasing(
    _ bed: Bed, _ receiver: Int, when condition: @escaping @Sendable () -> Bool
  ) throws -> Int {
    let holder = Holder(bed: { bed.release(receiver) }, condition: condition)
    let thread = try Linux.Thread(name: "holder") { holder.run() }
    defer { thread.join() }
    return bed.plane.turn()
  }

  @safe private final class Holder: @unchecked Sendable {
    let release: () -> Void
    let condition: () -> Bool
    init(bed release: @escaping () -> Void, condition: @escaping () -> Bool) {
      self.release = release
      self.condition = condition
    }
    func run() {
      let end = ContinuousClock.now + .milliseconds(50)
      while !condition(), ContinuousClock.now < end {}
      release()
    }
  }

  @Test("Others get theirs first; what was put aside arrives when the queue is free, in order")
  func order() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    bed.hold(3)
    // Two destinations in turns, and then a flood, which may not overtake.
    for number in 0..<10 as Range<UInt8> {
      bed.send([number], from: 0, to: number % 2 == 0 ? 3 : 4, at: Int(number))
    }
    bed.send([10, 11], from: 0, to: nil, at: 10)
    bed.send([20, 21], from: 1, to: 4)
    let other = bed.receivers[1]
    // The others are not waited for: one has all of its frames while the first is still held.
    nonisolated(unsafe) let ring = other
    #expect(try releasing(bed, 3, when: { ring.usedIndex >= 9 }) == 14)
    #expect(bed.received(3) == [0, 2, 4, 6, 8, 10, 11].map { [0, $0] })
    #expect(bed.received(4).filter { $0[0] == 0 } == [1, 3, 5, 7, 9, 10, 11].map { [0, $0] })
    #expect(bed.received(4).filter { $0[0] == 1 } == [[1, 20], [1, 21]])
    #expect(bed.senders[0].usedIndex == 12 && bed.senders[1].usedIndex == 2)
    #expect((0..<3).allSatisfy { bed.drops($0).isEmpty })
    // And it is looked at again.
    bed.send([30], from: 0, to: 3, at: 20)
    #expect(bed.plane.turn() == 1)
    #expect(bed.received(3).last == [0, 30])
  }

  @Test("More bursts than can be put aside wait for their queue, and none is lost")
  func several() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    bed.hold(3)
    for sender in 0..<3 {
      bed.send([0, 1, 2], from: sender, to: 3)
      bed.send([3], from: sender, to: nil, at: 3)
    }
    #expect(try releasing(bed, 3, when: { false }) == 12)
    let received = bed.received(3)
    #expect(received.count == 12)
    for sender in 0..<3 as Range<UInt8> {
      #expect(received.filter { $0[0] == sender }.map { $0[1] } == [0, 1, 2, 3])
    }
    #expect(bed.senders.allSatisfy { $0.usedIndex == 4 })
    #expect((0..<3).allSatisfy { bed.drops($0)[.queueBusy] == nil })
  }

  @Test("queue_busy: a holder that does not come back is given up; buffers go back all the same")
  func lost() throws {
    let bed = try Bed()
    defer { bed.plane.stop() }
    bed.hold(3)
    for sender in 0..<3 { bed.send([0, 1], from: sender, to: 3) }
    bed.send([2], from: 0, to: 4, at: 2)
    #expect(bed.plane.turn() == 7)
    #expect(bed.received(3).isEmpty)
    #expect(bed.received(4) == [[0, 2]])
    #expect(bed.senders.map(\.usedIndex) == [3, 2, 2])
    for sender in 0..<3 { #expect(bed.drops(sender) == [.queueBusy: 2]) }
    bed.release(3)
    bed.send([5], from: 2, to: 3, at: 5)
    #expect(bed.plane.turn() == 1)
    #expect(bed.received(3) == [[2, 5]])
  }
}
