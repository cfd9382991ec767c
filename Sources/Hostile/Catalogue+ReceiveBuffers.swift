internal import VirtioDriver

/// What a guest posts for the frames it is to get: HG-20, and HG-01 to HG-09 of receiveqs.
extension Catalogue {
  static var receiveBuffers: [Case] {
    both { packed, layout in
      descriptors(packed, layout) + sizes(packed, layout) + amounts(packed, layout)
    }
  }

  private static let malformed = Sign.drop("malformed_receive_buffer")

  /// A case that puts other descriptors in place of the receive buffers that a guest has posted, and has frames sent
  /// to it.
  private static func posted(
    _ name: String, _ summary: String, _ signs: Sign..., packed: Bool, frames: Int = 8,
    length: Int = 200, _ required: VirtioFeatures = [],
    _ change: @escaping @Sendable (inout GuestPort.Options) -> Void = { _ in },
    descriptor: @escaping @Sendable (Site, ForgedRing) throws -> @Sendable (Int) -> ForgedDescriptor
  ) -> Case {
    Case(
      "\(name), \(packed ? "packed" : "split")", summary, signs: signs
    ) { site in
      let ring = try site.ring(transmitq: false, packed: packed, required) { options in
        options.ringSize = 16
        change(&options)
      }
      site.announce(ring.guest)
      let descriptor = try descriptor(site, ring)
      for slot in 0..<ring.size { ring.overwrite(slot, descriptor(slot)) }
      site.sendFromWitness(frames, length: length)
    }
  }

  private static func descriptors(_ packed: Bool, _ layout: String) -> [Case] {
    let write = ForgedDescriptor.write
    return [
      posted(
        "HG-01 receiveq", "receive buffers outside of memory, or that only begin in it", malformed,
        packed: packed
      ) { _, ring in
        let memory = ring.guest.memory.regions[0]
        let end = memory.guestAddress + UInt64(memory.length)
        return { slot in
          ForgedDescriptor(slot % 2 == 0 ? 1 << 45 : end - 16, 2048, flags: write)
        }
      },
      posted(
        "HG-02 receiveq", "receive buffers whose address and length wrap around", malformed,
        packed: packed
      ) { _, _ in { _ in ForgedDescriptor(.max - 100, 2048, flags: write) } },
      posted(
        "HG-03 receiveq",
        "receive buffers of 4 GiB less a byte, of which a frame takes what is there", .nothing,
        packed: packed
      ) { site, ring in
        let buffer = try site.allocate(2048, in: ring.guest)
        return { _ in ForgedDescriptor(buffer.address, .max, flags: write) }
      },
      posted(
        "HG-09 receiveq", "receive buffers that the device may only read", malformed, packed: packed
      ) { site, ring in
        let buffer = try site.allocate(2048, in: ring.guest)
        return { _ in ForgedDescriptor(buffer) }
      },
      posted(
        "HG-07 receiveq",
        "receive buffers that are indirect tables outside of memory, nested or empty",
        malformed, packed: packed, .indirectDesc
      ) { site, ring in
        let table = try site.allocate(64, in: ring.guest)
        ring.writeTable([ForgedDescriptor(1 << 45, 2048, flags: write)], to: table)
        return { slot in
          switch slot % 4 {
          case 0: ForgedDescriptor(1 << 45, 64, flags: ForgedDescriptor.indirect)
          case 1: ForgedDescriptor(table.slice(0, 16), flags: ForgedDescriptor.indirect)
          case 2: ForgedDescriptor(table.address, 0, flags: ForgedDescriptor.indirect)
          default: ForgedDescriptor(table.address, 17, flags: ForgedDescriptor.indirect)
          }
        }
      },
    ]
      + (packed
        ? []
        : [
          posted(
            "HG-04 receiveq", "receive buffers that go on beyond the table", malformed,
            packed: false
          ) { site, ring in
            let buffer = try site.allocate(64, in: ring.guest)
            return { _ in
              ForgedDescriptor(
                buffer.address, 64, flags: write | ForgedDescriptor.next, next: 0xFFFF)
            }
          },
          posted("HG-05 receiveq", "receive buffers that are loops", malformed, packed: false) {
            site, ring in
            let buffer = try site.allocate(64, in: ring.guest)
            return { slot in
              ForgedDescriptor(
                buffer.address, slot % 2 == 0 ? 64 : 0, flags: write | ForgedDescriptor.next,
                next: UInt16(slot))
            }
          },
          posted(
            "HG-12 receiveq", "one piece of memory that is every receive buffer", .nothing,
            packed: false
          ) { site, ring in
            let buffer = try site.allocate(2048, in: ring.guest)
            return { _ in ForgedDescriptor(buffer, flags: write) }
          },
        ])
  }

  private static func sizes(_ packed: Bool, _ layout: String) -> [Case] {
    // Too short for the header: they go back, as they would stand in the way for ever.
    [0, 1, 11].map { length in
      posted(
        "HG-20 \(length) bytes", "receive buffers of \(length) bytes", malformed, packed: packed
      ) { site, ring in
        let buffer = try site.allocate(2048, in: ring.guest)
        return { _ in
          ForgedDescriptor(buffer.address, UInt32(length), flags: ForgedDescriptor.write)
        }
      }
    } + [
      posted(
        "HG-20 12 bytes", "receive buffers that hold the header alone", .drop("no_receive_buffer"),
        packed: packed
      ) { site, ring in
        let buffer = try site.allocate(2048, in: ring.guest)
        return { _ in ForgedDescriptor(buffer.address, 12, flags: ForgedDescriptor.write) }
      },
      posted(
        "HG-20 13 bytes", "receive buffers of 13 bytes, which may not be merged",
        .drop("receive_buffer_too_small"), packed: packed, [],
        with { $0.features.remove(.mrgRxbuf) }
      ) { site, ring in
        let buffer = try site.allocate(2048, in: ring.guest)
        return { _ in ForgedDescriptor(buffer.address, 13, flags: ForgedDescriptor.write) }
      },
      posted(
        "CVE-2014-0077", "frames longer than receive buffers that may not be merged",
        .drop("receive_buffer_too_small"), packed: packed, length: 3000, [],
        with { $0.features.remove(.mrgRxbuf) }
      ) { site, ring in
        let buffer = try site.allocate(2048, in: ring.guest)
        return { _ in ForgedDescriptor(buffer, flags: ForgedDescriptor.write) }
      },
    ]
  }

  private static func amounts(_ packed: Bool, _ layout: String) -> [Case] {
    [
      posted(
        "HG-20 too few", "fewer mergeable receive buffers than a frame needs",
        .drop("no_receive_buffer"), packed: packed, length: 3000
      ) { site, ring in
        let buffer = try site.allocate(100, in: ring.guest)
        return { _ in ForgedDescriptor(buffer, flags: ForgedDescriptor.write) }
      },
      posted(
        "CVE-2014-0055", "a bad receive buffer among those that a frame is to be spread over",
        malformed, packed: packed, length: 600
      ) { site, ring in
        let buffer = try site.allocate(100, in: ring.guest)
        return { slot in
          slot % 4 == 3
            ? ForgedDescriptor(1 << 45, 100, flags: ForgedDescriptor.write)
            : ForgedDescriptor(buffer, flags: ForgedDescriptor.write)
        }
      },
      posted(
        "CVE-2021-3748", "frames spread over many receive buffers, the first without room for more",
        .nothing, packed: packed, frames: 4, length: 300
      ) { site, ring in
        let buffer = try site.allocate(400, in: ring.guest)
        return { slot in
          ForgedDescriptor(
            buffer.address, slot % 4 == 0 ? 12 : 100, flags: ForgedDescriptor.write)
        }
      },
      posted(
        "CVE-2022-26353", "a hundred frames for receive buffers that can't take them", malformed,
        packed: packed, frames: 100
      ) { _, _ in { _ in ForgedDescriptor(1 << 45, 2048, flags: ForgedDescriptor.write) } },
      Case(
        "CVE-2021-3545, \(layout)",
        "receive buffers are looked through for what is not the guest's", .nothing
      ) { site in
        let ring = try site.ring(transmitq: false, packed: packed) { $0.ringSize = 16 }
        site.announce(ring.guest)
        let buffers = try site.allocate(2048 * ring.size, in: ring.guest)
        buffers.write([UInt8](repeating: 0xAA, count: buffers.length))
        for slot in 0..<ring.size {
          ring.overwrite(
            slot,
            ForgedDescriptor(buffers.slice(2048 * slot, 2048), flags: ForgedDescriptor.write))
        }
        site.sendFromWitness(8, length: 100)
        // num_buffers is 1, all else of the header 0; behind the frame nothing was written.
        try site.expect("a receive buffer holds more than header and frame") {
          (0..<8).allSatisfy { slot in
            let bytes = buffers.slice(2048 * slot, 2048).read(count: 2048)
            return bytes.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
              && bytes[112...].allSatisfy { $0 == 0xAA }
              && TestFrame.verify(Array(bytes[12..<112])) != nil
          }
        }
      },
    ]
  }
}
