internal import Linux
internal import VirtioDriver

/// What a front-end says of the guest's memory: HP-03 and HP-11.
extension Catalogue {
  static var memoryTables: [Case] { tables + impossibleRegions + changes }

  private static let page: UInt64 = 4096

  private static var tables: [Case] {
    [
      Case("HP-03 none", "a table of no regions", .refusal("0 regions, not 1")) { site in
        try site.refuse([.table([], [])])
        let guest = try site.guest()
        try site.refuse([.table([], [])], from: guest.frontEnd)
        try site.expectDelivery(by: guest)
      },
      Case("HP-03 nine", "a table of more regions than the first front-ends could send", .nothing) {
        site in
        let guest = try site.guest { $0.regionAddresses = (0..<9).map { $0 << 32 } }
        try site.expectDelivery(by: guest)
      },
      Case(
        "DPDK 4d490c7ce3", "a table that says it has more regions than come",
        .refusal("does not fit its count of regions")
      ) { site in
        let files = [OwnedFD](repeating: try site.file(1 << 16), count: 32)
        let regions = (0..<32).map {
          FrontEndMessage.region(guest: $0 << 20, user: 1 << 40 + $0 << 20)
        }
        try site.end(
          [
            .table(regions, count: 33, files), .table(regions, count: 0, files),
            .table(regions, count: 31, files), .table(regions, count: .max, files),
            .table([], count: 1, []), .table([], count: 1 << 27, []),
          ])
      },
      Case(
        "HP-03 too many", "a table of more regions than there can be descriptors",
        .refusal("32 descriptors attached, not 33")
      ) { site in
        let files = [OwnedFD](repeating: try site.file(1 << 16), count: 32)
        let regions = (0..<33).map {
          FrontEndMessage.region(guest: $0 << 20, user: 1 << 40 + $0 << 20)
        }
        try site.end([.table(regions, files)])
      },
      Case(
        "HP-03 no descriptors", "regions without, and with more than their descriptors",
        .refusal("descriptors attached")
      ) { site in
        let file = try site.file(1 << 16)
        let regions = (0..<3).map {
          FrontEndMessage.region(guest: $0 << 20, user: 1 << 40 + $0 << 20)
        }
        try site.end(
          [0, 1, 2, 4, 8, 32].map { .table(regions, [OwnedFD](repeating: file, count: $0)) })
      },
      Case(
        "HP-03 slots", "one region after another, until there is no room",
        .refusal("all 64 memory slots are taken")
      ) { site in
        let frontEnd = try site.negotiated()
        guard frontEnd.protocolFeatures.contains(.configureMemSlots) else {
          throw AttackError.notOffered("CONFIGURE_MEM_SLOTS")
        }
        let file = try site.file(1 << 16)
        func region(_ index: UInt64) -> FrontEndMessage {
          .region(
            .addMemReg, FrontEndMessage.region(guest: index << 20, user: 1 << 40 + index << 20),
            file)
        }
        for index in 0..<UInt64(64) {
          let message = region(index)
          try frontEnd.set(message.request, message.payload, descriptors: message.descriptors)
        }
        try site.refuse((64..<80).map(region), from: frontEnd)
      },
    ]
  }

  /// Regions that can't be, each alone in a table, and added to one.
  private static func refused(
    _ name: String, _ summary: String, _ words: String,
    _ regions: @escaping @Sendable (Site) throws -> [(region: [UInt8], file: OwnedFD)]
  ) -> Case {
    Case(name, summary, .refusal(words)) { site in
      let regions = try regions(site)
      try site.refuse(regions.map { .table([$0.region], [$0.file]) })
      try site.refuse(regions.map { .region(.addMemReg, $0.region, $0.file) })
      // While rings run in good ones, which must be left alone.
      let guest = try site.guest()
      try site.refuse(regions.map { .table([$0.region], [$0.file]) }, from: guest.frontEnd)
      try site.expectDelivery(by: guest)
    }
  }

  private static var impossibleRegions: [Case] {
    [
      refused("HP-03 empty", "a region of no bytes", "is empty") { site in
        [(FrontEndMessage.region(size: 0), try site.file(1 << 16))]
      },
      refused("DPDK c6420a3632", "sizes and offsets that wrap around", "wraps") { site in
        let file = try site.file(1 << 16)
        return [
          (FrontEndMessage.region(size: .max, offset: page), file),
          (FrontEndMessage.region(size: page, offset: .max - page + 1), file),
          (FrontEndMessage.region(guest: .max - 100), file),
          (FrontEndMessage.region(user: .max - 100), file),
          (FrontEndMessage.region(guest: 1, size: .max), file),
        ]
      },
      refused("DPDK 0fe99cf73e", "regions that reach beyond the end of their files", "of a file of")
      {
        site in
        let file = try site.file(1 << 16)
        return [
          (FrontEndMessage.region(size: 1 << 16 + 1), file),
          (FrontEndMessage.region(offset: 1), file),
          (FrontEndMessage.region(size: 1 << 40), file),
          (FrontEndMessage.region(offset: 1 << 16), file),
          (FrontEndMessage.region(size: 1 << 62), file),
          (FrontEndMessage.region(), try site.file(0)),
        ]
      },
      refused(
        "HP-03 no memory", "descriptors of what can't be mapped, or not be written",
        "map 65536 bytes"
      ) { site in
        try (Impostors.all() + [Impostors.readOnly(try site.file(1 << 16))]).map {
          (FrontEndMessage.region(), $0)
        }
      },
      Case(
        "HP-03 huge", "files without content, until no addresses are left for anybody",
        .refusal("of memory that this port may have")
      ) { site in
        // Others make a list of the pages, and would take all there is from whoever tries them.
        guard site.isStrict else { throw AttackError.notOffered("a limit for memory") }
        let file = try site.file(1 << 45)
        func table(_ count: UInt64, of size: UInt64) -> FrontEndMessage {
          .table(
            (0..<count).map {
              FrontEndMessage.region(guest: $0 * size, size: size, user: $0 * size)
            },
            [OwnedFD](repeating: file, count: Int(count)))
        }
        let frontEnd = try site.negotiated()
        // The limit of a port that says nothing else.
        let most = table(8, of: 1 << 37)
        try frontEnd.set(most.request, most.payload, descriptors: most.descriptors)
        try site.refuse(
          [
            table(9, of: 1 << 37), table(4, of: 1 << 45), table(32, of: 1 << 42),
            .region(
              .addMemReg, FrontEndMessage.region(guest: 1 << 46, size: 1 << 45, user: 1 << 46), file
            ),
          ], from: frontEnd)
        try site.visit()
      },
      Case(
        "HP-03 one by one", "regions added one by one, until all together are too large",
        .refusal("of memory that this port may have")
      ) { site in
        guard site.isStrict else { throw AttackError.notOffered("a limit for memory") }
        let (file, size) = (try site.file(1 << 38), UInt64(1) << 38)
        let frontEnd = try site.negotiated()
        func region(_ request: FrontEndRequest, _ place: UInt64, _ bytes: UInt64) -> FrontEndMessage
        {
          let region = FrontEndMessage.region(guest: place * size, size: bytes, user: place * size)
          return request == .addMemReg ? .region(request, region, file) : .region(request, region)
        }
        func set(_ message: FrontEndMessage) throws {
          try frontEnd.set(message.request, message.payload, descriptors: message.descriptors)
        }
        for place in 0..<4 as Swift.Range<UInt64> { try set(region(.addMemReg, place, size)) }
        try site.refuse(
          [region(.addMemReg, 4, 4096), region(.addMemReg, 4, size)], from: frontEnd)
        // What is given back may be had again.
        try set(region(.remMemReg, 0, size))
        try set(region(.addMemReg, 4, size))
        try site.visit()
      },
      Case("HP-03 overlap", "regions that overlap each other", .refusal("overlaps")) { site in
        let file = try site.file(1 << 20)
        let one = FrontEndMessage.region(guest: 1 << 20, size: 1 << 16, user: 1 << 40)
        let others = [
          FrontEndMessage.region(guest: 1 << 20, user: 1 << 41),
          FrontEndMessage.region(guest: 1 << 20 + 0xFFFF, user: 1 << 41),
          FrontEndMessage.region(guest: 1 << 20 - 1, user: 1 << 41),
          FrontEndMessage.region(guest: 0, size: 1 << 20, user: 1 << 40 - page),
          FrontEndMessage.region(guest: 0, user: 1 << 40 + 0xFFFF),
        ]
        try site.refuse(others.map { .table([one, $0], [file, file]) })
        try site.refuse([
          .table([[UInt8]](repeating: one, count: 32), [OwnedFD](repeating: file, count: 32))
        ])
      },
    ]
  }

  private static var changes: [Case] {
    [
      Case(
        "HP-11", "the region that the rings lie in is taken away and comes back, under traffic",
        .refusal("not mapped in one piece")
      ) { site in
        let guest = try site.guest { $0.regionAddresses = [0, 1 << 33] }
        let regions = guest.memory.regions
        guard guest.frontEnd.protocolFeatures.contains(.configureMemSlots) else {
          throw AttackError.notOffered("CONFIGURE_MEM_SLOTS")
        }
        for round in 0..<20 {
          for sequence in 0..<8 { _ = guest.send(site.frame(UInt64(8 * round + sequence))) }
          // Its buffers are in the other one.
          for region in round % 2 == 0 ? [regions[0]] : [regions[1], regions[0]] {
            try guest.frontEnd.removeRegion(region)
          }
          site.faults[.notStarted, default: 0] += round % 2 == 0 ? 2 : 0
          for region in regions where round % 2 == 1 || region.guestAddress == 0 {
            try guest.frontEnd.addRegion(region)
          }
        }
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-11 buffers", "the region that the buffers lie in is taken away",
        .drop("malformed_descriptor")
      ) { site in
        let guest = try site.guest { $0.regionAddresses = [0, 1 << 33] }
        let region = guest.memory.regions[1]
        try guest.frontEnd.removeRegion(region)
        for sequence in 0..<32 { _ = guest.send(site.frame(UInt64(sequence))) }
        try site.expect("frames of memory that is gone don't come back") {
          guest.pairs[0].reclaim()
          return guest.pairs[0].transmitq.outstanding == 0
        }
        try guest.frontEnd.addRegion(region)
        try site.expectDelivery(by: guest)
      },
      Case("HP-11 duplicates", "a region that is added a thousand times", .nothing) { site in
        let guest = try site.guest()
        guard guest.frontEnd.protocolFeatures.contains(.configureMemSlots) else {
          throw AttackError.notOffered("CONFIGURE_MEM_SLOTS")
        }
        for _ in 0..<1000 { try guest.frontEnd.addRegion(guest.memory.regions[0]) }
        try site.expectDelivery(by: guest)
      },
      Case("HP-11 not there", "a region that is not there is taken away", .refusal("no region of"))
      {
        site in
        let guest = try site.guest()
        let region = guest.memory.regions[0]
        let size = UInt64(region.length)
        try site.refuse(
          [
            FrontEndMessage.region(guest: 1 << 40),
            FrontEndMessage.region(size: size - 1, user: region.userAddress),
            FrontEndMessage.region(size: size, user: region.userAddress + 1),
            FrontEndMessage.region(guest: 1, size: size, user: region.userAddress),
            FrontEndMessage.region(size: 0, user: region.userAddress),
          ].map { .region(.remMemReg, $0) }, from: guest.frontEnd)
        try site.expectDelivery(by: guest)
      },
    ]
  }
}
