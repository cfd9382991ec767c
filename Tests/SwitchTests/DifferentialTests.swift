import ControlAPI
import Switch
import Testing
import VirtioDriver

/// The same frames through swivel and through a Linux bridge: the same ports must get the same frames, in the
/// same order, byte by byte. Both learn addresses and know nothing of VLANs. Ageing is left out: the two keep
/// their clocks in different ways.
extension SwitchTests {
  @Suite(
    .enabled(if: LinuxBridge.isPossible, "needs root, /dev/net/tun for TAP devices, and bridges"))
  struct DifferentialTests {
    private static let ports = 4
    private static let mtu = 9000

    /// Both switches, with four ports each.
    private final class Rig {
      let bench: Bench
      let guests: [GuestPort]
      let bridge: LinuxBridge
      private(set) var delivered = 0
      /// Frames that came out nowhere.
      private(set) var dropped = 0

      init() throws {
        let bench = try Bench()
        var options = GuestPort.Options()
        options.transmitBufferLength = 12 + 9300
        self.bench = bench
        guests = try (0..<ports).map { try bench.attach("g\($0)", options, mtu: mtu) }
        bridge = try LinuxBridge(ports: ports, mtu: mtu)
      }

      /// Sends frames into a port of each, in one burst; returns what came out of each port of either.
      func exchange(
        _ frames: [[UInt8]], from port: Int
      ) throws -> (swivel: [[[UInt8]]], bridge: [[[UInt8]]]) {
        for frame in frames { try #require(guests[port].pairs[0].enqueue(frame)) }
        guests[port].pairs[0].flush()
        guests[port].settle()
        return (guests.map { $0.collect() }, try bridge.exchange(frames, from: port))
      }

      /// Sends a burst, and holds what came out of the one to what came out of the other.
      func compare(_ frames: [[UInt8]], from port: Int, _ what: String) throws {
        let (swivel, bridge) = try exchange(frames, from: port)
        for index in 0..<ports {
          delivered += swivel[index].count
          #expect(
            swivel[index] == bridge[index],
            """
            \(what), into port \(port): \(frames.map(describe))
            out of port \(index): swivel \(swivel[index].map(describe)), bridge \(bridge[index].map(describe))
            """)
        }
        dropped += frames.count { frame in !swivel.contains { $0.contains(frame) } }
      }

      private func describe(_ frame: [UInt8]) -> String {
        let head = frame.prefix(22).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        return "\(head) (\(frame.count))"
      }
    }

    enum Kind: CaseIterable {
      case unicast, unknownUnicast, broadcast, multicast, ipv6Multicast, toItself, toItsSource
      case zeroDestination, zeroSource, multicastSource, broadcastSource, spanningTree, reserved
      case tagged, serviceTagged, twiceTagged, priorityTagged, runt, lengthField, jumbo, oversize
    }

    struct Random: RandomNumberGenerator {
      var state: UInt64
      mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
      }
    }

    /// Six stations, each on one of the ports most of the time: s on port s mod 4.
    private static func station(on port: Int, _ random: inout Random) -> Address {
      let home = [port, port + 4].filter { $0 < 6 }.randomElement(using: &random) ?? port
      let moves = Int.random(in: 0..<6, using: &random) == 0
      return .station(moves ? Int.random(in: 0..<6, using: &random) : home)
    }

    /// The number is in the frame, if it is long enough.
    static func frame(_ kind: Kind, from port: Int, number: UInt32, _ random: inout Random)
      -> [UInt8]
    {
      var from = station(on: port, &random)
      var to = Address.station(Int.random(in: 0..<6, using: &random))
      var tags: [UInt8] = []
      var type: [UInt8] = [0x88, 0xB5]
      var length = Int.random(in: 60...300, using: &random)
      switch kind {
      case .unicast: break
      case .unknownUnicast: to = .station(Int.random(in: 100...200, using: &random))
      case .broadcast: to = .broadcast
      case .multicast: to = Address(0x0100_5E00_0000 | UInt64.random(in: 0...5, using: &random))
      case .ipv6Multicast: to = Address(0x3333_FF00_0000 | UInt64.random(in: 0...5, using: &random))
      case .toItself: to = from
      case .toItsSource: to = station(on: port, &random)
      case .zeroDestination: to = Address(0)
      case .zeroSource: from = Address(0)
      case .multicastSource: from = Address(0x0100_5E00_0001)
      case .broadcastSource: from = .broadcast
      case .spanningTree: to = Address(0x0180_C200_0000)
      // The pause address is among the differences.
      case .reserved: to = Address(0x0180_C200_0000 | UInt64.random(in: 2...15, using: &random))
      case .tagged: tags = [0x81, 0] + big(UInt16.random(in: 0...0xFFFF, using: &random))
      case .serviceTagged:
        tags = [0x88, 0xA8] + big(UInt16.random(in: 0...0xFFFF, using: &random))
      case .twiceTagged: tags = [0x88, 0xA8, 0, 7, 0x81, 0, 0x20, 9]
      case .priorityTagged: tags = [0x81, 0] + big(UInt16.random(in: 0...7, using: &random) << 13)
      case .runt: length = Int.random(in: 14...59, using: &random)
      case .lengthField: type = big(UInt16(length - 14))
      case .jumbo:
        if Bool.random(using: &random) { tags = [0x81, 0, 0, 5] }
        length = Int.random(in: 1500...mtu + 14 + tags.count, using: &random)
      case .oversize:
        if Bool.random(using: &random) { tags = [0x81, 0, 0, 5] }
        // Up to 9018 bytes without a tag are among the differences.
        length = Int.random(in: mtu + 19...mtu + 250, using: &random)
      }
      let front =
        to.bytes + from.bytes + tags + type + big(UInt16(number >> 16))
        + big(UInt16(number & 0xFFFF))
      if front.count >= length { return Array(front.prefix(length)) }
      return front
        + (front.count..<length).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(number)) }
    }

    private static func big(_ value: UInt16) -> [UInt8] {
      [UInt8(value >> 8), UInt8(value & 0xFF)]
    }

    @Test("Every kind of frame, one by one, from each port: as a Linux bridge (E62, E64)")
    func kinds() throws {
      let rig = try Rig()
      var random = Random(state: 0x5377_6976_656C)
      var number: UInt32 = 0
      for round in 0..<3 {
        for kind in Kind.allCases {
          for port in 0..<Self.ports {
            number += 1
            let frame = Self.frame(kind, from: port, number: number, &random)
            try rig.compare([frame], from: port, "\(kind), round \(round)")
          }
        }
      }
      for length in 14...60 {
        let whole = EthernetFrame.make(to: .station(1), from: .station(0), payload: [UInt8](1...60))
        try rig.compare([Array(whole.prefix(length))], from: 0, "\(length) bytes")
      }
      #expect(rig.delivered > 200 && rig.dropped > 50)
      rig.bench.expectBalance(.named(rig.guests))
    }

    @Test(
      "Bursts of random frames of few stations that move: as a Linux bridge (E62, E64)",
      arguments: [1, 2, 3] as [UInt64])
    func bursts(seed: UInt64) throws {
      let rig = try Rig()
      var random = Random(state: seed &* 0x9E37_79B9_7F4A_7C15)
      var number: UInt32 = 0
      for burst in 0..<2 * Upheaval.rounds {
        let port = Int.random(in: 0..<Self.ports, using: &random)
        let count = Int.random(in: 1...16, using: &random)
        let frames = (0..<count).map { _ in
          number += 1
          // Every other frame is an ordinary one, so that bursts to one destination come up.
          let kind =
            Bool.random(using: &random) ? .unicast : Kind.allCases.randomElement(using: &random)!
          return Self.frame(kind, from: port, number: number, &random)
        }
        try rig.compare(frames, from: port, "seed \(seed), burst \(burst)")
      }
      #expect(rig.delivered > Int(number) / 2 && rig.dropped > Int(number) / 20)
      #expect(rig.bench.fabric.stats().macTable.moved > UInt64(Upheaval.rounds) / 2)
      rig.bench.expectBalance(.named(rig.guests))
    }

    @Test("Where swivel and a Linux bridge differ on purpose")
    func differences() throws {
      let rig = try Rig()
      func outOf(_ frame: [UInt8], from port: Int) throws -> (swivel: [Int], bridge: [Int]) {
        let (swivel, bridge) = try rig.exchange([frame], from: port)
        func ports(_ received: [[[UInt8]]]) -> [Int] {
          received.indices.filter { received[$0] == [frame] }
        }
        return (ports(swivel), ports(bridge))
      }
      let others = [1, 2, 3]
      // A pause frame goes no further in either; a bridge does not even learn who sent it.
      let pause = EthernetFrame.make(to: Address(0x0180_C200_0001), from: .station(9), length: 60)
      #expect(try outOf(pause, from: 3) == ([], []))
      let answer = EthernetFrame.make(to: .station(9), from: .station(0), length: 60)
      #expect(try outOf(answer, from: 0) == ([3], others))
      // Too short for the tag that its type announces: what is in it is the stations' affair; the kernel, which
      // takes tags out and puts them in again, drops it.
      let stub = EthernetFrame.make(
        to: .broadcast, from: .station(0), etherType: 0x8100, length: 16)
      #expect(try outOf(stub, from: 0) == (others, []))
      // A bridge allows for a tag whether there is one or not.
      let tagged = EthernetFrame.make(
        to: .broadcast, from: .station(0), vlan: 5, length: Self.mtu + 18)
      #expect(try outOf(tagged, from: 0) == (others, others))
      let plain = EthernetFrame.make(to: .broadcast, from: .station(0), length: Self.mtu + 18)
      #expect(try outOf(plain, from: 0) == ([], others))
    }
  }
}
