import Glibc

@testable import Dataplane
@testable import Linux

/// Rings on arbitrary memory: one port whose guest writes into its memory whatever the input says, and two honest
/// ones beside it.
///
/// An input is 8 bytes of what was negotiated and where the rings begin, and then what the guest writes: place (2
/// bytes), count (bits 0 to 6; bit 7: the worker turns afterwards), bytes. What is held: nothing outside of the guest's
/// memory is touched (its two regions have the sanitizer's red zones around them, and are no whole pages), what one
/// honest guest sends comes to the other each turn, untouched and by the rules, and the books balance.
enum RingTarget {
  /// Where the rings' parts are in guest memory: descriptors, avail, used, of rings of up to 32 entries.
  private static let transmitq = [0, 0x200, 0x248]
  private static let receiveq = [0x350, 0x550, 0x598]
  private static let largest = 32
  private static let user: UInt64 = 0x7000_0000
  /// Bytes of the guest's regions.
  private static let lengths = [5003, 3001]
  /// Where the second one is, when it does not follow upon the first.
  private static let apart: UInt64 = 0x4000

  static func run(_ input: inout Input, packed: Bool) {
    do {
      try benches[Int(input.byte() & 1)].run(&input, packed: packed)
    } catch {
      hold(false, "\(error)")
    }
  }

  /// With vectors and without.
  nonisolated(unsafe) private static let benches = [true, false].map {
    do { return try Bench(vectors: $0) } catch { fatalError("\(error)") }
  }

  private final class Bench {
    let fabric: FuzzPlane
    let sender: HonestGuest
    /// The queue pairs of one port.
    let receivers: [HonestGuest]
    let uplink: Uplink
    /// A frame to be cut into segments, which the sender sends once in a while.
    let large = Sent.tcp(payload: 5000, segments: 1448)
    let call: EventFD
    let hostile: Int
    /// The hostile guest's memory, and two ways to see it.
    let regions: [UnsafeMutableRawPointer]
    let joined: GuestMemory
    let split: GuestMemory
    /// Turns so far, of this input.
    var turns: UInt64 = 0

    init(vectors: Bool) throws {
      fabric = try FuzzPlane(vectors: vectors)
      sender = try HonestGuest.plain(transmit: 8192)
      receivers = [try HonestGuest.plain(transmit: 256), try HonestGuest.plain(transmit: 256)]
      call = try EventFD()
      // The sender first: its frame finds the receiver's buffers before others have taken them.
      _ = try fabric.add(sender, asks: .all)
      _ = try fabric.add(receivers[0], receivers[1])
      uplink = try fabric.addUplink()
      hostile = try fabric.plane.addPort(pairs: 1)
      regions = lengths.map { malloc($0)! }
      let mappings = zip(regions, lengths).map { base, length in
        // It unmaps nothing.
        Mapping(base: base, length: length, pageSize: 4096, mapped: base, mappedLength: 0)
      }
      func memory(_ second: UInt64) -> GuestMemory {
        GuestMemory([
          MappedRegion(guestAddress: 0, userAddress: user, mapping: mappings[0]),
          MappedRegion(
            guestAddress: second, userAddress: user + second, mapping: mappings[1]),
        ])
      }
      joined = memory(UInt64(lengths[0]))
      split = memory(apart)
    }

    func run(_ input: inout Input, packed: Bool) throws {
      let flags = input.byte()
      let more = input.byte()
      let bases: [UInt16] = [input.number(), input.number()]
      let size = packed ? 1 + Int(input.byte()) % largest : 1 << Int(input.byte() % 6)
      for (base, length) in zip(regions, lengths) { memset(base, 0, length) }
      let memory = flags & 1 != 0 ? split : joined
      let iotlb = flags & 2 != 0 ? try IOTLB(memory) : nil
      if let iotlb { fill(iotlb, more) }
      var writes = 0
      turns = 0
      // The rings start when the first bytes are there.
      repeat {
        let end = write(&input)
        writes += 1
        if !end, !input.isEmpty, writes < 128 { continue }
        if turns == 0 {
          for index in 0..<2 {
            var base = UInt32(bases[index])
            if packed { base = base & 0x8000 | (base & 0x7FFF) % UInt32(size) }
            let setup = setup(index, size, packed, base, flags, more)
            let start = QueueStart(index, .ring(setup, memory: memory, iotlb: iotlb))
            if let error = fabric.plane.startQueues([start], of: hostile)[0] { throw error }
          }
        }
        turn()
        if let iotlb { answer(iotlb, more) }
        rest()
      } while !input.isEmpty && turns < 16 && writes < 128
      for (index, base) in fabric.plane.stopQueues([0, 1], of: hostile).enumerated() {
        hold(base != nil, "ring \(index) did not run")
      }
      if let iotlb {
        iotlb.remove(from: 0, through: .max)
        fabric.plane.settle(iotlb)
      }
      fabric.holdBalance()
    }

    private func setup(
      _ index: Int, _ size: Int, _ packed: Bool, _ base: UInt32, _ flags: UInt8, _ more: UInt8
    ) -> RingSetup {
      // Behind an IOMMU device addresses are guest addresses.
      let parts = (index == 0 ? receiveq : transmitq).map {
        UInt64($0) + (flags & 2 != 0 ? 0 : user)
      }
      return RingSetup(
        size: size, descriptors: parts[0], avail: parts[1], used: parts[2], base: base,
        packed: packed, inOrder: flags & 4 != 0, eventIndex: flags & 8 != 0,
        indirect: flags & 16 != 0, mergeable: flags & 32 != 0, version1: flags & 64 != 0,
        offloads: flags & 128 != 0 ? .all : .none, enabled: more & 0x80 == 0, kick: nil,
        call: call.descriptor)
    }

    /// Writes what the input says next; returns whether the worker is to turn.
    private func write(_ input: inout Input) -> Bool {
      let place = Int(input.number(UInt16.self)) % (lengths[0] + lengths[1])
      let count = input.byte()
      write(input.take(Int(count & 0x7F)), at: place)
      return count & 0x80 != 0
    }

    private func write(_ bytes: [UInt8], at start: Int) {
      for (offset, byte) in bytes.enumerated() {
        let place = start + offset
        if place < lengths[0] {
          regions[0].storeBytes(of: byte, toByteOffset: place, as: UInt8.self)
        } else if place < lengths[0] + lengths[1] {
          regions[1].storeBytes(of: byte, toByteOffset: place - lengths[0], as: UInt8.self)
        }
      }
    }

    // ---- Behind an IOMMU ----

    /// Device addresses are guest addresses; the rings' parts are known, and what follows for this or that.
    private func fill(_ iotlb: IOTLB, _ choice: UInt8) {
      _ = iotlb.insert(
        Translation(address: 0, size: 0x700, user: user, access: [.read, .write]))
      let access = DeviceAccess(rawValue: choice & 3)
      if access.isEmpty { return }
      _ = iotlb.insert(
        Translation(
          address: 0x700, size: 0x100 + UInt64(choice & 0x7C) << 4, user: user + 0x700,
          access: access))
    }

    /// As a front-end answers, a few bytes at a time, where there is something; what it said long ago it takes back.
    private func answer(_ iotlb: IOTLB, _ choice: UInt8) {
      for miss in fabric.plane.takeMisses(port: hostile).prefix(4) {
        guard miss.address < UInt64(lengths[0]) - 256 else { continue }
        let changed = iotlb.insert(
          Translation(
            address: miss.address, size: 256, user: user + miss.address, access: miss.access))
        if changed { fabric.plane.settle(iotlb) }
      }
      if turns % 4 == 3 {
        // Not where the rings are.
        let first = 0x700 + UInt64(choice) << 4
        iotlb.remove(from: first, through: first + 0x1FF)
        fabric.plane.settle(iotlb)
      }
    }

    // ---- Beside it ----

    private func turn() {
      turns += 1
      let order = withUnsafeBytes(of: turns, Array.init)
      let frame: [UInt8] =
        [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x88, 0xB5] + order
        + [UInt8](repeating: UInt8(truncatingIfNeeded: turns), count: 42 + Int(turns % 3) * 640)
      sender.send(frame)
      let isLarge = turns % 3 == 1
      if isLarge { sender.send(large.frame, header: large.header) }
      _ = fabric.plane.turn()
      let received = receivers.map { $0.receiveFrames() }
      // Each of the two is a flow, which comes by one queue pair; what else comes is the hostile guest's.
      let (first, rest) = (received[0], received[1])
      hold(first.contains(frame) || rest.contains(frame), "an honest guest's frame did not arrive")
      if isLarge {
        hold(
          first.count { $0.count == 1502 } + rest.count { $0.count == 1502 } >= 3,
          "an honest guest's segments did not arrive")
      }
      let frames = uplink.receiveFrames()
      hold(frames.contains(frame), "an honest guest's frame did not go out")
      _ = sender.receive()
      for guest in [sender] + receivers {
        let offences = guest.takeOffences()
        hold(offences.isEmpty, "\(offences)")
      }
    }

    /// As a worker that goes to sleep, and is woken.
    private func rest() {
      fabric.plane.state.withLock { state in
        for queue in state.ports[hostile]?.queues ?? [] {
          _ = queue?.queue.arm()
          queue?.queue.disarm()
        }
      }
      call.drain()
    }
  }
}
