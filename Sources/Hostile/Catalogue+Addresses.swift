internal import VirtioDriver

/// Descriptors whose address, length or direction is wrong: HG-01 to HG-03, HG-09 and HG-19.
extension Catalogue {
  static var addresses: [Case] {
    both { packed, _ in places(packed) + lengths(packed) + frames(packed) }
  }

  private static func places(_ packed: Bool) -> [Case] {
    [
      dropped(
        "HG-01 outside", "a frame at an address that is in no region", "malformed_descriptor",
        packed: packed
      ) { _, _ in
        let addresses: [UInt64] = [1 << 40, 1 << 63, 0xFFFF_FFFF_FFFF_F000, 1 << 32 - 1]
        return addresses.map { [ForgedDescriptor($0, 64)] }
      },
      dropped(
        "HG-01 end of a region", "a frame that begins in the last bytes of a region and goes on",
        "malformed_descriptor", packed: packed, [], with { $0.regionAddresses = [0, 1 << 33] }
      ) { _, ring in
        ring.guest.memory.regions.flatMap { region -> [[ForgedDescriptor]] in
          let end = region.guestAddress + UInt64(region.length)
          return [1, 12, 26, 75].map { [ForgedDescriptor(end - $0, 76)] }
        }
      },
      dropped(
        "CVE-2018-1059", "only the start of a buffer, of its header or of its table is mapped",
        "malformed_descriptor", packed: packed, .indirectDesc
      ) { _, ring in
        let region = ring.guest.memory.regions[0]
        let end = region.guestAddress + UInt64(region.length)
        return [
          [ForgedDescriptor(end - 6, 12), ForgedDescriptor(0, 64)],
          [ForgedDescriptor(end - 16, 1 << 20)],
          [ForgedDescriptor(end - 16, 32, flags: ForgedDescriptor.indirect)],
        ]
      },
      Case(
        "HG-01 adjacent regions, \(packed ? "packed" : "split")",
        "a frame that begins in one mapping and ends in another, at adjacent guest addresses",
        .nothing
      ) { site in
        let length = UInt64(try site.ring(packed: packed).guest.memory.regions[0].length)
        site.close()
        let ring = try site.ring(packed: packed) { $0.regionAddresses = [0, length] }
        let memory = ring.guest.memory
        let bytes = NetHeader().bytes() + site.frame()
        for split in [12, 40] {
          guard let front = memory.buffer(at: length - UInt64(split), length: split),
            let back = memory.buffer(at: length, length: bytes.count - split)
          else { throw FrontEndError.memory }
          front.write(Array(bytes.prefix(split)))
          back.write(Array(bytes.dropFirst(split)))
          ring.offer([ForgedDescriptor(front.address, UInt32(bytes.count))])
          try site.expectArrival(site.frame())
        }
      },
      dropped(
        "HG-02", "address and length wrap around", "malformed_descriptor", packed: packed
      ) { _, _ in
        [[ForgedDescriptor(.max - 10, 76)], [ForgedDescriptor(.max, .max)]]
      },
      dropped(
        "openvmm#4047", "an address that wraps, behind a good header", "malformed_descriptor",
        packed: packed
      ) { site, ring in
        let header = try site.buffer(in: ring.guest, [])
        return [[ForgedDescriptor(header), ForgedDescriptor(.max - 63, 128)]]
      },
    ]
  }

  private static func lengths(_ packed: Bool) -> [Case] {
    [
      dropped("HG-03 zero", "a chain of no bytes", "header_too_short", packed: packed) {
        _, _ in
        [[ForgedDescriptor(4096, 0)], [ForgedDescriptor(4096, 0), ForgedDescriptor(8192, 0)]]
      },
      dropped(
        "HG-03 four gigabytes", "a length of 0xffffffff", "malformed_descriptor", packed: packed
      ) { _, _ in [[ForgedDescriptor(0, .max)]] },
      Case(
        "CVE-2020-10725, \(packed ? "packed" : "split")",
        "invalid addresses with no length, in a batch of good descriptors",
        .drop("header_too_short")
      ) { site in
        let ring = try site.ring(packed: packed)
        let good = ForgedDescriptor(try site.buffer(in: ring.guest))
        let bad = ForgedDescriptor(1 << 50, 0)
        site.offences = 7
        ring.offer(
          batch: [good, bad, bad, good, good, bad, bad, bad, bad, good, bad, good].map { [$0] })
        try site.expectRecovery(ring)
      },
      delivered(
        "HG-03 zero among others", "a frame with empty descriptors between its parts",
        packed: packed
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        let empty = ForgedDescriptor(1 << 50, 0)
        return [
          empty, ForgedDescriptor(buffer.slice(0, 12)), empty,
          ForgedDescriptor(buffer.slice(12, 64)), empty,
        ]
      },
      dropped(
        "HG-09 transmitq", "a frame in memory that the device may only write",
        "malformed_descriptor", packed: packed
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return [
          [ForgedDescriptor(buffer, flags: ForgedDescriptor.write)],
          [
            ForgedDescriptor(buffer.slice(0, 12)),
            ForgedDescriptor(buffer.slice(12, 64), flags: ForgedDescriptor.write),
          ],
        ]
      },
    ]
  }

  private static func frames(_ packed: Bool) -> [Case] {
    [
      dropped("HG-19 short", "frames of 0, 1 and 13 bytes", "runt", packed: packed) {
        site, ring in
        try [0, 1, 13].map { length in
          [ForgedDescriptor(try site.buffer(in: ring.guest, length: 12 + length))]
        }
      },
      Case(
        "HG-19 14 bytes, \(packed ? "packed" : "split")",
        "a frame that is an Ethernet header alone",
        .nothing
      ) { site in
        let ring = try site.ring(packed: packed)
        let frame = Array(site.frame().prefix(14))
        ring.offer([ForgedDescriptor(try site.buffer(in: ring.guest, frame))])
        try site.expectArrival(frame)
      },
      Case(
        "HG-19 65,550 bytes, \(packed ? "packed" : "split")", "the longest frame there is", .nothing
      ) { site in
        let ring = try site.ring(packed: packed)
        let frame = site.frame(length: 65_550)
        ring.offer([ForgedDescriptor(try site.buffer(in: ring.guest, frame))])
        try site.expectArrival(frame)
      },
      dropped(
        "HG-19 long", "frames longer than there are any", "oversize", packed: packed, [],
        with { $0.spareMemory = 1 << 20 }
      ) { site, ring in
        try [65_559, 65_600, 200_000].map { length in
          [ForgedDescriptor(try site.buffer(in: ring.guest, length: 12 + length))]
        }
      },
    ]
  }
}
