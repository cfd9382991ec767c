internal import VirtioDriver

/// What a virtio-net header may ask for: HG-18.
extension Catalogue {
  /// Checksum and segmentation, to the switch, as far as it offers them.
  private static let all: VirtioFeatures = [.csum, .hostTSO4, .hostTSO6, .hostECN, .hostUSO]
  /// What there is no attack without.
  private static let least: VirtioFeatures = [.csum, .hostTSO4]

  static var offloads: [Case] {
    both { packed, layout in sums(packed) + segments(packed) + agreements(packed, layout) }
  }

  /// A case whose frames ask for something that can't be done.
  private static func malformed(
    _ name: String, _ summary: String, packed: Bool, length: Int = 3000,
    _ headers: @escaping @Sendable (Int) -> [NetHeader]
  ) -> Case {
    dropped(
      name, summary, "malformed_offload", packed: packed, least,
      with { $0.features.formUnion(all) }
    ) { site, ring in
      try headers(length).map { header in
        [ForgedDescriptor(try site.buffer(in: ring.guest, header: header, site.tcp(length)))]
      }
    }
  }

  private static func sum(_ start: Int, _ offset: Int) -> NetHeader {
    NetHeader(
      flags: NetHeader.needsCsum, csumStart: UInt16(start), csumOffset: UInt16(offset))
  }

  private static func segment(
    _ type: UInt8, size: UInt16, flags: UInt8 = NetHeader.needsCsum, headers: UInt16 = 54,
    start: UInt16 = 34, offset: UInt16 = 16
  ) -> NetHeader {
    NetHeader(
      flags: flags, gsoType: type, hdrLen: headers, gsoSize: size, csumStart: start,
      csumOffset: offset)
  }

  private static func sums(_ packed: Bool) -> [Case] {
    [
      malformed("HG-18 csum_start", "a checksum that begins outside of the frame", packed: packed) {
        [sum($0, 0), sum($0 + 1, 16), sum(65_535, 0), sum(65_535, 65_535)]
      },
      malformed(
        "HG-18 csum_offset", "a checksum to be written outside of the frame", packed: packed
      ) { [sum(34, $0 - 34), sum(34, $0 - 35), sum(34, 65_535), sum($0 - 2, 1)] },
      malformed(
        "HG-18 addresses", "a checksum over or into the Ethernet header", packed: packed
      ) { _ in [sum(0, 0), sum(6, 0), sum(12, 0), sum(13, 16), sum(0, 65_535)] },
      dropped(
        "HG-18 short frame", "a checksum of a frame of 14 bytes", "malformed_offload",
        packed: packed, .csum
      ) { site, ring in
        try [sum(0, 0), sum(14, 0), sum(34, 16)].map { header in
          [
            ForgedDescriptor(
              try site.buffer(in: ring.guest, header: header, Array(site.frame().prefix(14))))
          ]
        }
      },
      dropped(
        "CVE-2024-11614", "a checksum beyond the frame, in chains and in one piece",
        "malformed_offload", packed: packed, .csum
      ) { site, ring in
        try [sum(200, 0), sum(65_535, 65_535), sum(60, 10)].flatMap { header in
          let buffer = try site.buffer(in: ring.guest, header: header)
          return [
            [ForgedDescriptor(buffer)],
            [
              ForgedDescriptor(buffer.slice(0, 12)),
              ForgedDescriptor(buffer.slice(12, buffer.length - 12)),
            ],
          ]
        }
      },
      Case(
        "HG-18 at the end, \(packed ? "packed" : "split")",
        "checksums written to the last bytes of a frame, and to odd places", .nothing
      ) { site in
        let ring = try site.ring(packed: packed, least) { $0.features.formUnion(all) }
        for (start, offset) in [(62, 0), (14, 48), (15, 0), (33, 20)] {
          let buffer = try site.buffer(in: ring.guest, header: sum(start, offset))
          ring.offer([ForgedDescriptor(buffer)])
          try site.expectReturn(ring)
        }
        ring.offer([ForgedDescriptor(try site.buffer(in: ring.guest))])
        try site.expectArrival(site.frame())
      },
    ]
  }

  private static func segments(_ packed: Bool) -> [Case] {
    [
      malformed("HG-18 gso_type", "kinds of segments that there are not", packed: packed) { _ in
        [2, 6, 7, 0x7F, 0x80, 0x82, 0xFF, 0x85].map { segment($0, size: 1448) }
      },
      malformed("HG-18 gso_size 0", "segments without a length", packed: packed) { _ in
        [NetHeader.gsoTCPv4, NetHeader.gsoTCPv4 | NetHeader.gsoECN].map { segment($0, size: 0) }
      },
      malformed(
        "DPDK 7023f3e532", "segments without a length, of every kind", packed: packed
      ) { _ in
        [NetHeader.gsoTCPv4, NetHeader.gsoTCPv6, NetHeader.gsoUDPL4].map { segment($0, size: 0) }
      },
      malformed(
        "HG-18 gso_size 1", "sixty thousand segments of a byte", packed: packed, length: 60_000
      ) { _ in [segment(NetHeader.gsoTCPv4, size: 1)] },
      malformed("HG-18 no checksum", "segments that need no checksum", packed: packed) { _ in
        [segment(NetHeader.gsoTCPv4, size: 1448, flags: 0)]
      },
      malformed("HG-18 wrong headers", "segments of headers that the frame has not", packed: packed)
      {
        _ in
        [
          segment(NetHeader.gsoTCPv6, size: 1448), segment(NetHeader.gsoUDPL4, size: 1448),
          segment(NetHeader.gsoTCPv4, size: 1448, start: 14),
          segment(NetHeader.gsoTCPv4, size: 1448, start: 2990, offset: 0),
        ]
      },
      Case(
        "HG-18 hdr_len, \(packed ? "packed" : "split")",
        "headers that are said to be longer than the frame, or nothing: segments all the same",
        .nothing
      ) { site in
        let ring = try site.ring(packed: packed, least) { $0.features.formUnion(all) }
        for headers: UInt16 in [0, 1, 53, 3001, 65_535] {
          let buffer = try site.buffer(
            in: ring.guest, header: segment(NetHeader.gsoTCPv4, size: 1448, headers: headers),
            site.tcp(3000))
          ring.offer([ForgedDescriptor(buffer)])
          try site.expectReturn(ring)
          try site.expectSegments(3)
        }
      },
      Case(
        "HG-18 gso_size 65535, \(packed ? "packed" : "split")",
        "a segment that is larger than the frame", .nothing
      ) { site in
        let ring = try site.ring(packed: packed, least) { $0.features.formUnion(all) }
        let buffer = try site.buffer(
          in: ring.guest, header: segment(NetHeader.gsoTCPv4, size: 65_535), site.tcp(3000))
        ring.offer([ForgedDescriptor(buffer)])
        try site.expectReturn(ring)
        try site.expectSegments(1)
      },
    ]
  }

  private static func agreements(_ packed: Bool, _ layout: String) -> [Case] {
    let plain = { @Sendable (site: Site, ring: ForgedRing, header: NetHeader) in
      [ForgedDescriptor(try site.buffer(in: ring.guest, header: header, site.tcp(3000)))]
    }
    return [
      dropped(
        "HG-18 not negotiated", "checksums and segments that nobody agreed upon",
        "offload_not_negotiated", packed: packed
      ) { site, ring in
        try [sum(34, 16), segment(NetHeader.gsoTCPv4, size: 1448)].map {
          try plain(site, ring, $0)
        }
      },
      dropped(
        "CVE-2010-0741", "segments from a guest that agreed to checksums alone",
        "offload_not_negotiated", packed: packed, .csum
      ) { site, ring in
        try [
          segment(NetHeader.gsoTCPv4, size: 1448),
          segment(NetHeader.gsoTCPv4 | NetHeader.gsoECN, size: 1448),
          segment(NetHeader.gsoUDP, size: 1448),
        ].map { try plain(site, ring, $0) }
      },
      Case(
        "CVE-2023-6693, \(layout)",
        "a virtio-net header of 20 bytes, for a hash report that is not offered",
        .refusal("SET_FEATURES"), .drop("runt")
      ) { site in
        let frontEnd = try site.frontEnd()
        try frontEnd.negotiate(packed ? .usual.union(.ringPacked) : .usual)
        let hashReport = VirtioFeatures(rawValue: 1 << 57)
        if frontEnd.offered.contains(hashReport) { return }
        site.attempt { () throws(FrontEndError) in
          try frontEnd.setFeatures(frontEnd.features.union(hashReport))
        }
      },
    ]
  }
}

extension Site {
  /// A TCP segment over IPv4 from the attacker to the witness or somebody else, of `length` bytes with all headers.
  func tcp(
    _ length: Int, to destination: EthernetAddress = Site.witness, tagged: Bool = false
  ) -> [UInt8] {
    func big(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)] }
    let ip: [UInt8] =
      [0x45, 0] + big(length - (tagged ? 18 : 14)) + [
        0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
      ]
    let tcp: [UInt8] =
      big(1000) + big(2000) + [0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]
    return EthernetFrame.make(
      to: destination, from: Site.attacker, etherType: 0x0800, vlan: tagged ? 7 : nil,
      payload: ip + tcp, length: length)
  }

  /// So many frames of `tcp` arrive, or pieces of them.
  func expectSegments(_ count: Int) throws {
    var arrived = 0
    try expect("\(count) segments do not arrive") {
      arrived += collect().filter { $0.count > 23 && $0[12] == 8 && $0[23] == 6 }.count
      return arrived >= count
    }
  }

  /// Does what the switch may refuse.
  func attempt(_ body: () throws(FrontEndError) -> Void) {
    do throws(FrontEndError) {
      try body()
    } catch {
      // That is how it should be.
    }
  }
}
