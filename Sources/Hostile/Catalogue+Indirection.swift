internal import VirtioDriver

/// Indirect tables: HG-07.
extension Catalogue {
  static var indirection: [Case] {
    both { packed, _ in tables(packed) + entries(packed) } + [
      dropped(
        "HG-07 loop", "a table that is a loop, with and without lengths", "chain_too_long",
        packed: false, .indirectDesc
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return try [76, 0 as UInt32].map { length in
          let table = try site.allocate(32, in: ring.guest)
          let entry = ForgedDescriptor(
            buffer.address, length, flags: ForgedDescriptor.next, next: 0)
          ring.writeTable([entry, entry], to: table)
          return [ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]
        }
      },
      dropped(
        "HG-07 beyond the table", "a table whose chain leaves it", "malformed_descriptor",
        packed: false, .indirectDesc
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest)
        return try [1, 2, 64, UInt16.max].map { next in
          let table = try site.allocate(16, in: ring.guest)
          ring.writeTable(
            [ForgedDescriptor(buffer.address, 76, flags: ForgedDescriptor.next, next: next)],
            to: table)
          return [ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]
        }
      },
    ]
  }

  private static func tables(_ packed: Bool) -> [Case] {
    [
      Case(
        "HG-07 not negotiated, \(packed ? "packed" : "split")",
        "an indirect table that nobody agreed upon", .drop("malformed_descriptor")
      ) { site in
        let ring = try site.ring(packed: packed) { $0.features.remove(.indirectDesc) }
        ring.offer([try site.goodTable(ring)])
        try site.expectRecovery(ring)
      },
      dropped(
        "HG-07 and more", "descriptors behind an indirect table", "malformed_descriptor",
        packed: packed, .indirectDesc
      ) { site, ring in
        let table = try site.goodTable(ring)
        return [[table, ForgedDescriptor(table.address, 64)], [table, table]]
      },
      dropped(
        "HG-07 length", "tables of no bytes, and of parts of an entry", "malformed_descriptor",
        packed: packed, .indirectDesc
      ) { site, ring in
        let table = try site.goodTable(ring)
        return [0, 1, 15, 17, 4095 as UInt32].map { length in
          [ForgedDescriptor(table.address, length, flags: table.flags)]
        }
      },
      dropped(
        "HG-07 too long", "a table of a megabyte and more", "malformed_descriptor", packed: packed,
        .indirectDesc
      ) { site, ring in
        let table = try site.goodTable(ring)
        return [0xFFFF_FFF0, 1 << 31 as UInt32].map { length in
          [ForgedDescriptor(table.address, length, flags: table.flags)]
        }
      },
      dropped(
        "HG-07 outside", "tables that are not in memory, or only their first bytes",
        "malformed_descriptor", packed: packed, .indirectDesc,
        with { $0.regionAddresses = [0, 1 << 33] }
      ) { _, ring in
        let region = ring.guest.memory.regions[0]
        let end = region.guestAddress + UInt64(region.length)
        return [1 << 45, .max - 15, end, end - 16, end - 4096 + 16].map { address in
          [ForgedDescriptor(address, 4096, flags: ForgedDescriptor.indirect)]
        }
      },
      // virtio v1.4, 2.7.5.3 asks for no alignment.
      delivered(
        "HG-07 misaligned", "a table at an odd address", packed: packed, .indirectDesc
      ) { site, ring in try table(15, site, ring) },
      delivered(
        "HG-07 straddling", "a table that lies in two pages", packed: packed, .indirectDesc
      ) { site, ring in try table(16, site, ring) },
    ]
  }

  /// A good table that begins so many bytes before the end of a page.
  private static func table(
    _ back: Int, _ site: Site, _ ring: ForgedRing
  ) throws -> [ForgedDescriptor] {
    let pages = try site.allocate(8192 + 4096, in: ring.guest)
    let table = pages.slice(Int(4096 - pages.address % 4096) + 4096 - back, 32)
    let buffer = try site.buffer(in: ring.guest)
    ring.writeTable(
      [
        ForgedDescriptor(buffer.slice(0, 12), flags: ForgedDescriptor.next),
        ForgedDescriptor(buffer.slice(12, 64)),
      ], to: table)
    return [ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]
  }

  private static func entries(_ packed: Bool) -> [Case] {
    [
      // In a packed ring's table WRITE alone counts (virtio v1.4, 2.8.7): what is nested is a piece of the frame.
      Case(
        "HG-07 nested, \(packed ? "packed" : "split")", "an indirect table in an indirect table",
        packed ? .nothing : .drop("malformed_descriptor")
      ) { site in
        let ring = try site.ring(packed: packed, .indirectDesc)
        let table = try site.allocate(16, in: ring.guest)
        ring.writeTable([try site.goodTable(ring)], to: table)
        ring.offer([ForgedDescriptor(table, flags: ForgedDescriptor.indirect)])
        try site.expectRecovery(ring)
      },
      Case(
        "HG-07 itself, \(packed ? "packed" : "split")", "an indirect table that names itself",
        packed ? .nothing : .drop("malformed_descriptor")
      ) { site in
        let ring = try site.ring(packed: packed, .indirectDesc)
        let table = try site.allocate(16, in: ring.guest)
        let itself = ForgedDescriptor(table, flags: ForgedDescriptor.indirect)
        ring.writeTable([itself], to: table)
        ring.offer([itself])
        try site.expectRecovery(ring)
      },
      dropped(
        "HG-07 entries", "entries that are outside of memory, or for writing",
        "malformed_descriptor", packed: packed, .indirectDesc
      ) { site, ring in
        let good = ForgedDescriptor(
          try site.buffer(in: ring.guest), flags: ForgedDescriptor.next)
        let bad = [
          ForgedDescriptor(1 << 45, 64), ForgedDescriptor(.max, 64),
          ForgedDescriptor(good.address, 64, flags: ForgedDescriptor.write),
        ]
        return try bad.map { entry in
          let table = try site.allocate(32, in: ring.guest)
          ring.writeTable([good, entry], to: table)
          return [ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]
        }
      },
      dropped(
        "HG-07 empty entries", "a table of entries without a length", "header_too_short",
        packed: packed, .indirectDesc
      ) { site, ring in
        let table = try site.allocate(16 * 100, in: ring.guest)
        ring.writeTable(
          (0..<100).map {
            ForgedDescriptor(4096, 0, flags: $0 < 99 ? ForgedDescriptor.next : 0)
          }, to: table)
        return [[ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]]
      },
    ]
  }
}

extension Site {
  /// An indirect table of one entry, with a good frame.
  func goodTable(_ ring: ForgedRing) throws -> ForgedDescriptor {
    let table = try allocate(64, in: ring.guest)
    ring.writeTable([ForgedDescriptor(try buffer(in: ring.guest))], to: table.slice(0, 16))
    return ForgedDescriptor(table.slice(0, 16), flags: ForgedDescriptor.indirect)
  }
}
