import ControlAPI
import Foundation
import Glibc
import Linux
import Switch
import Testing
import VirtioDriver

/// Front-ends for whose memory workers have to wait (decision 16).
extension SwitchTests {
  @Suite struct MemoryStallTests {
    private static let size = 768 << 20

    private final class Victim: @unchecked Sendable {
      let guest: GuestPort
      let start: UInt64
      let base: UnsafeMutableRawPointer

      init(_ bench: Bench) throws {
        var options = GuestPort.Options()
        options.spareMemory = MemoryStallTests.size
        guest = try bench.attach("g0", options)
        let region = guest.memory.regions[0]
        start = (region.guestAddress + UInt64(region.length - MemoryStallTests.size)) & ~0xFFF
        let all = guest.memory.buffer(at: start, length: MemoryStallTests.size)
        base = try #require(all?.pointer)
      }

      /// Touches every page.
      func populate() {
        for page in stride(from: 0, to: MemoryStallTests.size, by: 4096) {
          base.storeBytes(of: 1, toByteOffset: page, as: UInt8.self)
        }
      }

      /// Gives all of it back at once: MADV_REMOVE is FALLOC_FL_PUNCH_HOLE by its address.
      func punch() { #expect(madvise(base, MemoryStallTests.size, 9) == 0) }

      /// Has the switch take a frame from somewhere in it.
      func touch(_ place: inout Int) {
        let pair = guest.pairs[0]
        place = (place + 12_345 * 4096) % MemoryStallTests.size
        let entry = pair.transmitq.availIndex
        let size = pair.transmitq.size
        // No more than the ring has, however long the switch takes.
        if entry &- pair.transmitq.usedIndex >= UInt16(size) { return }
        pair.transmitq.writeDescriptor(
          Int(entry) % size,
          RawDescriptor(address: start + UInt64(place & ~0xFFF), length: 76, flags: 0, next: 0))
        pair.transmitq.writeAvailEntry(entry, entry % UInt16(size))
        pair.transmitq.availIndex = entry &+ 1
        pair.transmitq.kick()
      }
    }

    @Test("HP-03: whose memory is given back while workers need it is named, and loses its rings")
    func named() throws {
      let bench = try Bench()
      let others = [try bench.attach("g1"), try bench.attach("g2")]
      let traffic = try SteadyTraffic(others)
      let victim = try Victim(bench)
      #expect(traffic.advance(by: 100))
      var place = 0
      // Whether the worker looks there while the hole is being made is a matter of luck.
      for _ in 0..<20 where try bench.port("g0").state == .running {
        victim.populate()
        // So that its size has been seen.
        usleep(500_000)
        let over = EventFlag()
        let punch = try Linux.Thread(name: "upheaval") {
          victim.punch()
          over.set()
        }
        while !over.isSet {
          victim.touch(&place)
          usleep(100)
        }
        punch.join()
        usleep(500_000)
      }
      let port = try bench.port("g0")
      #expect(port.state == .broken && port.faults["memory_stalls"] == 2, "\(port)")
      #expect(port.explanation.contains("gave much of its memory back"))
      // Nobody else is blamed, and they go on.
      #expect(try bench.port("g1").faults["memory_stalls"] == nil)
      #expect(try bench.port("g2").faults["memory_stalls"] == nil)
      #expect(traffic.advance(by: 100))
      for (index, result) in traffic.stop().enumerated() {
        let stream = try #require(result.checkers[UInt32(index ^ 1)])
        #expect(stream.missing == 0 && stream.reordered == 0 && result.corrupt == 0)
      }
      // The next front-end finds everything in order.
      victim.guest.disconnect()
      let fresh = try bench.guest("g0")
      try fresh.announce(.station(8))
      #expect(try bench.port("g0").state == .running)
    }

    @Test("Who gives memory back and makes nobody wait goes on")
    func innocent() throws {
      let bench = try Bench()
      let victim = try Victim(bench)
      let peer = try bench.attach("g1")
      try victim.guest.announce(.station(8))
      for _ in 0..<2 {
        victim.populate()
        usleep(500_000)
        victim.punch()
        usleep(500_000)
        try peer.deliver(TestFrame.make(to: .station(8), from: .station(9), sequence: 1))
      }
      #expect(try bench.port("g0").state == .running && bench.port("g0").faults == [:])
    }
  }

  /// Something that has happened, on another thread.
  private final class EventFlag: Sendable {
    private let value = Lock(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
  }
}
