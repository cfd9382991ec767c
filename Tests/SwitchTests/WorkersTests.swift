import ControlAPI
import Foundation
import Linux
import Logging
import Switch
import Synchronization
import Testing
import VirtioDriver

/// Several workers that share ports.
extension SwitchTests {
  @Suite struct WorkersTests {
    /// Fewer pairs than workers, which share them, and more.
    static let shapes: [(workers: Int, pairs: Int)] =
      Upheaval.isReduced ? [(2, 1), (3, 4)] : [(2, 1), (2, 4), (3, 1), (3, 4)]

    private func bench(_ shape: (workers: Int, pairs: Int), guests count: Int) throws -> (
      Bench, [GuestPort]
    ) {
      let bench = try Bench(workers: shape.workers)
      var options = GuestPort.Options()
      options.queuePairs = shape.pairs
      let guests = try bench.guests(count, options)
      try introduce(guests)
      return (bench, guests)
    }

    @Test(
      "A worker that somebody moves to another CPU is shown there",
      .enabled(if: Affinity.current.count > 1, "needs two CPUs"))
    func movedWorker() throws {
      let cpus = Affinity.current
      let network = try Switch(
        .init(cpus: [cpus[0]], hugepages: false),
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      defer { network.stop() }
      #expect(eventually { network.workers()[0].cpu == cpus[0] })
      // Other tests have workers too, which go wherever they like: a pinned one may be moved and be back.
      for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task") {
        let name = SmallFile.read("/proc/self/task/\(thread)/comm") ?? ""
        guard name.hasPrefix("worker/0") else { continue }
        Command.run("taskset", "-pc", "\(cpus[1])", thread)
      }
      #expect(eventually { network.workers()[0].cpu == cpus[1] })
    }

    @Test("Transmitqs are spread evenly over the workers", arguments: shapes)
    func spread(_ shape: (workers: Int, pairs: Int)) throws {
      let (bench, guests) = try bench(shape, guests: 3)
      let loads = bench.fabric.workers().map(\.queues.count)
      #expect(loads.reduce(0, +) == 3 * shape.pairs)
      #expect(loads.max()! - loads.min()! <= 1)
      // What a guest gives back is placed anew where there is room.
      try bench.fabric.removePort(named: "g1")
      try guests[0].stop()
      try guests[0].restart()
      let after = bench.fabric.workers().map(\.queues.count)
      #expect(after.reduce(0, +) == 2 * shape.pairs)
      #expect(after.max()! - after.min()! <= shape.pairs)
      try guests[0].announce(.station(0))
      #expect(!guests[2].collect().isEmpty)
      bench.expectBalance()
    }

    @Test(
      "All send to one port: every frame arrives, each stream in order (E35)", arguments: shapes)
    func manyToOne(_ shape: (workers: Int, pairs: Int)) throws {
      let (bench, guests) = try bench(shape, guests: 4)
      let limit = UInt64(Upheaval.share(of: 600))
      var progress: [UInt32: StreamProgress] = [:]
      for sender in 1...3 {
        for queue in 0..<shape.pairs { progress[UInt32(10 * sender + queue)] = StreamProgress() }
      }
      let receivers = try (0..<shape.pairs).map { queue in
        try Station(guests[0], queue: queue, flows: [], progress: progress)
      }
      var senders: [Station] = []
      for sender in 1...3 {
        for queue in 0..<shape.pairs {
          let stream = UInt32(10 * sender + queue)
          senders.append(
            try Station(
              guests[sender], queue: queue,
              flows: [
                .init(
                  to: .station(0), from: .station(sender), progress: progress[stream],
                  stream: stream)
              ], limit: limit, window: UInt64(64 / shape.pairs)))
        }
      }
      let complete = eventually {
        progress.values.allSatisfy { $0.next.load(ordering: .relaxed) >= limit }
          || bench.fabric.stats().sent.dropped + bench.fabric.stats().received.dropped > 0
            && guests.dropFirst().allSatisfy { _ in
              bench.fabric.stats().received.frames >= limit * UInt64(3 * shape.pairs) + 4
            }
      }
      #expect(complete)
      for sender in senders { _ = sender.stop() }
      for guest in guests.dropFirst() { guest.settle() }
      var received = 0
      for receiver in receivers {
        let result = receiver.stop()
        // A stream stays on one receiveq (E35), so that its frames stay in order.
        #expect(result.corrupt == 0 && result.reordered == 0)
        received += result.received
      }
      received += guests[0].collect().count
      let dropped = bench.fabric.stats().received.dropped + bench.fabric.stats().sent.dropped
      #expect(UInt64(received) + dropped == limit * UInt64(3 * shape.pairs))
      // Nobody's frame is lost because another worker was filling the queue.
      #expect(bench.fabric.stats().received.drops["queue_busy"] == nil)
      bench.expectBalance(.named(guests))
    }

    @Test("Everyone floods: each copy arrives or is dropped by name", arguments: shapes)
    func flood(_ shape: (workers: Int, pairs: Int)) throws {
      let (bench, guests) = try bench(shape, guests: 4)
      let before = bench.fabric.stats()
      let limit = UInt64(Upheaval.share(of: 150))
      let stations = try guests.indices.flatMap { index in
        try (0..<shape.pairs).map { queue in
          try Station(
            guests[index], queue: queue,
            flows: [
              .init(
                to: .broadcast, from: .station(index), progress: nil,
                stream: UInt32(10 * index + queue))
            ], limit: limit)
        }
      }
      let total = limit * UInt64(4 * shape.pairs)
      #expect(
        eventually { bench.fabric.stats().received.frames - before.received.frames == total })
      let results = stations.map { $0.stop() }
      for guest in guests { guest.settle() }
      let rest = guests.map { $0.collect().count }.reduce(0, +)
      #expect(results.allSatisfy { $0.corrupt == 0 && $0.reordered == 0 })
      let received = results.map(\.received).reduce(0, +) + rest
      let stats = bench.fabric.stats()
      let dropped = stats.received.dropped + stats.sent.dropped
      #expect(UInt64(received) + dropped == 3 * total)
      #expect(
        Set(stats.received.drops.keys).union(stats.sent.drops.keys)
          .isSubset(of: ["no_receive_buffer"]))
      bench.expectBalance(.named(guests))
    }
  }
}
