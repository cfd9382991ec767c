import ControlAPI
import Linux
import Testing
import VirtioDriver

@testable import Switch

/// Which queues go to which worker: on machines that do not exist, and under traffic.
@Suite struct BalanceTests {
  private func queue(
    _ port: Int, _ load: Double, on worker: Int, node: Int? = 0
  ) -> Balance.Queue {
    .init(port: port, index: 1, worker: worker, node: node, load: load)
  }

  @Test("Two busy queues of one worker: one goes to the worker that has nothing to do")
  func one() {
    let moves = Balance.moves([queue(0, 500, on: 0), queue(1, 500, on: 0)], nodes: [0, 0])
    #expect(moves == [.init(port: 0, queue: 1, from: 0, to: 1)])
  }

  @Test("What is shared well enough stays, and so does a single queue, however busy")
  func enough() {
    #expect(Balance.moves([queue(0, 900, on: 0)], nodes: [0, 0]) == [])
    #expect(
      Balance.moves(
        [queue(0, 500, on: 0), queue(1, 40, on: 0), queue(2, 500, on: 1)], nodes: [0, 0]) == [])
    #expect(Balance.moves([queue(0, 0, on: 0), queue(1, 0, on: 0)], nodes: [0, 0]) == [])
    #expect(Balance.moves([], nodes: [0]) == [])
  }

  @Test("A guest's memory is not left for another node while a worker is beside it")
  func nodes() {
    let near = [queue(0, 500, on: 0), queue(1, 500, on: 0)]
    #expect(Balance.moves(near, nodes: [0, 1]) == [])
    #expect(Balance.moves(near, nodes: [0, 1, 0]).map(\.to) == [2])
    let unknown = [queue(0, 500, on: 0, node: nil), queue(1, 500, on: 0, node: 7)]
    #expect(Balance.moves(unknown, nodes: [0, 1]).count == 1)
  }

  @Test(
    "Of any loads no worker ends up busier than the busiest was, and what comes out is left alone")
  func any() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      let workers = Int.random(in: 1...6, using: &generator)
      var queues = (0..<Int.random(in: 0...20, using: &generator)).map { port in
        queue(port, Double.random(in: 0...1000), on: Int.random(in: 0..<workers))
      }
      func peak() -> Double {
        (0..<workers).map { worker in
          queues.filter { $0.worker == worker }.reduce(0) { $0 + $1.load }
        }.max() ?? 0
      }
      let before = peak()
      let nodes = [Int](repeating: 0, count: workers)
      let moves = Balance.moves(queues, nodes: nodes)
      #expect(Set(moves.map(\.port)).count == moves.count)
      for move in moves {
        #expect(queues[move.port].worker == move.from)
        queues[move.port].worker = move.to
      }
      #expect(peak() <= before)
      #expect(Balance.moves(queues, nodes: nodes) == [])
    }
  }
}

extension SwitchTests {
  @Suite struct MovedQueueTests {
    @Test(
      "Queues go from worker to worker under traffic, again and again: nothing is lost, and all comes in order",
      arguments: RingLayoutTests.Layout.allCases)
    func wander(_ layout: RingLayoutTests.Layout) throws {
      let bench = try Bench(workers: 2)
      var options = layout.options()
      // More than a station has under way: what waits for a worker must find room afterwards.
      options.ringSize = layout.features.contains(.ringPacked) ? 127 : 128
      let guests = try bench.guests(4, options)
      let traffic = try SteadyTraffic(guests)
      let ports = bench.fabric.allPorts
      for round in 0..<Upheaval.share(of: 40) {
        let port = ports[round % 4]
        let worker = try #require(port.polled.first).worker
        try port.move([1: 1 - worker])
        #expect(port.polled.map(\.worker) == [1 - worker])
        if round % 10 == 0 { #expect(traffic.advance(by: 20)) }
      }
      let placed = bench.fabric.placement.withLock { $0.loads.reduce(0, +) }
      #expect(placed == 4)
      try traffic.expectNothingLost()
      bench.expectBalance(.named(guests))
    }

    @Test("Two busy guests of one worker, measured, are shared by two; the quiet ones stay")
    func measured() throws {
      let bench = try Bench(workers: 2)
      let guests = try bench.guests(4)
      func workers() -> [Int] { bench.fabric.allPorts.compactMap { $0.polled.first?.worker } }
      #expect(workers() == [0, 1, 0, 1])
      let traffic = try SteadyTraffic([guests[0], guests[2]])
      #expect(traffic.advance(by: 100))
      var report = BalanceReport()
      // On a busy machine one of the two may have sent nothing meanwhile.
      let done = eventually {
        report = bench.fabric.rebalance(measuring: .milliseconds(200))
        return report != BalanceReport()
      }
      #expect(done)
      #expect(report.moves.count == 1 && report.left == [], "\(report)")
      #expect(report.moves.first?.from == 0 && report.moves.first?.to == 1)
      #expect(Set([workers()[0], workers()[2]]) == [0, 1])
      #expect(workers()[1] == 1 && workers()[3] == 1)
      #expect(traffic.advance(by: 100))
      try traffic.expectNothingLost()
      // Nobody sends: there is nothing to be shared.
      #expect(bench.fabric.rebalance(measuring: .milliseconds(1)) == BalanceReport())
    }
  }
}
