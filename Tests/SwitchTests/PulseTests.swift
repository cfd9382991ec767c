import Linux
import Testing

@testable import Switch

/// What tells the service manager's watchdog that the switch lives.
extension SwitchTests {
  @Suite struct PulseTests {
    private func pulse(
      rounds: UInt64, turns: UInt64, sleeps: UInt64 = 0, isSleeping: Bool = false
    ) -> Pulse {
      Pulse(
        rounds: rounds,
        workers: [.init(number: 0, cpu: 3, turns: turns, sleeps: sleeps, isSleeping: isSleeping)])
    }

    @Test("What has stood still is named; a worker that sleeps, or slept, has not")
    func standing() {
      let before = pulse(rounds: 7, turns: 9)
      #expect(pulse(rounds: 8, turns: 10).standing(since: before).isEmpty)
      #expect(
        pulse(rounds: 7, turns: 10).standing(since: before) == ["housekeeping has made no round"])
      #expect(
        pulse(rounds: 8, turns: 9).standing(since: before) == [
          "worker 0 on CPU 3 has made no turn"
        ])
      #expect(pulse(rounds: 7, turns: 9).standing(since: before).count == 2)
      #expect(pulse(rounds: 8, turns: 9, isSleeping: true).standing(since: before).isEmpty)
      #expect(pulse(rounds: 8, turns: 9, sleeps: 1).standing(since: before).isEmpty)
      let asleep = pulse(rounds: 7, turns: 9, isSleeping: true)
      #expect(pulse(rounds: 8, turns: 9).standing(since: asleep).isEmpty)
    }

    @Test("A switch that does its work has a pulse, busy or not", arguments: [false, true])
    func living(busy: Bool) throws {
      let bench = try Bench(busy: busy)
      let first = bench.fabric.pulse()
      #expect(eventually { bench.fabric.pulse().standing(since: first).isEmpty })
    }

    @Test("A switch that was stopped has none")
    func stopped() throws {
      let bench = try Bench()
      bench.fabric.stop()
      let first = bench.fabric.pulse()
      Pause.milliseconds(300)
      let standing = bench.fabric.pulse().standing(since: first)
      #expect(standing.contains("housekeeping has made no round"))
    }
  }
}
