internal import VirtioDriver

/// Work without an end: what is to be bounded is how long the others wait.
extension Catalogue {
  static var floods: [Case] {
    both { packed, layout in
      [
        flood(
          "CVE-2019-3900", "chains of empty descriptors, as fast as they are taken", packed: packed,
          .drop("header_too_short")
        ) { site, ring in
          [ForgedDescriptor](repeating: ForgedDescriptor(4096, 0), count: 4)
        },
        flood(
          "HG-06 flood", "tables of a thousand pieces, as fast as they are taken", packed: packed,
          needing: .indirectDesc, .drop("oversize"), .drop("chain_too_long")
        ) { site, ring in
          let table = try site.allocate(16 * 999, in: ring.guest)
          let buffer = try site.allocate(4096, in: ring.guest)
          ring.writeTable(
            (0..<999).map {
              ForgedDescriptor(buffer, flags: $0 < 998 ? ForgedDescriptor.next : 0)
            }, to: table)
          return [ForgedDescriptor(table, flags: ForgedDescriptor.indirect)]
        },
        flood(
          "HG-18 flood",
          "frames that must be cut into five hundred segments each, as fast as they are taken",
          packed: packed, needing: [.csum, .hostTSO4], .nothing
        ) { site, ring in
          let header = NetHeader(
            flags: NetHeader.needsCsum, gsoType: NetHeader.gsoTCPv4, hdrLen: 54, gsoSize: 128,
            csumStart: 34, csumOffset: 16)
          return [
            ForgedDescriptor(try site.buffer(in: ring.guest, header: header, site.tcp(65_000)))
          ]
        },
        flood(
          "HG-19 flood", "the longest frames there are, as fast as they are taken",
          packed: packed, .nothing
        ) { site, ring in
          let frame = EthernetFrame.make(
            to: Site.witness, from: Site.attacker, payload: [1], length: 65_550)
          return [ForgedDescriptor(try site.buffer(in: ring.guest, frame))]
        },
      ]
    }
  }

  /// A case that offers the same chain for a while, as often as the ring takes it.
  private static func flood(
    _ name: String, _ summary: String, packed: Bool, needing required: VirtioFeatures = [],
    _ signs: Sign...,
    setUp: @escaping @Sendable (Site, ForgedRing) throws -> [ForgedDescriptor]
  ) -> Case {
    Case("\(name), \(packed ? "packed" : "split")", summary, signs: signs) { site in
      let ring = try site.ring(packed: packed, required)
      let chain = try setUp(site, ring)
      let most = max(1, ring.size / max(1, chain.count) / 2)
      let deadline = Deadline(milliseconds: 150)
      while !deadline.isOver {
        ring.offer(batch: [[ForgedDescriptor]](repeating: chain, count: most))
        _ = ring.awaitUsed(milliseconds: 20)
        site.collect()
      }
      try site.expectReturn(ring)
    }
  }
}
