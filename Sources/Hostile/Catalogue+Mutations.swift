internal import VirtioDriver

/// Memory that changes while the switch reads it: HG-13.
extension Catalogue {
  static var mutations: [Case] {
    both { packed, layout in
      [
        mutation(
          "HG-13 headers", "a frame's addresses change while frames are sent", packed: packed,
          .drop("hairpin"), .drop("reserved_multicast")
        ) { site, ring in
          // The frame begins on a word: its first eight bytes are always those of one of the values.
          let buffer = try site.allocate(128, in: ring.guest).slice(4, 124)
          buffer.write(NetHeader().bytes() + site.frame(length: 100))
          let source = UInt64(Site.attacker.bytes[0]) << 48 | UInt64(Site.attacker.bytes[1]) << 56
          let destinations = [
            Site.witness, Site.attacker, EthernetAddress(0x0180_c200_0003), Site.witness,
          ]
          let words = destinations.map { address in
            address.bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) } | source
          }
          return ([ForgedDescriptor(buffer.slice(0, 112))], [.whole(buffer.slice(12, 8), words)])
        },
        mutation(
          "HG-13 virtio-net header", "what a frame asks for changes while frames are sent",
          packed: packed, .drop("malformed_offload"), .drop("offload_not_negotiated")
        ) { site, ring in
          let buffer = try site.buffer(in: ring.guest, site.frame(length: 100))
          // Flags, type and hdr_len; gso_size and csum_start; and the next, with num_buffers.
          return (
            [ForgedDescriptor(buffer)],
            [
              .half(buffer.slice(0, 4), [0, 0xFFFF_7701, 0x0036_0101, 0]),
              .half(buffer.slice(4, 4), [0, 0xFFFF_0000, 0x0022_0001, 0]),
              .half(buffer.slice(8, 4), [0, 0xFFFF_FFFF]),
            ]
          )
        },
        mutation(
          "HG-13 lengths", "lengths and addresses change while frames are sent", packed: packed,
          .drop("malformed_descriptor"), .drop("runt"), .drop("oversize")
        ) { site, ring in
          let buffer = try site.buffer(in: ring.guest, site.frame(length: 100))
          let table = ring.withRing { $0.parts.descriptors }
          let words = (0..<ring.size).flatMap { slot -> [Mutator.Word] in
            [
              .half(
                table.slice(16 * slot + 8, 4),
                [UInt32(buffer.length), .max, UInt32(buffer.length), 13, 100_000]),
              .whole(table.slice(16 * slot, 8), [buffer.address, 1 << 50, buffer.address, .max]),
            ]
          }
          return ([ForgedDescriptor(buffer)], words)
        },
        mutation(
          "HG-13 tables", "the entries of an indirect table change while frames are sent",
          packed: packed, needing: .indirectDesc, isWhole: false, .drop("malformed_descriptor"),
          .drop("chain_too_long")
        ) { site, ring in
          let buffer = try site.buffer(in: ring.guest, site.frame(length: 100))
          let table = try site.allocate(64, in: ring.guest)
          let next = ForgedDescriptor.next
          let entries = [
            ForgedDescriptor(buffer.slice(0, 12), flags: next),
            ForgedDescriptor(buffer.slice(12, 50), flags: next),
            ForgedDescriptor(buffer.slice(62, 50)),
          ]
          ring.writeTable(entries, to: table)
          var words: [Mutator.Word] = []
          for (slot, entry) in entries.enumerated() {
            let flags = ring.isPacked ? UInt32(entry.flags) << 16 : UInt32(entry.flags)
            let all = ring.isPacked ? 0xFFFF_FFFF : UInt32(0xFFFF_0007)
            let loop = UInt32(next)
            words += [
              .whole(table.slice(16 * slot, 8), [entry.address, 1 << 50, entry.address]),
              .half(table.slice(16 * slot + 8, 4), [entry.length, .max, 0, entry.length]),
              .half(
                table.slice(16 * slot + 12, 4),
                [flags | (ring.isPacked ? 0 : UInt32(slot + 1) << 16), all, loop]),
            ]
          }
          return ([ForgedDescriptor(table.slice(0, 48), flags: ForgedDescriptor.indirect)], words)
        },
        received(packed, layout),
      ]
    } + doubleReads
  }

  /// What DPDK had: a value checked at one reading and used at another.
  private static var doubleReads: [Case] {
    [
      mutation(
        "DPDK 48cae0bfa6", "a descriptor's flags change while its chain is walked", packed: false,
        .drop("malformed_descriptor"), .drop("chain_too_long")
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest, site.frame(length: 100))
        let table = ring.withRing { $0.parts.descriptors }
        let words = (0..<ring.size).map { slot in
          Mutator.Word.half(table.slice(16 * slot + 12, 4), [0, 0x0000_0001, 0x7FFF_0003, 4, 0])
        }
        return ([ForgedDescriptor(buffer)], words)
      },
      mutation(
        "DPDK af584d21bf", "a descriptor's length changes while its chain is walked", packed: true,
        .drop("header_too_short"), .drop("runt"), .drop("malformed_descriptor"), .drop("oversize")
      ) { site, ring in
        let buffer = try site.buffer(in: ring.guest, site.frame(length: 100))
        let table = ring.withRing { $0.parts.descriptors }
        let words = (0..<ring.size).map { slot in
          Mutator.Word.half(
            table.slice(16 * slot + 8, 4), [UInt32(buffer.length), 0, 12, .max, 70_000])
        }
        return ([ForgedDescriptor(buffer)], words)
      },
    ]
  }

  /// A case that offers a chain again and again and meanwhile writes words of it anew. Whatever arrives at the
  /// witness was judged: its destination is the witness and its source the attacker, and its virtio-net header asks for
  /// nothing.
  ///
  /// - Parameter isWhole: whether every frame that can be judged begins with the same addresses; not where pieces of
  ///   it may be left out.
  private static func mutation(
    _ name: String, _ summary: String, packed: Bool, needing required: VirtioFeatures = [],
    isWhole: Bool = true, _ signs: Sign...,
    setUp: @escaping @Sendable (Site, ForgedRing) throws -> ([ForgedDescriptor], [Mutator.Word])
  ) -> Case {
    Case("\(name), \(packed ? "packed" : "split")", summary, signs: signs) { site in
      let ring = try site.ring(packed: packed, required)
      let (chain, words) = try setUp(site, ring)
      var mutator = Mutator(words, of: ring.guest.memory)
      let deadline = Deadline(milliseconds: 150)
      let addresses = Site.witness.bytes + Site.attacker.bytes
      var strange = 0
      var rounds = 0
      // On a busy machine the worker may sleep through most of the time.
      while !deadline.isOver || rounds < 100 {
        rounds += 1
        try Mutator.apart {
          ring.offer(batch: [[ForgedDescriptor]](repeating: chain, count: 16))
          mutator.write { ring.isUsed }
        }
        while let received = site.witness.pairs[0].receiveWithHeader() {
          let header = received.header
          // The first frames that a bystander sent to an address not known yet come here too.
          if TestFrame.verify(received.frame) != nil { continue }
          if isWhole && Array(received.frame.prefix(12)) != addresses || header.flags != 0
            || header.gsoType != 0
          {
            strange += 1
          }
        }
      }
      if site.isStrict, strange > 0 {
        throw AttackError.hurt("\(strange) frames arrive that were never judged")
      }
    }
  }

  /// Receive buffers that change while they are filled.
  private static func received(_ packed: Bool, _ layout: String) -> Case {
    Case(
      "HG-13 receiveq, \(layout)", "receive buffers change while they are filled",
      .drop("malformed_receive_buffer"), .drop("receive_buffer_too_small"),
      .drop("no_receive_buffer")
    ) { site in
      let ring = try site.ring(transmitq: false, packed: packed)
      site.announce(ring.guest)
      let buffer = try site.allocate(2048, in: ring.guest)
      let table = ring.withRing { $0.parts.descriptors }
      let words = (0..<ring.size).flatMap { slot -> [Mutator.Word] in
        [
          .whole(table.slice(16 * slot, 8), [buffer.address, 1 << 50, .max, buffer.address]),
          .half(table.slice(16 * slot + 8, 4), [2048, 13, .max, 0, 100]),
        ]
      }
      var mutator = Mutator(words, of: ring.guest.memory)
      for sequence in 0..<50 as Swift.Range<UInt64> {
        for _ in 0..<8 { _ = site.enqueueFromWitness(sequence) }
        site.witness.pairs[0].flush()
        mutator.write { site.reclaimWitness() }
      }
    }
  }
}
