import ControlAPI
import Foundation
import Logging
import Switch
import Testing
import VirtioDriver

@testable import swivel_bench

/// The generator against a switch in this process: whatever is sent arrives whole, in order, and is accounted
/// for.
@Suite(.serialized) final class BedTests {
  private let folder: String
  private let fabric: Switch
  private var made = 0

  init() throws {
    folder = "/tmp/swivel-bench-test-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    fabric = try Switch(
      .init(cpus: [0], pinned: false, busy: false, macEntries: 4096, macAge: 300, hugepages: false),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  deinit {
    fabric.stop()
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// A bed on as many fresh ports as the plan wants, from whatever CPU this test runs on.
  private func bed(_ plan: Plan) throws -> Bed {
    var plan = plan
    plan.cpu = nil
    made += plan.allPorts
    let paths = (made - plan.allPorts..<made).map { "\(folder)/\($0).sock" }
    for path in paths {
      _ = try fabric.addPort(
        PortRequest(
          name: "p\(path.split(separator: "/").last?.prefix { $0 != "." } ?? "")",
          vhostUser: VhostUserRequest(path: path, queues: plan.queues)))
    }
    return try Bed(paths: paths, plan: plan)
  }

  private func plan(_ change: (inout Plan) -> Void) -> Plan {
    var plan = Plan()
    plan.sizes = [.one(64)]
    plan.verify = true
    plan.seconds = 0.05
    plan.warmup = 0
    change(&plan)
    return plan
  }

  /// Sends `frames` from each port and holds the outcome to what was sent.
  private func check(_ plan: Plan, frames: UInt64 = 2000) throws {
    let bed = try bed(plan)
    for sizes in plan.sizes {
      bed.prepare(sizes)
      bed.generator.startVerifying()
      let before = bed.generator.counts
      let drops = fabric.stats()
      bed.generator.run(seconds: 20, .init(frames: frames, verified: true))
      try bed.drain(verified: true)
      try bed.check()
      let counts = bed.generator.counts - before
      let found = bed.generator.verified
      #expect(counts.sentFrames == frames * UInt64(bed.senders.count))
      #expect(found.corrupt == 0 && found.disordered == 0)
      #expect(found.whole == counts.receivedFrames && found.whole > 0)
      let due = counts.sentFrames * UInt64(bed.copies)
      let after = fabric.stats()
      let dropped =
        after.received.dropped + after.sent.dropped - drops.received.dropped - drops.sent.dropped
      #expect(due == counts.receivedFrames + dropped)
    }
  }

  @Test("Pairs, one size after another")
  func pairs() throws {
    try check(plan { $0.sizes = [.one(60), .one(64), .one(1518), .imix] })
  }

  @Test("Several pairs and addresses")
  func addresses() throws {
    try check(
      plan {
        $0.ports = 4
        $0.macs = 7
      })
  }

  @Test("Without mergeable buffers")
  func plain() throws {
    try check(plan { $0.mergeable = false })
  }

  @Test("Through indirect tables")
  func indirect() throws {
    try check(
      plan {
        $0.indirect = true
        $0.sizes = [.one(64), .one(9000)]
      })
  }

  @Test("Segmented frames, not cut where both ends can take them whole")
  func segmented() throws {
    try check(
      plan {
        $0.segmented = true
        $0.sizes = [.one(64), .one(9000), .one(65226)]
        $0.bufferSize = 4096
      }, frames: 200)
  }

  @Test(
    "Packed rings, and rings in order",
    arguments: [(Ring.packed, false), (.split, true), (.packed, true)])
  func layouts(ring: Ring, inOrder: Bool) throws {
    try check(
      plan {
        $0.ring = ring
        $0.inOrder = inOrder
        $0.sizes = [.one(64), .imix, .one(2000)]
      })
    try check(
      plan {
        $0.ring = ring
        $0.inOrder = inOrder
        $0.indirect = true
        $0.sizes = [.one(64), .one(9000)]
      }, frames: 300)
  }

  @Test("Frames of many descriptors into many buffers")
  func large() throws {
    try check(plan { $0.sizes = [.one(9000), .one(65549), .one(64)] }, frames: 300)
  }

  @Test("Large frames into one buffer each")
  func largeWhole() throws {
    try check(
      plan {
        $0.mergeable = false
        $0.sizes = [.one(9000)]
      }, frames: 500)
  }

  @Test("Many to one")
  func manyToOne() throws {
    try check(
      plan {
        $0.pattern = .manyToOne
        $0.ports = 4
      })
  }

  @Test("Flood: a copy to each of the others")
  func flood() throws {
    try check(
      plan {
        $0.pattern = .flood
        $0.ports = 4
      })
  }

  @Test("A rate that is offered is kept to")
  func rate() throws {
    let plan = plan { $0.seconds = 0.2 }
    let bed = try bed(plan)
    bed.prepare(.one(64))
    let before = bed.generator.counts
    let took = bed.generator.run(seconds: 0.2, .init(rate: 10_000))
    try bed.drain()
    let sent = Double((bed.generator.counts - before).sentFrames) / 2
    // Never more than was due; less when somebody else had the processor.
    #expect(sent <= 10_000 * took + 1)
    #expect(sent > 0)
  }

  @Test("Times are taken of every frame, and are not negative or absurd")
  func latency() throws {
    let plan = plan {
      $0.mode = .latency
      $0.rate = 5000
      $0.seconds = 0.2
    }
    let result = try Runner(bed: try bed(plan), plan: plan, progress: nil).run(.one(64))
    let latency = try #require(result.latency)
    #expect(UInt64(latency.samples) <= result.sentFrames && latency.samples > 0)
    #expect(latency.minimum > 0 && latency.maximum < 60e6)
    #expect(latency.minimum <= latency.mean && latency.mean <= latency.maximum)
  }

  @Test("A frame goes there and back")
  func ping() throws {
    let plan = plan {
      $0.mode = .ping
      $0.seconds = 0.1
    }
    let runner = Runner(bed: try bed(plan), plan: plan, progress: nil)
    var samples = 0
    // Where others have the processors, no frame may come back in a tenth of a second.
    for _ in 0..<200 where samples == 0 {
      let result = try runner.run(.one(64))
      samples = result.latency?.samples ?? 0
      #expect(result.sentFrames == result.receivedFrames)
    }
    #expect(samples > 0)
  }

  @Test("Idle guests are there, known to the switch, and get nothing", arguments: Ring.allCases)
  func idle(ring: Ring) throws {
    let plan = plan {
      $0.idlePorts = 8
      $0.ring = ring
    }
    let bed = try bed(plan)
    #expect(bed.idle.guests.count == 8)
    for number in 0..<8 {
      let address = "\(IdleGuests.address(number))"
      #expect(fabric.macs().contains { $0.mac == address })
    }
    bed.prepare(.one(64))
    bed.generator.startVerifying()
    let before = bed.generator.counts
    // At a rate that any machine can keep to: then nothing may be lost.
    bed.generator.run(seconds: 20, .init(rate: 2000, frames: 200, verified: true))
    try bed.drain(verified: true)
    try bed.check()
    let counts = bed.generator.counts - before
    #expect(counts.sentFrames == 400 && counts.receivedFrames == 400)
    #expect(bed.generator.verified.whole == 400)
    for guest in bed.idle.guests {
      #expect(guest.receive() == nil)
      #expect(guest.statistics.sentFrames == 1 && guest.pairs[0].transmitq.outstanding == 0)
    }
  }

  @Test("A frame goes there and back beside idle guests")
  func pingBesideIdle() throws {
    let plan = plan {
      $0.mode = .ping
      $0.seconds = 0.1
      $0.idlePorts = 3
      $0.mergeable = false
    }
    let result = try Runner(bed: try bed(plan), plan: plan, progress: nil).run(.one(64))
    #expect(result.sentFrames == result.receivedFrames && result.sentFrames > 0)
  }

  /// Single frames beside busy ports: none is missed, and their guests get nothing else.
  private func checkSingle(_ plan: Plan, _ sizes: Sizes) throws -> (Outcome, Bed) {
    let bed = try bed(plan)
    let result = try Runner(bed: bed, plan: plan, progress: nil).run(sizes)
    let single = try #require(result.single)
    #expect(single.offered > 0 && single.missed == 0)
    #expect(result.latency?.samples == single.offered)
    #expect(result.receivedFrames > 0)
    for lane in bed.watched {
      #expect(bed.generator[lane].counts.receivedFrames <= UInt64(single.offered + 16))
    }
    return (result, bed)
  }

  @Test("A frame of a silent guest arrives beside busy ones, each guest in turn")
  func cold() throws {
    let plan = plan {
      $0.mode = .cold
      $0.verify = false
      $0.seconds = 0.3
      $0.interval = 0.001
      $0.idlePorts = 4
      $0.warmup = 0.01
    }
    let (result, bed) = try checkSingle(plan, .one(64))
    #expect(bed.idle.guests.count == 3 && bed.watched == [2])
    let sent = bed.idle.guests.map { $0.statistics.sentFrames }
    // One more: the first, by which the switch came to know it.
    #expect(sent.reduce(0, +) == 3 + (result.single?.offered ?? 0))
    #expect((sent.max() ?? 0) - (sent.min() ?? 0) <= 1)
    // The switch of this test sleeps.
    #expect((result.single?.kicked ?? -1) >= 0)
  }

  @Test("Small frames one at a time beside segmented ones of 64 KiB")
  func mixed() throws {
    let plan = plan {
      $0.verify = false
      $0.mixed = true
      $0.sizes = [.one(65226)]
      $0.segmented = true
      $0.bufferSize = 4096
      $0.seconds = 0.4
      $0.idlePorts = 1
    }
    let (result, bed) = try checkSingle(plan, .one(65226))
    #expect(bed.watched == [2, 3] && bed.idle.guests.count == 1)
    #expect((result.gbpsAlone ?? 0) > 0 && result.gbps > 0)
  }

  @Test("The yardstick is measured in the buffers that are in use, and harms no frame")
  func memcpy() throws {
    let plan = plan {
      $0.memcpy = true
      $0.sizes = [.one(1514), .one(9000)]
      $0.rate = 500
      $0.seconds = 0.1
    }
    let runner = Runner(bed: try bed(plan), plan: plan, progress: nil)
    for sizes in plan.sizes {
      let result = try runner.run(sizes)
      #expect((result.memcpyGbps ?? 0) > 0)
      #expect(result.verification.map { $0.corrupt == 0 && $0.disordered == 0 } == true)
      #expect(result.lostFrames == 0)
    }
    let alone = try GeneratorAlone.copy(.one(65226), plan)
    #expect(alone.mode == .memcpy && alone.gbps > 0 && alone.receivedFrames > 0)
  }

  @Test("An idle guest that the switch has hung up on is named")
  func idleClosed() throws {
    let plan = plan { $0.idlePorts = 2 }
    let bed = try bed(plan)
    try bed.check()
    try fabric.removePort(named: "p\(made - 1)")
    let error = #expect(throws: BenchError.self) { try bed.check() }
    #expect(error?.description.contains("\(made - 1).sock") == true)
  }

  @Test("What the switch does not offer is named")
  func notOffered() throws {
    let plan = plan {
      $0.queues = 2
      $0.cpu = nil
    }
    _ = try fabric.addPort(
      PortRequest(name: "one", vhostUser: VhostUserRequest(path: "\(folder)/one.sock", queues: 1)))
    #expect(throws: BenchError.self) {
      _ = try Bed(paths: ["\(self.folder)/one.sock"], plan: plan)
    }
  }
}
