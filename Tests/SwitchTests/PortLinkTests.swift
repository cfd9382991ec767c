import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

extension SwitchTests {
  /// Ports that an operator sets down and up.
  @Suite struct PortLinkTests {
    private func change(_ bench: Bench, _ name: String, _ link: PortLink) throws -> ControlAPI.Port
    {
      try bench.fabric.changePort(named: name, PortChange(link: .value(link)))
    }

    @Test(
      "Of a port that is down no frame comes and none goes there, each by name; nothing is learned, and all is as before when it is up"
    )
    func downAndUp() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      func send(_ from: Int, _ to: Address, _ sequence: UInt64) throws -> [UInt8] {
        let frame = TestFrame.make(
          to: to, from: .station(from), stream: UInt32(from), sequence: sequence, length: 100)
        #expect(try guests[from].send(frame, milliseconds: 60_000))
        return frame
      }
      for (from, to) in [(0, 1), (1, 0)] {
        let frame = try send(from, .station(to), 1)
        #expect(try guests[to].receive(milliseconds: 60_000) == frame)
      }
      _ = guests[2].receive()
      let down = try change(bench, "g0", .down)
      #expect(down.state == .down)
      #expect(
        down.explanation
          == "was set down (swivel port up g0): no frame passes, which its guest is not told")
      #expect(bench.place(of: .station(0)) == nil)
      _ = try send(0, .station(1), 2)
      #expect(eventually { bench.drops("queue_disabled") == 1 })
      #expect(bench.place(of: .station(0)) == nil, "what is dropped is not learned from")
      // Not known any more: it is flooded, and the port that is down is not among those it goes to.
      let flooded = try send(1, .station(0), 3)
      while let frame = try guests[2].receive(milliseconds: 60_000), frame != flooded {}
      #expect(guests[0].receive() == nil)
      // A ring that starts meanwhile is no way around it.
      try guests[0].stop()
      try guests[0].restart()
      #expect(try bench.port("g0").queues.map(\.state) == [.disabled, .disabled])
      _ = try send(0, .station(1), 4)
      #expect(eventually { bench.drops("queue_disabled") == 2 })
      #expect(guests[1].receive() == nil)
      // Nor is a front-end that enables its rings.
      for index in 0..<2 { try guests[0].frontEnd.enableRing(index, true) }
      try guests[0].frontEnd.synchronize()
      _ = try send(0, .station(1), 5)
      #expect(eventually { bench.drops("queue_disabled") == 3 })

      #expect(try change(bench, "g0", .up).state == .running)
      let frame = try send(0, .station(1), 6)
      #expect(try guests[1].receive(milliseconds: 60_000) == frame)
      let back = try send(1, .station(0), 7)
      #expect(try guests[0].receive(milliseconds: 60_000) == back)
      bench.expectBalance()
    }

    @Test("A port may be made down; rings that their front-end has disabled stay so when it is up")
    func madeDown() throws {
      let bench = try Bench()
      _ = try bench.fabric.addPort(
        PortRequest(name: "a", vhostUser: VhostUserRequest(path: bench.path("a")), link: .down))
      #expect(try bench.port("a").state == .down)
      let guest = try bench.guest("a")
      #expect(eventually { (try? bench.port("a").queues.map(\.state)) == [.disabled, .disabled] })
      try guest.frontEnd.enableRing(1, false)
      try guest.frontEnd.synchronize()
      #expect(try change(bench, "a", .up).state == .running)
      #expect(try bench.port("a").queues.map(\.state) == [.running, .disabled])
    }
  }
}
