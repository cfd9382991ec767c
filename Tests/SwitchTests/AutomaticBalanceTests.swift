import Testing

@testable import Switch

/// Queues that go by themselves: on machines and days that do not exist.
@Suite struct AutomaticBalanceTests {
  /// Two workers, and a port for each load, all of which the first polls.
  private struct Machine {
    var automatic = AutomaticBalance()
    var workers: [Int]
    var busy: [Int: Double] = [0: 1, 1: 1]

    init(ports: Int) { workers = [Int](repeating: 0, count: ports) }

    /// Looks once. Returns the ports that are moved.
    mutating func look(_ loads: [Double]) -> [Int] {
      let queues = zip(loads, workers).enumerated().map { port, queue in
        Balance.Queue(port: port, index: 1, worker: queue.1, node: 0, load: queue.0)
      }
      let moves = automatic.look(queues, busy: busy, nodes: [0, 0])
      for move in moves { workers[move.port] = move.to }
      return moves.map(\.port)
    }
  }

  @Test("Work that is not shared for a while is shared, once, and stays so")
  func lasting() {
    var machine = Machine(ports: 4)
    let loads = [500.0, 20, 480, 10]
    for _ in 1..<AutomaticBalance.patience { #expect(machine.look(loads) == []) }
    #expect(machine.look(loads).count == 1)
    #expect(Set([machine.workers[0], machine.workers[2]]) == [0, 1])
    for _ in 0..<1000 { #expect(machine.look(loads) == []) }
  }

  @Test("A worker with time to spare keeps what it has, and one that lacks it for a moment does")
  func moment() {
    var machine = Machine(ports: 2)
    machine.busy = [0: 0.4, 1: 0]
    for _ in 0..<100 { #expect(machine.look([500, 500]) == []) }
    for look in 0..<300 {
      machine.busy[0] = look % AutomaticBalance.patience == 0 ? 0.4 : 1
      #expect(machine.look([500, 500]) == [])
    }
  }

  @Test("Guests that are busy by turns are looked at together")
  func turns() {
    var machine = Machine(ports: 2)
    // Either is all there is at a time, and alone it can go nowhere better.
    for look in 0..<300 { #expect(machine.look(look % 2 == 0 ? [900, 0] : [0, 900]) == []) }
    // Beside a third that is always there.
    machine = Machine(ports: 3)
    var moves = 0
    for look in 0..<300 {
      moves += machine.look(look % 2 == 0 ? [900, 0, 500] : [0, 900, 500]).count
    }
    #expect((1...2).contains(moves), "\(moves)")
  }

  @Test("Whatever loads do, a queue goes to and fro no more often than every five minutes")
  func wild() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<20 {
      var machine = Machine(ports: 6)
      var last = [Int](repeating: -AutomaticBalance.stay, count: 6)
      var moves = 0
      for look in 0..<1000 {
        // Each has a day of its own, some minutes long.
        let loads = (0..<6).map { port in
          (look / (7 + port)) % 3 == 0 ? Double.random(in: 0...1000, using: &generator) : 10
        }
        for port in machine.look(loads) {
          #expect(look - last[port] >= AutomaticBalance.stay)
          last[port] = look
          moves += 1
        }
      }
      #expect(moves <= 6 * (1000 / AutomaticBalance.stay + 1))
    }
  }

  @Test("A worker that is no more is moved nothing to")
  func gone() {
    var automatic = AutomaticBalance()
    let queues = [0, 1].map { port in
      Balance.Queue(port: port, index: 1, worker: 0, node: 0, load: 500)
    }
    for _ in 0..<10 {
      #expect(automatic.look(queues, busy: [0: 1], nodes: [0, nil]) == [])
    }
    #expect(automatic.look([], busy: [:], nodes: []) == [])
  }
}

extension SwitchTests {
  @Suite struct BalancedSwitchTests {
    @Test("A switch that balances by itself has two busy guests of one worker shared by two")
    func shares() throws {
      let bench = try Bench(workers: 2)
      let guests = try bench.guests(4)
      func workers() -> [Int] { bench.fabric.allPorts.compactMap { $0.polled.first?.worker } }
      #expect(workers() == [0, 1, 0, 1])
      let traffic = try SteadyTraffic([guests[0], guests[2]])
      var automatic = AutomaticBalance()
      automatic.enough = 0
      automatic.gain = 0.01
      var last = Switch.Look()
      // As housekeeping does, but for its clock. On a busy machine one of the two may send much more than the other, and workers
      // find little in their turns.
      let isDone = eventually {
        guard traffic.advance(by: 20) else { return false }
        bench.fabric.balance(&automatic, &last)
        return workers()[0] != workers()[2]
      }
      #expect(isDone)
      #expect(workers()[1] == 1 && workers()[3] == 1)
      #expect(traffic.advance(by: 100))
      try traffic.expectNothingLost()
    }
  }
}
