import ControlAPI
import Foundation
import Linux
import Testing
import VirtioDriver

extension EndToEnd {
  /// One port on which every frame has another source address.
  @Suite struct AddressFlood {
    @Test("4 million source addresses on one port: the others lose no frame, the daemon no memory")
    func flood() throws {
      let count: UInt64 = 4_000_000
      let scratch = try Scratch()
      let daemon = try Daemon(
        ports: ["a", "b", "attacker"].map { Daemon.vhost($0, in: scratch) }, scratch: scratch)
      var options = GuestPort.Options()
      options.timeout = 60_000
      let guests = try ["a", "b"].map {
        try GuestPort(path: scratch.file("\($0).sock"), options: options)
      }
      let attack = try Attack(scratch.file("attacker.sock"))
      // Everybody is heard once; this is all that is flooded.
      for (index, guest) in guests.enumerated() {
        let frame = TestFrame.make(to: .broadcast, from: .station(index), sequence: 0)
        #expect(try guest.send(frame, milliseconds: 60_000))
        #expect(try guests[1 - index].receive(milliseconds: 60_000) == frame)
      }
      let flooded = try daemon.stats().received.replicas
      let memory = try daemon.residentMemory

      let thread = try Linux.Thread(name: "attacker") { attack.send(count) }
      var rounds: UInt64 = 0
      repeat {
        let frames = (0..<16).map { number in
          guests.indices.map {
            TestFrame.make(
              to: .station(1 - $0), from: .station($0), sequence: 16 * rounds + UInt64(number))
          }
        }
        for pair in frames {
          for (guest, frame) in zip(guests, pair) {
            #expect(try guest.send(frame, milliseconds: 60_000))
          }
        }
        for pair in frames {
          for (guest, frame) in zip(guests, pair.reversed()) {
            #expect(try guest.receive(milliseconds: 60_000) == frame)
          }
        }
        rounds += 1
      } while !attack.isOver
      thread.join()

      #expect(attack.sent == count && rounds > 10)
      #expect(try abs(daemon.residentMemory - memory) < 1 << 20, "\(memory)")
      // Their addresses stayed known: none of their frames went to all.
      #expect(try daemon.settledStats().received.replicas == flooded)
      for name in ["a", "b"] {
        let port = try daemon.port(name)
        #expect(port.macs == 1 && port.received.dropped == 0 && port.sent.dropped == 0)
        #expect(port.learning == LearningCounters(learned: 1))
      }
      let attacked = try daemon.port("attacker")
      #expect(attacked.macLimit == 1024 && attacked.macs == 1024)
      #expect(attacked.learning.learned + attacked.learning.deferred == count)
      #expect(attacked.learning.limited + 1024 == attacked.learning.learned)
      #expect(attacked.learning.deferred > 0 && attacked.learning.evicted == 0)
      #expect(attacked.received.frames == count)
      try daemon.stop()
    }
  }

  /// A port that sends frames to nobody, each with a source address of its own.
  private final class Attack: @unchecked Sendable {
    private let port: GeneratorPort
    private let generator = Generator(capacity: 1)
    private let over = Lock(false)

    init(_ path: String) throws {
      port = try GeneratorPort(
        path: path, wanted: [.version1, .mrgRxbuf], needed: [.version1], timeout: 60_000)
      try port.start(Lane.Options()) { generator.add($0) }
      // A bridge keeps frames for this address to itself.
      generator[0].setFlows([.init(to: EthernetAddress(0x0180_c200_0001), from: .station(9))])
      generator[0].inventedSources = 4_000_000
    }

    var isOver: Bool { over.withLock { $0 } }
    var sent: UInt64 { generator.counts.sentFrames }

    func send(_ count: UInt64) {
      generator.run(seconds: 600, .init(frames: count))
      _ = generator.drain(seconds: 60)
      over.withLock { $0 = true }
    }
  }
}
