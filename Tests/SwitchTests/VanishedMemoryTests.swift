import ControlAPI
import Foundation
import Glibc
import Linux
import Switch
import Testing
import VirtioDriver

/// Front-ends that take memory away under a running ring (HP-03).
extension SwitchTests {
  @Suite struct VanishedMemoryTests {
    /// What is lost, of a guest whose rings, receive buffers and transmit buffers are in a file each.
    enum Loss: CaseIterable, Sendable {
      case rings, receiveBuffers, halfOfReceiveBuffers, transmitBuffers, halfOfTransmitBuffers
      /// Not lost, but zeros from now on: a hole was punched into the file.
      case holeInRings, holeInBuffers

      var region: Int {
        switch self {
        case .rings, .holeInRings: 0
        case .receiveBuffers, .halfOfReceiveBuffers: 1
        case .transmitBuffers, .halfOfTransmitBuffers, .holeInBuffers: 2
        }
      }

      var isHole: Bool { self == .holeInRings || self == .holeInBuffers }

      func happen(to guest: GuestPort) {
        let file = guest.memory.regions[region].file
        switch self {
        case .rings, .receiveBuffers, .transmitBuffers:
          #expect(ftruncate(file.raw, 0) == 0)
        case .halfOfReceiveBuffers, .halfOfTransmitBuffers:
          let kept = guest.options.ringSize * guest.options.receiveBufferLength / 2
          let page = max(4096, 1 << Int(guest.options.hugePageShift))
          #expect(ftruncate(file.raw, kept / page * page) == 0)
        case .holeInRings, .holeInBuffers:
          // MADV_REMOVE is FALLOC_FL_PUNCH_HOLE by its address.
          let region = guest.memory.regions[region]
          let all = guest.memory.buffer(at: region.guestAddress, length: region.length)
          #expect(madvise(all?.pointer, region.length, 9) == 0)
        }
      }
    }

    enum Way: CaseIterable, Sendable {
      case split, packed, translated

      var options: GuestPort.Options {
        var options = self == .translated ? IOMMUTests.options() : GuestPort.Options()
        if self == .packed { options.features.insert(.ringPacked) }
        options.ringSize = 64
        options.regionAddresses = [0, 1 << 32, 2 << 32]
        return options
      }
    }

    /// Mappings that were put in the place of vanished ones: no others are kept from huge pages.
    private static var replacements: Int {
      let maps = (try? String(contentsOfFile: "/proc/self/smaps", encoding: .utf8)) ?? ""
      return maps.split(separator: "\n").count { $0.hasPrefix("VmFlags:") && $0.contains(" nh") }
    }

    /// Keeps both directions of a guest busy until its port is broken or, where that is not to be, for a while.
    private func exercise(
      _ victim: GuestPort, _ peer: GuestPort, _ loss: Loss, _ bench: Bench
    ) throws {
      var sequence: UInt64 = 0
      let isOver = eventually {
        sequence += 1
        _ = peer.send(
          TestFrame.make(to: .station(8), from: .station(9), sequence: sequence, length: 1000))
        // Whoever touches his own rings finds them gone as well, and tells nobody anything any more.
        if loss.region != 0 {
          // As many as there are buffers: of few the first would do, over and over.
          let frame = TestFrame.make(
            to: .station(9), from: .station(8), sequence: sequence, length: 1000)
          for _ in 0..<64 { _ = victim.send(frame) }
          _ = victim.collect()
        }
        _ = peer.collect()
        peer.pairs[0].reclaim()
        return loss.isHole
          ? sequence == 100 : bench.fabric.port(named: "g0")?.state == .broken
      }
      #expect(isOver, "\(loss)")
    }

    private func run(_ loss: Loss, _ options: GuestPort.Options, rounds: Int = 1) throws {
      let bench = try Bench()
      try bench.addPort("g0")
      let others = [try bench.attach("g1"), try bench.attach("g2")]
      let peer = try bench.attach("g3")
      let traffic = try SteadyTraffic(others)
      try peer.announce(.station(9))
      #expect(traffic.advance(by: 100))
      let before = Holdings()
      let replaced = VanishedMemoryTests.replacements

      for round in 1...rounds {
        let error = try EventFD()
        do {
          let victim = try bench.guest("g0", options)
          for ring in [0, 1] { try victim.frontEnd.setRingError(ring, error.descriptor) }
          error.drain()
          try victim.announce(.station(8))
          try exercise(victim, peer, .holeInBuffers, bench)
          #expect(try bench.port("g0").state == .running)
          loss.happen(to: victim)
          try exercise(victim, peer, loss, bench)
          if !loss.isHole {
            try expectQuarantine(bench, error, rounds: UInt64(round))
            // It can't go on in what is left.
            #expect(throws: FrontEndError.self) {
              _ = try victim.frontEnd.stopRing(1)
              try victim.frontEnd.setRingKick(1, victim.pairs[0].transmitq.kickEvent.descriptor)
            }
          }
          #expect(traffic.advance(by: UInt64(Upheaval.share(of: 500))))
          victim.disconnect()
        }
        // The next front-end finds everything in order.
        let fresh = try bench.guest("g0")
        try fresh.announce(.station(8))
        let frame = TestFrame.make(to: .station(8), from: .station(9), stream: 7, sequence: 1)
        try peer.deliver(frame)
        #expect(fresh.collect().contains(frame))
        #expect(try bench.port("g0").state == .running)
        fresh.disconnect()
        _ = peer.collect()
      }

      #expect(eventually { bench.fabric.port(named: "g0")?.state == .waiting })
      #expect(Holdings.return(to: before), "\(before), now \(Holdings())")
      #expect(eventually { VanishedMemoryTests.replacements == replaced })
      for (index, result) in traffic.stop().enumerated() {
        // The others' broadcasts are streams of one frame, over and over.
        let stream = try #require(result.checkers[UInt32(index ^ 1)])
        #expect(stream.missing == 0 && stream.reordered == 0 && result.corrupt == 0)
      }
      bench.expectBalance()
    }

    private func expectQuarantine(_ bench: Bench, _ error: EventFD, rounds: UInt64) throws {
      let reason = "the front-end took memory away that it had shared"
      // A worker may have found zeros where its ring was before housekeeping knows why.
      let isNamed = eventually {
        bench.fabric.port(named: "g0").map { port in
          port.state == .broken && port.explanation.contains(reason)
            && port.queues.allSatisfy { $0.state == .broken && $0.error == reason }
        } ?? false
      }
      #expect(isNamed, "\(String(describing: bench.fabric.port(named: "g0")))")
      #expect(eventually { error.drain() > 0 })
      let counted = eventually {
        bench.fabric.port(named: "g0")?.faults["memory_vanished"] == 2 * rounds
      }
      #expect(counted, "\(bench.fabric.port(named: "g0")?.faults ?? [:])")
      #expect(try bench.port("g0").lastError?.contains(reason) == true)
    }

    private static let cases: [(Way, Loss)] = {
      // Of rings and of buffers, as the worker meets them in each way.
      if Upheaval.isReduced {
        return [(.split, .receiveBuffers), (.packed, .rings), (.translated, .transmitBuffers)]
      }
      return Loss.allCases.map { (.split, $0) }
        + [Loss.rings, .receiveBuffers, .transmitBuffers].flatMap { loss in
          [(.packed, loss), (.translated, loss)]
        }
    }()

    @Test(
      "HP-03: memory that vanishes under a running ring breaks that port alone",
      arguments: cases)
    func loss(_ way: Way, _ loss: Loss) throws {
      try run(loss, way.options)
    }

    @Test("HP-03: again and again, and nothing is left of it")
    func repeated() throws {
      try run(.rings, Way.split.options, rounds: Upheaval.isReduced ? 2 : 4)
    }

    @Test(
      "HP-03: hugetlb memory that vanishes",
      .enabled(if: freeHugepages >= 12, "needs 12 free 2 MiB hugepages"),
      arguments: [Loss.rings, .receiveBuffers, .transmitBuffers, .holeInRings])
    func hugetlb(_ loss: Loss) throws {
      var options = Way.split.options
      options.hugePageShift = 21
      try run(loss, options)
    }

    @Test("HP-03: what has vanished before its ring starts is found then")
    func beforeStart() throws {
      let bench = try Bench()
      let guests = try bench.guests(2)
      try guests[0].stop()
      for region in guests[0].memory.regions { #expect(ftruncate(region.file.raw, 0) == 0) }
      // The used index of the first is read by whoever starts it, and nothing is from there on.
      #expect(throws: FrontEndError.self) { try guests[0].restart() }
      #expect(eventually { bench.fabric.port(named: "g0")?.faults.isEmpty == false })
      guests[0].disconnect()
      let fresh = try bench.guest("g0")
      try fresh.announce(.station(0))
      #expect(eventually { guests[1].collect().count == 1 })
    }

    @Test("HP-03: the same file again, as long as it was, is memory again")
    func mended() throws {
      let bench = try Bench()
      let guest = try bench.attach("g0")
      let peer = try bench.attach("g1")
      let file = guest.memory.regions[0].file
      #expect(ftruncate(file.raw, 0) == 0)
      let isBroken = eventually {
        _ = peer.send(TestFrame.make(to: .broadcast, from: .station(1), sequence: 0))
        return bench.fabric.port(named: "g0")?.state == .broken
      }
      #expect(isBroken)
      // Shorter than it says it is: refused, and what there was is no better.
      #expect(throws: FrontEndError.self) { try guest.frontEnd.shareMemory(guest.memory) }
      #expect(ftruncate(file.raw, guest.memory.regions[0].length) == 0)
      try guest.frontEnd.shareMemory(guest.memory)
      #expect(eventually { bench.fabric.port(named: "g0")?.state == .running })
    }
  }
}

/// Free 2 MiB pages.
private let freeHugepages: Int = {
  let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
  return Int(SmallFile.read(path)?.filter(\.isNumber) ?? "") ?? 0
}()
