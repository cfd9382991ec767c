internal import Linux
internal import VirtioDriver

/// What a front-end says of the guest's IOMMU: HP-13.
extension Catalogue {
  static var translations: [Case] {
    [
      Case(
        "HP-13", "translations that are empty, wrap, allow nothing, or lead outside",
        .refusal("IOTLB_MSG")
      ) { site in
        let guest = try site.translatedGuest()
        let region = guest.memory.regions[0]
        let user = region.userAddress
        let end = user + UInt64(region.length)
        try site.refuse(
          [
            .translation(0, size: 0, user: user), .translation(.max - 4095, size: 8192, user: user),
            .translation(0, size: .max, user: user), .translation(0, size: 8192, user: end - 4096),
            .translation(0, user: end), .translation(0, user: user - 1), .translation(0, user: 0),
            .translation(0, size: 8192, user: .max - 4095),
            .translation(0, user: user, access: 0), .translation(0, user: user, access: 4),
            .translation(0, user: user, access: 255),
          ] + [0, 1, 4, 5, 6, 255].map { .translation(0, user: user, type: $0) },
          from: guest.frontEnd)
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-13 without", "translations of a guest that has no IOMMU", .refusal("is not accepted")
      ) { site in
        let guest = try site.guest { $0.protocolFeatures.formUnion(.backendReq) }
        let user = guest.memory.regions[0].userAddress
        try site.refuse(
          [.translation(0, user: user), .translation(0, user: 0, type: 3)], from: guest.frontEnd)
        try site.expectDelivery(by: guest)
      },
      Case("HP-13 many", "more translations than are kept", .nothing) { site in
        let guest = try site.translatedGuest()
        let user = guest.memory.regions[0].userAddress
        // None continues another.
        for index in 0..<UInt64(4500) {
          let message = FrontEndMessage.translation(1 << 50 + index * 8192, user: user)
          try guest.frontEnd.set(message.request, message.payload)
        }
        try site.visit()
        try site.expectDelivery(by: guest)
      },
      Case(
        "DPDK 04c27cb673", "translations that are changed and taken away under traffic", .nothing
      ) { site in
        let guest = try site.translatedGuest()
        site.announce(guest)
        let traffic = try Traffic(site)
        do {
          defer { traffic.stop() }
          for round in 0..<200 {
            for sequence in 0..<4 { _ = guest.send(site.frame(UInt64(sequence))) }
            while guest.receive() != nil {}
            try guest.iommu?.invalidate(
              UInt64(round % 8) * 8192, size: round % 20 == 19 ? .max : 4096)
          }
        }
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-13 channel", "a channel for misses that is none", .refusal("is not a stream socket"),
        .refusal("asked for translations")
      ) { site in
        let guest = try site.translatedGuest()
        let sockets = try UnixSocket.pair()
        try site.refuse(
          try Impostors.all().filter { !$0.isStreamSocket }.map {
            FrontEndMessage(.setBackendReqFD, descriptors: [$0])
          }, from: guest.frontEnd)
        // And those that are one, again and again, of which the last has nobody at its end.
        for _ in 0..<100 { try guest.frontEnd.set(.setBackendReqFD, descriptors: [sockets.0]) }
        try guest.frontEnd.set(.setBackendReqFD, descriptors: [try UnixSocket.pair().0])
        try guest.iommu?.invalidate(0, size: .max)
        guest.pairs[0].transmitq.kick()
        try guest.frontEnd.synchronize()
      },
      Case(
        "HP-15 misses", "a channel for misses that nobody reads, and misses without an end",
        .nothing
      ) { site in
        let ring = ForgedRing(try site.translatedGuest())
        let frontEnd = ring.guest.frontEnd
        let user = ring.guest.memory.regions[0].userAddress
        // Held, but not read; and there is room for little.
        let sockets = try UnixSocket.pair()
        sockets.0.narrow()
        try frontEnd.set(.setBackendReqFD, descriptors: [sockets.0])
        var place: UInt64 = 1 << 50
        try site.besiege(milliseconds: 500) {
          ring.offer([ForgedDescriptor(place, 64)])
          Deadline.pause()
          // The answer nobody waits for, so that the next one is missed too.
          let update = FrontEndMessage.translation(place, user: user)
          try frontEnd.set(update.request, update.payload)
          place += 8192
        }
        try site.expectReturn(ring)
        withExtendedLifetime(sockets) {}
      },
    ]
  }
}

extension Site {
  private func translated(_ options: inout GuestPort.Options) {
    options.protocolFeatures.formUnion(.backendReq)
  }

  /// A guest behind an IOMMU.
  fileprivate func translatedGuest() throws -> GuestPort {
    let guest = try guest(.accessPlatform, translated)
    guard guest.iommu != nil else { throw AttackError.notOffered("BACKEND_REQ") }
    return guest
  }
}
