import ControlAPI
import Foundation
import Glibc
import Linux
import Switch
import Testing
import VirtioDriver

/// What this process holds of what can leak.
struct Holdings: CustomStringConvertible {
  var descriptors = 0
  var threads = 0
  /// Mappings of guests' memory, and those of the switch's own that are shared.
  var guestMappings = 0
  var mappings = 0

  init() {
    descriptors = Holdings.entries("/proc/self/fd")
    threads = Holdings.threadNames.count { name in
      ["worker/", "port/", "housekeeping", "station", "upheaval"].contains { name.hasPrefix($0) }
    }
    let maps = (try? String(contentsOfFile: "/proc/self/maps", encoding: .utf8)) ?? ""
    let lines = maps.split(separator: "\n")
    mappings = lines.count
    guestMappings = lines.count { $0.contains("guest-memory") }
  }

  /// The runtime's own threads come and go as it likes.
  private static var threadNames: [String] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
    return all.map {
      (try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8)) ?? ""
    }
  }

  private static func entries(_ path: String) -> Int {
    (try? FileManager.default.contentsOfDirectory(atPath: path).count) ?? -1
  }

  var description: String {
    "\(descriptors) descriptors, \(threads) threads, \(guestMappings) of \(mappings) mappings guests'"
  }

  /// Waits until this process holds what it held before.
  static func `return`(to before: Holdings) -> Bool {
    eventually { Holdings().isNoMore(than: before) }
  }

  /// Descriptors that other tests of this process held at the time may have gone since; what leaks is more. Mappings
  /// besides guests' come and go with the allocator. How those of guests that are still there are
  /// listed is the kernel's affair (it may merge neighbours); that of departed ones nothing is left is not. A test
  /// before may still have been closing its own when `before` was taken: less is no leak.
  func isNoMore(than before: Holdings) -> Bool {
    descriptors <= before.descriptors && threads <= before.threads
      && (guestMappings <= before.guestMappings || before.guestMappings > 0)
  }
}

/// Things that happen to a switch while guests are talking.
enum Upheaval {
  /// How often, where the sanitizer or a slow machine does not want less.
  static let rounds =
    Int(ProcessInfo.processInfo.environment["SWIVEL_TEST_ROUNDS"] ?? "") ?? fullRounds
  private static let fullRounds = 150
  /// Whether less is wanted: then of several sizes of one thing the least and the greatest do.
  static let isReduced = rounds < fullRounds

  /// As large a part of `count` as is wanted.
  static func share(of count: Int) -> Int { max(1, count * rounds / fullRounds) }

  /// Front-ends that come, send a frame or a few, and go: with a word or without, or in mid-message.
  static func attachAndDetach(_ bench: Bench, rounds: Int = rounds) throws {
    try bench.addPort("churn", queues: 2)
    var options = GuestPort.Options()
    options.ringSize = 16
    options.queuePairs = 2
    for round in 0..<rounds {
      let guest = try bench.guest("churn", options)
      for queue in 0..<2 {
        _ = guest.send(
          TestFrame.make(
            to: round % 16 == 0 ? .broadcast : .station(round % 4),
            from: .station(1000 + round % 50),
            stream: 1000, sequence: UInt64(round)), queue: queue)
      }
      if round % 3 == 0 { try guest.stop() }
      if round % 5 == 0 {
        try guest.frontEnd.send(Array(FrontEndMessage(.setMemTable).bytes.prefix(7)))
      }
      guest.disconnect()
    }
    try bench.fabric.removePort(named: "churn")
  }

  /// A guest whose driver stops and starts its rings.
  static func stopAndRestart(_ bench: Bench, rounds: Int = rounds) throws {
    let guest = try bench.attach("flapping")
    var frames: [[UInt8]] = []
    for round in 0..<rounds {
      _ = guest.send(
        TestFrame.make(
          to: .station(round % 4), from: .station(2000), stream: 2000, sequence: UInt64(round)))
      try guest.stop()
      try guest.restart()
      frames += guest.collect()
    }
    #expect(guest.offences == [])
    guest.disconnect()
    try bench.fabric.removePort(named: "flapping")
  }

  /// Ports that come and go through the control interface, with and without a guest.
  static func addAndRemove(_ bench: Bench, rounds: Int = rounds) throws {
    for round in 0..<rounds {
      let name = "passing\(round % 3)"
      if round % 2 == 0 {
        let guest = try bench.attach(name)
        _ = guest.send(
          TestFrame.make(
            to: .station(round % 4), from: .station(3000 + round), stream: 3000,
            sequence: UInt64(round)))
        try bench.fabric.removePort(named: name)
        #expect(guest.frontEnd.isClosed(within: 20_000))
      } else {
        try bench.addPort(name, queues: 3)
        try bench.fabric.removePort(named: name)
      }
    }
  }

  /// The memory table of a guest that is sending is replaced, as it is and with one region more or less.
  static func changeMemory(_ guest: GuestPort, rounds: Int = rounds) throws {
    let extra = try GuestMemory([.init(guestAddress: 1 << 40, length: 1 << 16)])
    for round in 0..<rounds {
      if round % 2 == 0 {
        try guest.frontEnd.shareMemory(guest.memory)
      } else {
        try guest.frontEnd.addRegion(extra.regions[0])
        try guest.frontEnd.removeRegion(extra.regions[0])
      }
    }
  }

  /// Runs `body` on a bench where four guests talk to each other in pairs, and expects them to have lost
  /// nothing that no drop names, the books to balance, and nothing to be left over afterwards.
  static func under(
    workers: Int = 1, _ body: (Bench, [GuestPort]) throws -> Void
  ) throws {
    // Once before it counts: what libraries make at their first use stays.
    try Upheaval.attachAndDetach(try Bench(workers: workers), rounds: 2)
    let outside = Holdings()
    do {
      let bench = try Bench(workers: workers)
      let guests = try bench.guests(4)
      let quiet = Holdings()
      let traffic = try SteadyTraffic(guests)
      #expect(traffic.advance(by: 100))
      try body(bench, guests)
      // Whatever happened, everybody is still being served.
      #expect(traffic.advance(by: 100))
      let results = traffic.stop()
      for (index, result) in results.enumerated() {
        let port = try bench.port("g\(index)")
        let peer = UInt32(index ^ 1)
        let checker = result.checkers[peer] ?? SequenceChecker()
        let lost = results[index ^ 1].sent[peer, default: 0] - UInt64(checker.received)
        #expect(result.corrupt == 0 && checker.reordered == 0)
        #expect(checker.received > 0)
        let named = try port.sent.dropped + bench.port("g\(peer)").received.dropped
        #expect(lost <= named, "\(lost) lost, \(named) dropped by name")
        #expect(guests[index].offences == [])
      }
      bench.expectBalance()
      #expect(bench.fabric.ports().map(\.name) == ["g0", "g1", "g2", "g3"])
      let same = Holdings.return(to: quiet)
      #expect(same, "before: \(quiet); after: \(Holdings())")
    }
    let same = Holdings.return(to: outside)
    #expect(same, "before: \(outside); after: \(Holdings())")
  }
}

/// Each runs in a process of its own, where nobody else opens descriptors or starts threads.
extension SwitchTests {
  @Suite struct LifetimeTests {
    @Test("Front-ends attach and detach by the thousand under traffic (HP-09)")
    func attachAndDetach() async {
      await #expect(processExitsWith: .success) {
        try Upheaval.under { bench, _ in
          try Upheaval.attachAndDetach(
            bench, rounds: (Upheaval.isReduced ? 6 : 8) * Upheaval.rounds)
        }
      }
    }

    @Test("Rings stop and start under traffic")
    func stopAndRestart() async {
      await #expect(processExitsWith: .success) {
        try Upheaval.under { bench, _ in try Upheaval.stopAndRestart(bench) }
      }
    }

    @Test("The memory table changes under traffic (E86, E87)")
    func memory() async {
      await #expect(processExitsWith: .success) {
        try Upheaval.under { _, guests in try Upheaval.changeMemory(guests[0]) }
      }
    }

    @Test("Ports are added and removed under traffic")
    func ports() async {
      await #expect(processExitsWith: .success) {
        try Upheaval.under { bench, _ in try Upheaval.addAndRemove(bench) }
      }
    }

    @Test("All of it at once, with three workers")
    func everything() async {
      await #expect(processExitsWith: .success) {
        try Upheaval.under(workers: 3) { bench, guests in
          let rounds = Upheaval.rounds / 2
          let failures = Failures()
          let upheavals: [@Sendable () throws -> Void] = [
            { try Upheaval.attachAndDetach(bench, rounds: rounds) },
            { try Upheaval.stopAndRestart(bench, rounds: rounds) },
            { try Upheaval.addAndRemove(bench, rounds: rounds) },
            { try Upheaval.changeMemory(guests[2], rounds: rounds) },
          ]
          let threads = try upheavals.map { body in
            try Linux.Thread(name: "upheaval") {
              do { try body() } catch { failures.add("\(error)") }
            }
          }
          for thread in threads { thread.join() }
          #expect(failures.all == [])
        }
      }
    }
  }
}
