import ControlAPI
import Dataplane
import Foundation
import Linux
import Logging
import Synchronization
import Testing
import VirtioDriver

@testable import Switch

extension SwitchTests {
  /// Workers come and go while guests talk.
  @Suite struct ChangingWorkersTests {
    private func numbers(_ bench: Bench) -> [Int] { bench.fabric.workers().map(\.id) }

    @Test(
      "Workers come and go under traffic, the first and the last of them too: nothing is lost, all comes in order, no count falls",
      arguments: RingLayoutTests.Layout.allCases)
    func comeAndGo(_ layout: RingLayoutTests.Layout) throws {
      let bench = try Bench(workers: 1)
      var options = layout.options()
      // More than a station has under way: what waits for a worker must find room afterwards.
      options.ringSize = layout.features.contains(.ringPacked) ? 127 : 128
      let guests = try bench.guests(4, options)
      let traffic = try SteadyTraffic(guests)
      #expect(traffic.advance(by: 20))
      var before = bench.fabric.stats()
      for round in 0..<Upheaval.share(of: 12) {
        let present = numbers(bench)
        if present.count < 3, round % 3 != 2 {
          let added = try bench.fabric.addWorker(.init(cpu: 0))
          #expect(!present.contains(added.id))
          #expect(numbers(bench) == (present + [added.id]).sorted())
          _ = bench.fabric.rebalance(measuring: .milliseconds(20))
        } else {
          let going = present[round % present.count]
          try bench.fabric.removeWorker(going)
          #expect(numbers(bench) == present.filter { $0 != going })
        }
        #expect(traffic.advance(by: 20))
        let after = bench.fabric.stats()
        for (old, new) in zip(before.ports, after.ports) {
          #expect(
            new.received.frames >= old.received.frames && new.sent.frames >= old.sent.frames)
        }
        before = after
        let polled = bench.fabric.workers().flatMap(\.queues)
        #expect(polled.count == 4)
      }
      #expect(bench.fabric.placement.withLock { $0.loads.reduce(0, +) } == 4)
      try traffic.expectNothingLost()
      bench.expectBalance(.named(guests))
    }

    @Test(
      "A worker that was alone and gets another beside it shares receiveqs from then on, and each stream stays in order",
      arguments: [1, 2])
    func alone(pairs: Int) throws {
      let bench = try Bench(workers: 1)
      var options = GuestPort.Options()
      options.queuePairs = pairs
      let guests = try bench.guests(4, options)
      try introduce(guests)
      // Three send to one, whose receiveqs each of their workers fills.
      let limit = UInt64(Upheaval.share(of: 3000))
      var progress: [UInt32: StreamProgress] = [:]
      for sender in 1...3 {
        for queue in 0..<pairs { progress[UInt32(10 * sender + queue)] = StreamProgress() }
      }
      let receivers = try (0..<pairs).map { queue in
        try Station(guests[0], queue: queue, flows: [], progress: progress)
      }
      let senders = try progress.map { stream, progress in
        let sender = Int(stream / 10)
        return try Station(
          guests[sender], queue: Int(stream % 10),
          flows: [
            .init(to: .station(0), from: .station(sender), progress: progress, stream: stream)
          ], limit: limit, window: UInt64(64 / pairs))
      }
      func arrived(_ count: UInt64) -> Bool {
        eventually {
          progress.values.reduce(0) { $0 + $1.next.load(ordering: .relaxed) } >= count
        }
      }
      let total = limit * UInt64(progress.count)
      #expect(arrived(total / 8))
      _ = try bench.fabric.addWorker(.init(cpu: 0))
      for port in bench.fabric.allPorts.dropFirst(2) {
        try port.move(Dictionary(uniqueKeysWithValues: port.polled.map { ($0.queue, 1) }))
      }
      #expect(arrived(total / 2))
      try bench.fabric.removeWorker(0)
      #expect(arrived(total))
      for sender in senders { _ = sender.stop() }
      for receiver in receivers {
        let result = receiver.stop()
        #expect(result.corrupt == 0 && result.reordered == 0)
      }
      #expect(bench.fabric.stats().sent.drops == [:] && bench.fabric.stats().received.drops == [:])
      bench.expectBalance(.named(guests))
    }

    @Test("The last worker stays, and one that is not there can't go")
    func last() throws {
      let bench = try Bench(workers: 2)
      let guests = try bench.guests(2)
      try bench.fabric.removeWorker(0)
      let last = #expect(throws: ServiceError.self) { try bench.fabric.removeWorker(1) }
      #expect(last?.kind == .conflict && last?.message.contains("the last one") == true)
      for absent in [0, 2, -1, Int.max] {
        let error = #expect(throws: ServiceError.self) { try bench.fabric.removeWorker(absent) }
        #expect(error?.kind == .notFound)
      }
      try introduce(guests)
      #expect(bench.fabric.workers().map(\.queues) == [["g0/1", "g1/1"]])
      bench.expectBalance(.named(guests))
    }

    @Test("A number is given again, and goes on from what was counted under it")
    func numbersAgain() throws {
      let bench = try Bench(workers: 3)
      let guests = try bench.guests(3)
      try introduce(guests)
      let before = try #require(bench.fabric.workers().first { $0.id == 1 })
      #expect(before.busyTurns > 0)
      try bench.fabric.removeWorker(1)
      #expect(numbers(bench) == [0, 2])
      #expect(bench.fabric.health().healthy)
      let again = try bench.fabric.addWorker(.init(cpu: 0))
      #expect(again.id == 1 && again.queues == [])
      #expect(again.turns >= before.turns && again.busyTurns >= before.busyTurns)
      // It is the least loaded.
      let late = try bench.attach("late")
      #expect(bench.fabric.workers().first { $0.id == 1 }?.queues == ["late/1"])
      try late.announce(.station(9))
      #expect(eventually { bench.place(of: .station(9)) == "late" })
      bench.expectBalance()
    }

    @Test("Announcements that the first worker has read so far go on when it goes")
    func announcements() throws {
      let bench = try Bench(workers: 2)
      let guests = try bench.guests(2)
      for round in 1...4 {
        try guests[1].frontEnd.sendRARP(.station(40 + round))
        var heard: [[UInt8]] = []
        #expect(
          eventually {
            heard += guests[0].collect()
            return !heard.isEmpty
          })
        #expect(heard.count == 1)
        let port = try #require(bench.fabric.allPorts.last)
        let present = numbers(bench)
        #expect(bench.fabric.dataplane.announcer(port: port.number)?.worker == present[0])
        try bench.fabric.removeWorker(present[0])
        _ = try bench.fabric.addWorker(.init(cpu: 0))
        let next = try #require(bench.fabric.dataplane.announcer(port: port.number))
        #expect(next.worker != present[0] && numbers(bench).contains(next.worker))
        // The next round has it read by the lowest number again.
        try port.move([next.queue: numbers(bench)[0]])
      }
      #expect(try bench.port("g1").received.frames == 4)
      bench.expectBalance()
    }

    @Test(
      "A front-end in the middle of a message keeps its worker, by name; when it has ended the message the worker can go"
    )
    func middle() throws {
      let bench = try Bench(workers: 2)
      let guests = try bench.guests(2)
      let traffic = try SteadyTraffic(guests)
      let going = try #require(bench.fabric.workers().first { $0.queues == ["g0/1"] }?.id)
      // The first bytes of a message's header (vhost-user: GET_FEATURES), and no more.
      let message: [UInt8] = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
      try guests[0].frontEnd.send(Array(message[..<5]))
      Pause.milliseconds(50)
      let error = #expect(throws: ServiceError.self) { try bench.fabric.removeWorker(going) }
      #expect(error?.kind == .conflict && error?.message.contains("'g0'") == true)
      #expect(numbers(bench) == [0, 1])
      // Within the ten seconds that a front-end has for a message, however busy the machine is.
      try guests[0].frontEnd.send(Array(message[5...]))
      #expect(traffic.advance(by: 50))
      try bench.fabric.removeWorker(going)
      #expect(numbers(bench) == [1 - going])
      #expect(traffic.advance(by: 50))
      try traffic.expectNothingLost()
    }

    @Test(
      "Workers that a configuration wants in place of others have all their queues; what fails meanwhile leaves the workers as they were"
    )
    func replaced() throws {
      let directory = "/tmp/swivel-workers-\(UUID().uuidString.prefix(8))"
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: directory) }
      let fabric = try Switch(
        .init(cpus: [3], pinned: false, hugepages: false, usableCPUs: [3, 4, 5, 6]),
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      defer { fabric.stop() }
      let guests = try ["a", "b"].map { name in
        let path = "\(directory)/\(name).sock"
        _ = try fabric.addPort(PortRequest(name: name, vhostUser: VhostUserRequest(path: path)))
        var options = GuestPort.Options()
        options.timeout = 120_000
        return try GuestPort(path: path, options: options)
      }
      let traffic = try SteadyTraffic(guests)
      func cpus() -> [Int] { fabric.workers().map(\.cpu).sorted() }
      struct Refusal: Error {}
      // One came by the control interface: it is not the file's.
      _ = try fabric.addWorker(.init(cpu: 6))
      let refusal = ServiceError(.refused, "not so")
      let error = #expect(throws: ServiceError.self) {
        try fabric.replaceWorkers([4], owned: [3]) { () throws(ServiceError) in throw refusal }
      }
      #expect(error == refusal && cpus() == [3, 6])
      let none = #expect(throws: ServiceError.self) {
        try fabric.replaceWorkers([4, 7], owned: [3]) { () throws(ServiceError) in true }
      }
      #expect(none?.kind == .refused && cpus() == [3, 6])
      #expect(traffic.advance(by: 50))
      let done = try fabric.replaceWorkers([4, 5], owned: [3]) { () throws(ServiceError) in true }
      #expect(done.value && done.changes == WorkerChanges(added: [4, 5], removed: [3]))
      #expect(cpus() == [4, 5, 6])
      #expect(traffic.advance(by: 50))
      let same = try fabric.replaceWorkers([4, 5], owned: [4, 5]) { () throws(ServiceError) in 1 }
      #expect(same.changes == nil)
      fabric.keepState(file: fabric.requests, cpus: [4, 5])
      #expect(fabric.presentState().workers == [6])
      try traffic.expectNothingLost()
      #expect(fabric.stats().received.drops == [:])
    }

    @Test("Workers that come and go while ports, rings and floods do leave nothing behind")
    func upheaval() throws {
      let bench = try Bench(workers: 1)
      let guests = try bench.guests(2)
      let traffic = try SteadyTraffic(guests)
      let isOver = Atomic(false)
      let changes = try Linux.Thread(name: "changes") {
        while !isOver.load(ordering: .relaxed) {
          _ = try? bench.fabric.addWorker(.init(cpu: 0))
          _ = bench.fabric.rebalance(measuring: .milliseconds(5))
          let present = bench.fabric.workers().map(\.id)
          if present.count > 2 { try? bench.fabric.removeWorker(present.randomElement()!) }
        }
      }
      do {
        defer {
          isOver.store(true, ordering: .relaxed)
          changes.join()
        }
        try Upheaval.attachAndDetach(bench, rounds: Upheaval.share(of: 40))
      }
      #expect(traffic.advance(by: 50))
      for number in numbers(bench).dropLast() {
        #expect(
          eventually { (try? bench.fabric.removeWorker(number)) != nil }, "worker \(number)")
      }
      #expect(bench.fabric.workers().map(\.queues.count) == [2])
      for (index, result) in traffic.stop().enumerated() {
        // Those who came and went have sent them frames of streams of their own.
        let stream = try #require(result.checkers[UInt32(index ^ 1)])
        #expect(stream.received > 0 && stream.missing == 0 && stream.reordered == 0)
        #expect(result.corrupt == 0)
      }
    }
  }
}

extension SwitchTests.IOMMUTests {
  @Test("A worker that has left frames waiting for translations goes when they have been delivered")
  func waitingWorker() throws {
    let (bench, guests, iommu) = try bed(Self.options(), patience: Self.forEver, workers: 2)
    try introduce(guests)
    let going = try #require(
      bench.fabric.workers().first { $0.queues == ["g1/1"] }?.id)
    iommu.isSilent = true
    try iommu.invalidate(0, size: 0)
    let wanted = (0..<5).map { Self.frame(to: 0, $0) }
    for frame in wanted { try guests[1].deliver(frame) }
    let remover = try Linux.Thread(name: "remove") { try? bench.fabric.removeWorker(going) }
    // Its queue goes at once, and it stays for what waits.
    #expect(eventually { bench.fabric.workers().first { $0.id == going }?.queues == [] })
    Pause.milliseconds(50)
    #expect(bench.fabric.workers().count == 2)
    iommu.isSilent = false
    var found: [[UInt8]] = []
    #expect(
      eventually {
        found += guests[0].collect()
        return found.count >= wanted.count
      })
    #expect(found == wanted)
    remover.join()
    #expect(bench.fabric.workers().map(\.id) == [1 - going])
    try guests[1].deliver(Self.frame(to: 0, 77))
    #expect(eventually { guests[0].collect() == [Self.frame(to: 0, 77)] })
    bench.expectBalance(.named(guests))
  }
}
