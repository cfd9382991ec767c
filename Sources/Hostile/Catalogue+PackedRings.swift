internal import VirtioDriver

/// What only a packed ring can be made to hold: HG-16.
extension Catalogue {
  private static let endless = Sign.fault("has no end")

  static var packedRings: [Case] {
    [
      Case("HG-16 id", "buffer ids beyond the ring", .nothing) { site in
        let ring = try site.ring(packed: true)
        let buffer = try site.buffer(in: ring.guest)
        for id in [UInt16(ring.size), 32_768, .max] {
          ring.offer([ForgedDescriptor(buffer.address, UInt32(buffer.length), id: id)])
          try site.expectReturn(ring)
        }
        try site.expectArrival(site.frame())
      },
      Case("HG-16 same id", "one buffer id for every buffer, and for those of a chain", .nothing) {
        site in
        let ring = try site.ring(packed: true)
        let buffer = try site.buffer(in: ring.guest)
        ring.offer(
          batch: (0..<20).map { _ in
            [
              ForgedDescriptor(buffer.address, 12, id: 7),
              ForgedDescriptor(buffer.address + 12, 64, id: 7),
            ]
          })
        try site.expectReturn(ring)
        try site.expectArrival(site.frame())
      },
      Case("SPDK#3860", "buffer ids beyond the ring in chains and in order", .nothing) { site in
        let ring = try site.ring(packed: true, .inOrder)
        let buffer = try site.buffer(in: ring.guest)
        for id in [UInt16(ring.size), .max] {
          ring.offer(
            batch: (0..<10).map { _ in
              [
                ForgedDescriptor(buffer.address, 12, id: id),
                ForgedDescriptor(buffer.address + 12, 64, id: id),
              ]
            })
        }
        try site.expectArrival(site.frame())
      },
      Case("HG-16 receiveq id", "receive buffers with ids beyond the ring", .nothing) { site in
        let ring = try site.ring(transmitq: false, packed: true)
        site.announce(ring.guest)
        let buffer = try site.allocate(2048, in: ring.guest)
        for slot in 0..<ring.size {
          ring.overwrite(
            slot,
            ForgedDescriptor(
              buffer.address, 2048, flags: ForgedDescriptor.write, id: UInt16(65_535 - slot)))
        }
        site.sendFromWitness(ring.size)
      },
      Case(
        "HG-16 wrap", "descriptors of the other lap: used already, or not yet available", .nothing
      ) { site in
        let ring = try site.ring(packed: true)
        let buffer = try site.buffer(in: ring.guest)
        let flags = PackedDescriptor.bothFlags
        for slot in 0..<ring.size {
          ring.withRing { packed in
            packed.writePackedDescriptor(
              slot,
              PackedDescriptor(
                address: buffer.address, length: 76, id: 0, flags: slot % 2 == 0 ? flags : 0))
            packed.kick()
          }
        }
      },
      Case("HG-16 chain without end", "NEXT in the last descriptor that is available", endless) {
        site in
        let ring = try site.ring(packed: true)
        let buffer = try site.buffer(in: ring.guest)
        ring.offer([ForgedDescriptor(buffer, flags: ForgedDescriptor.next)])
      },
      Case("HG-16 ring without end", "NEXT in every descriptor of the ring", endless) { site in
        let ring = try site.ring(packed: true)
        let buffer = try site.buffer(in: ring.guest)
        ring.offer(
          [ForgedDescriptor](
            repeating: ForgedDescriptor(buffer, flags: ForgedDescriptor.next), count: ring.size))
      },
      Case("HG-05 packed", "a chain as long as the ring that goes on at its beginning", endless) {
        site in
        let ring = try site.ring(packed: true)
        for _ in 0..<3 {
          ring.offer(
            [ForgedDescriptor](
              repeating: ForgedDescriptor(4096, 0, flags: ForgedDescriptor.next), count: ring.size))
          try ring.restart()
        }
        ring.offer(
          [ForgedDescriptor](
            repeating: ForgedDescriptor(4096, 0, flags: ForgedDescriptor.next), count: ring.size))
      },
      Case("CVE-2026-16457", "a malformed chain, without end, in every lap of a ring", endless) {
        site in
        let ring = try site.ring(packed: true)
        let buffer = try site.buffer(in: ring.guest)
        for _ in 0..<5 {
          ring.offer([
            ForgedDescriptor(buffer, flags: ForgedDescriptor.next),
            ForgedDescriptor(1 << 50, .max, flags: ForgedDescriptor.next | ForgedDescriptor.write),
          ])
          try ring.restart()
        }
        ring.offer([ForgedDescriptor(buffer, flags: ForgedDescriptor.next)])
      },
      Case(
        "HG-16 receiveq without end", "a receive buffer that is a chain without end", endless
      ) { site in
        let ring = try site.ring(transmitq: false, packed: true) { $0.ringSize = 16 }
        site.announce(ring.guest)
        let buffer = try site.allocate(64, in: ring.guest)
        for slot in 0..<ring.size {
          ring.overwrite(
            slot,
            ForgedDescriptor(buffer, flags: ForgedDescriptor.write | ForgedDescriptor.next))
        }
        site.sendFromWitness(4)
      },
      Case(
        "HG-16 all flags", "every combination of a descriptor's flags, each on a ring of its own",
        endless, .drop("malformed_descriptor")
      ) { site in
        let ring = try site.ring(packed: true, .indirectDesc)
        let buffer = try site.buffer(in: ring.guest)
        for bits in 0..<64 as Swift.Range<UInt16> {
          var flags = bits & 7
          if bits & 8 != 0 { flags |= PackedDescriptor.availFlag }
          if bits & 16 != 0 { flags |= PackedDescriptor.usedFlag }
          if bits & 32 != 0 { flags |= 0x7F78 }
          ring.withRing { packed in
            for slot in 0..<3 {
              packed.writePackedDescriptor(
                slot,
                PackedDescriptor(address: buffer.address, length: 76, id: bits, flags: flags))
            }
            packed.kick()
          }
          // The worker may see the descriptors at this moment or never.
          try site.waitATurn(ring)
          try ring.restart()
        }
      },
    ]
  }
}

extension Site {
  /// Gives the switch time to look at the guest's rings: it answers a message only between two looks.
  func waitATurn(_ ring: ForgedRing) throws(FrontEndError) {
    Deadline.pause()
    try ring.guest.frontEnd.synchronize()
  }
}
