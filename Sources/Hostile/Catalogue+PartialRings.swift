internal import Linux
internal import VirtioDriver

/// Rings that lie in the guest's memory only in part, rings whose place changes while they run, and rings that are to begin
/// where none can.
extension Catalogue {
  static var partialRings: [Case] {
    [
      Case(
        "CVE-2018-1059 rings", "rings that begin in one mapping and end in another beside it",
        .refusal("not mapped in one piece")
      ) { site in
        try site.setRings { size, length in [size - length / 32 * 16, size - 16] }
      },
      Case(
        "DPDK 5d9dc18e1b", "rings that are mapped only in part", .refusal("not mapped in one piece")
      ) { site in
        try site.setRings { size, length in
          [2 * size - length / 32 * 16, 2 * size - 16, 2 * size, 1 << 62]
        }
      },
      Case(
        "DPDK 72d002b3eb", "SET_VRING_ADDR again and again while the ring runs",
        .refusal("not mapped in one piece")
      ) { site in
        let guest = try site.guest()
        let ring = ForgedRing(guest)
        for round in 0..<50 {
          ring.offer([ForgedDescriptor(try site.buffer(in: guest))])
          let addresses = FrontEndMessage.addresses(
            1, descriptors: UInt64(round) << 32, used: 0, avail: .max - 4095)
          try site.refuse([addresses], from: guest.frontEnd, as: .notStarted)
          let place = ring.withRing { $0.parts }
          guard let descriptors = guest.memory.userAddress(of: place.descriptors.address),
            let used = guest.memory.userAddress(of: place.used.address),
            let avail = guest.memory.userAddress(of: place.avail.address)
          else { throw FrontEndError.memory }
          try guest.frontEnd.setRingAddresses(
            1, descriptors: descriptors, used: used, avail: avail)
        }
        try site.expectReturn(ring)
      },
      Case(
        "HG-16 base", "a packed ring that is to go on where avail and used differ",
        .nothing
      ) { site in
        let ring = try site.ring(packed: true)
        let base = ring.withRing { $0.resumeBase }
        // What was used is where it goes on, whatever else was taken.
        for avail in [base ^ 1, base ^ 2, base ^ 0x8003] as [UInt32] {
          try ring.guest.frontEnd.setRingBase(1, avail & 0xFFFF | base << 16)
        }
        ring.offer([ForgedDescriptor(try site.buffer(in: ring.guest))])
        try site.expectReturn(ring)
      },
    ]
  }
}

extension Site {
  /// Two regions, beside each other for guest and front-end, but not in the switch; each part of a ring of 64 in turn
  /// is placed where it can't be.
  ///
  /// - Parameter places: given the size of a region and that of the part, distances of the part's first byte from the
  ///   first region's; multiples of 16, so that it is the place that is wrong.
  fileprivate func setRings(_ places: (_ size: UInt64, _ length: UInt64) -> [UInt64]) throws {
    let size: UInt64 = 1 << 16
    let user: UInt64 = 1 << 40
    let memory = try GuestMemory([
      .init(guestAddress: 0, length: Int(size), userAddress: user),
      .init(guestAddress: size, length: Int(size), userAddress: user + size),
    ])
    let frontEnd = try negotiated()
    try frontEnd.shareMemory(memory)
    try frontEnd.setRingSize(1, 64)
    try frontEnd.setRingKick(1, try EventFD().descriptor)
    try frontEnd.enableRing(1, true)
    if frontEnd.protocolFeatures.contains(.status) { try frontEnd.setStatus(15) }
    let lengths = [
      RingParts.descriptorBytes(64), RingParts.usedBytes(64), RingParts.availBytes(64),
    ]
    for (part, length) in lengths.enumerated() {
      let messages = places(size, UInt64(length)).map { place in
        var parts = [user, user + 8192, user + 4096]
        parts[part] = user + place
        return FrontEndMessage.addresses(
          1, descriptors: parts[0], used: parts[1], avail: parts[2])
      }
      try refuse(messages, from: frontEnd, as: .notStarted)
    }
  }
}
