internal import VirtioDriver

/// Chains that lead where no chain may: HG-04 to HG-06, HG-08, HG-11 and HG-12.
extension Catalogue {
  static var chains: [Case] {
    links + both { packed, _ in headers(packed) + totals(packed) }
  }

  /// Of split rings, whose descriptors name their successors.
  private static var links: [Case] {
    [
      dropped(
        "HG-04", "a chain that goes on beyond the table", "malformed_descriptor", packed: false
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return [UInt16(ring.size), 32768, .max].map { next in
          [ForgedDescriptor(buffer.address, 76, flags: ForgedDescriptor.next, next: next)]
        }
      },
      dropped("HG-05", "chains that end where they began", "chain_too_long", packed: false) {
        site, ring in
        let buffer = try site.buffer(in: ring.guest)
        // Each is offered at the next place of the ring: 0; 1 and 2.
        return [
          [ForgedDescriptor(buffer.address, 76, flags: ForgedDescriptor.next, next: 0)],
          [
            ForgedDescriptor(buffer.address, 76, next: 2),
            ForgedDescriptor(buffer.address, 76, flags: ForgedDescriptor.next, next: 1),
          ],
        ]
      },
      dropped(
        "CVE-2016-6490", "a chain of descriptors without length that ends where it began",
        "chain_too_long", packed: false
      ) { _, _ in
        [[ForgedDescriptor(4096, 0, flags: ForgedDescriptor.next, next: 0)]]
      },
      dropped(
        "DPDK 450539b47e", "a loop through every descriptor of the ring, none with a length",
        "chain_too_long", packed: false
      ) { _, ring in
        [
          (0..<ring.size).map {
            ForgedDescriptor(
              4096, 0, flags: ForgedDescriptor.next, next: UInt16(($0 + 1) % ring.size))
          }
        ]
      },
      Case(
        "HG-11", "an avail entry that names no descriptor",
        .fault("names a descriptor beyond the table")
      ) { site in
        let ring = try site.ring(packed: false)
        ring.offer(head: UInt16(ring.size))
      },
      Case(
        "HG-11 0xffff", "an avail entry of 0xffff, behind good ones",
        .fault("names a descriptor beyond the table")
      ) { site in
        let ring = try site.ring(packed: false)
        let buffer = try site.buffer(in: ring.guest)
        for _ in 0..<3 { ring.offer([ForgedDescriptor(buffer)]) }
        ring.offer(head: .max)
      },
      Case(
        "HG-11 receiveq", "the same where the guest's receive buffers are",
        .fault("names a descriptor beyond the table")
      ) { site in
        let ring = try site.ring(transmitq: false, packed: false)
        site.announce(ring.guest)
        ring.withRing { $0.writeAvailEntry(3, .max) }
        site.sendFromWitness(ring.size + 4)
      },
      Case("HG-12", "a head that is made available twice", .nothing) { site in
        let ring = try site.ring(packed: false)
        ring.offer([ForgedDescriptor(try site.buffer(in: ring.guest))])
        for _ in 0..<10 { ring.offer(head: 0) }
        try site.expectReturn(ring)
        try site.expectArrival(site.frame())
      },
      Case("CVE-2016-5403", "more buffers than the ring has, never taken back", .nothing) { site in
        let ring = try site.ring(packed: false)
        let buffer = try site.buffer(in: ring.guest)
        for _ in 0..<20 {
          for _ in 0..<ring.size { ring.offer([ForgedDescriptor(buffer)]) }
          try site.expectReturn(ring)
        }
        try site.expectArrival(site.frame())
      },
    ]
  }

  private static func headers(_ packed: Bool) -> [Case] {
    [
      Case(
        "HG-08 pieces, \(packed ? "packed" : "split")",
        "a virtio-net header in 1 to 12 descriptors, the last shared with the frame or not",
        .nothing
      ) { site in
        let ring = try site.ring(packed: packed)
        for (sequence, parts) in (1...12).enumerated() {
          for shared in [false, true] {
            let frame = site.frame(UInt64(2 * sequence + (shared ? 1 : 0)))
            let buffer = try site.buffer(in: ring.guest, frame)
            let size = 12 / parts
            var chain = (0..<parts).map { part in
              let length = part == parts - 1 ? 12 - size * part : size
              return ForgedDescriptor(buffer.slice(size * part, length))
            }
            if shared {
              chain[parts - 1].length += UInt32(frame.count)
            } else {
              chain.append(ForgedDescriptor(buffer.slice(12, frame.count)))
            }
            ring.offer(chain)
            try site.expectReturn(ring)
            try site.expectArrival(frame)
          }
        }
      },
      dropped(
        "HG-08 short", "chains of 1 to 11 bytes, in one descriptor or several", "header_too_short",
        packed: packed
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return (1...11).map { [ForgedDescriptor(buffer.slice(0, $0))] } + [
          (0..<11).map { ForgedDescriptor(buffer.slice($0, 1)) }
        ]
      },
      dropped(
        "CVE-2022-2132", "a chain no longer than the header, or one that ends inside of it",
        "runt", packed: packed
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return [
          [ForgedDescriptor(buffer.slice(0, 12))],
          [ForgedDescriptor(buffer.slice(0, 6)), ForgedDescriptor(buffer.slice(6, 6))],
          [ForgedDescriptor(buffer.slice(0, 12)), ForgedDescriptor(buffer.address, 0)],
          [ForgedDescriptor(buffer.slice(0, 10)), ForgedDescriptor(buffer.slice(10, 3))],
        ]
      },
      dropped(
        "openvmm#4045", "a bad chain of several descriptors in the way of good ones",
        "malformed_descriptor", packed: packed
      ) { site, ring in
        let good = ForgedDescriptor(try site.buffer(in: ring.guest))
        return (1..<10).map { place in
          (0..<10).map { $0 == place ? ForgedDescriptor(1 << 50, 64) : good }
        }
      },
      Case(
        "CH#8142, \(packed ? "packed" : "split")", "bad chains on every ring of two queue pairs",
        .drop("malformed_descriptor")
      ) { site in
        let guest = try site.guest(packed ? .ringPacked : []) { $0.queuePairs = 2 }
        for pair in [0, 1] {
          let receiveq = ForgedRing(guest, transmitq: false, pair: pair)
          for slot in 0..<receiveq.size { receiveq.overwrite(slot, ForgedDescriptor(1 << 50, 1)) }
          let ring = ForgedRing(guest, pair: pair)
          ring.offer(batch: (0..<20).map { _ in [ForgedDescriptor(1 << 50, .max)] })
          try site.expectRecovery(ring)
        }
        site.sendFromWitness(40)
      },
      dropped(
        "DPDK e31b57e732", "a chain of one byte less than the header", "header_too_short",
        packed: packed
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return [[ForgedDescriptor(buffer.slice(0, 11))]]
      },
      dropped(
        "DPDK dc1516e260", "a header of many empty descriptors and one of a byte",
        "header_too_short", packed: packed
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return [
          (0..<20).map { ForgedDescriptor(buffer.address, $0 == 19 ? 1 : 0) }
        ]
      },
    ]
  }

  private static func totals(_ packed: Bool) -> [Case] {
    [
      dropped(
        "HG-06 bytes", "chains of megabytes, in descriptors that all name the same memory",
        "oversize", packed: packed
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest, length: 65_536)
        return [2, 40].map { count in
          [ForgedDescriptor](repeating: ForgedDescriptor(buffer), count: count)
        }
      },
      dropped(
        "HG-06 four gigabytes", "a table of entries whose sum is beyond 32 bits", "oversize",
        packed: packed, .indirectDesc, with { $0.spareMemory = 9 << 20 }
      ) { site, ring in
        let buffer = try site.allocate(8 << 20, in: ring.guest)
        let table = try site.allocate(16 * 600, in: ring.guest)
        ring.writeTable(
          (0..<600).map {
            ForgedDescriptor(buffer, flags: $0 < 599 ? ForgedDescriptor.next : 0)
          }, to: table)
        return [[ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]]
      },
      dropped(
        "HG-06 pieces", "a table of more entries than any frame needs", "chain_too_long",
        packed: packed, .indirectDesc, with { $0.spareMemory = 2 << 20 }
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return try [1100, 32_768].map { count in
          let table = try site.allocate(16 * count, in: ring.guest)
          ring.writeTable(
            (0..<count).map {
              ForgedDescriptor(
                buffer.address, 1, flags: $0 < count - 1 ? ForgedDescriptor.next : 0)
            }, to: table)
          return [ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]
        }
      },
    ]
  }
}

extension Site {
  /// A piece of a guest's memory, zeroed.
  func allocate(_ length: Int, in guest: GuestPort) throws -> GuestBuffer {
    guard let buffer = guest.memory.allocate(length) else { throw FrontEndError.memory }
    return buffer
  }

  /// Lets the switch learn the attacker's address, by the guest's own driver.
  func announce(_ guest: GuestPort) {
    _ = guest.send(frame(1 << 32))
    _ = Deadline.wait(milliseconds: patience) {
      guest.pairs[0].reclaim()
      return guest.pairs[0].transmitq.outstanding == 0
    }
    collect()
  }
}
