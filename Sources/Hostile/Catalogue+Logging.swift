internal import Linux
internal import VirtioDriver

/// The log of dirty pages, by which back-ends wrote beyond their memory: HP-06.
extension Catalogue {
  static var logging: [Case] {
    [
      logged("HP-06", "logs whose size and offset wrap around", .refusal("make no log")) {
        _, size in
        let half: UInt64 = 1 << 63
        let last = UInt64.max - size + 2
        return [(.max, 1), (1, .max), (.max, .max), (half, half), (size, last)]
      },
      logged(
        "CVE-2020-10722", "logs that begin beyond their files, or end there", .refusal("bytes at")
      ) { _, size in
        let far: UInt64 = 1 << 40
        return [(size, size), (size * 2, 0), (size, 1), (far, 0), (4096, far)]
      },
      logged(
        "CVE-2019-14835", "logs that are too small for the memory they are of",
        .refusal("too small")
      ) { _, _ in
        [(0, 0), (1, 0), (2, 8)]
      },
      logged("DPDK fbc4d248b1", "logs that begin anywhere in a page", .nothing) { _, size in
        [(64, 1), (64, 4095), (64, 4097), (size - 4097, 4097), (size - 1, 1)]
      },
      logged("DPDK bdd96d8ac7", "a log that is replaced again and again", .nothing) { _, size in
        [(UInt64, UInt64)](repeating: (size, 0), count: 50)
      },
      Case(
        "DPDK 2f706027c8", "rings that start anew with their log elsewhere",
        .nothing
      ) { site in
        let guest = try site.loggingGuest()
        let log = try site.file(1 << 16)
        for place: UInt64 in [0, 1, 1 << 20, 1 << 62, .max] {
          guest.pairs[0].transmitq.kick()
          // Of an address outside of the log its ring is not started.
          try? site.log(guest, (1 << 16, 0), log, usedRing: place)
          try? guest.stop()
          try? guest.restart()
          site.sendFromWitness(4)
        }
      },
      Case(
        "HP-06 without a file", "a log without a descriptor, or in a payload of eight bytes",
        .refusal("no descriptor, or no size")
      ) { site in
        try site.refuse([
          FrontEndMessage(.setLogFD, descriptors: [try site.file(4096)]),
          FrontEndMessage(.setLogBase, payload: FrontEndMessage.words(4096 as UInt64, 0)),
          FrontEndMessage(.setLogBase, payload: FrontEndMessage.words(4096 as UInt64)),
          FrontEndMessage(
            .setLogBase, payload: FrontEndMessage.words(4096 as UInt64),
            descriptors: [try site.file(4096)]),
        ])
      },
    ]
  }

  /// A case that hands over logs, each of a size and at an offset of a file that has `size` bytes, starts logging and
  /// has its memory written.
  private static func logged(
    _ name: String, _ summary: String, _ sign: Sign,
    _ logs: @escaping @Sendable (Site, UInt64) -> [(size: UInt64, offset: UInt64)]
  ) -> Case {
    Case(name, summary, sign) { site in
      let size = 1 << 16
      let file = try site.file(size)
      var guest = try site.loggingGuest()
      for log in logs(site, UInt64(size)) {
        do throws(FrontEndError) {
          try site.log(guest, log, file)
        } catch {
          if site.isStrict { throw error }
          // It hung up: somebody else tries the next.
          guest.disconnect()
          guest = try site.loggingGuest()
        }
        site.sendFromWitness(4)
      }
      if site.isStrict { try site.expectDelivery(by: guest) }
    }
  }
}

extension Site {
  /// A guest whose frames from the witness are written to its memory, with a log if that is offered.
  fileprivate func loggingGuest() throws -> GuestPort {
    let guest = try guest { $0.features.formUnion(.logAll) }
    announce(guest)
    return guest
  }

  /// SET_LOG_BASE, SET_VRING_ADDR with a log, and VHOST_F_LOG_ALL, as at the begin of a migration. Where the switch
  /// has no log it must say so each time.
  fileprivate func log(
    _ guest: GuestPort, _ log: (size: UInt64, offset: UInt64), _ file: OwnedFD,
    usedRing place: UInt64 = 0
  ) throws(FrontEndError) {
    let frontEnd = guest.frontEnd
    let base = FrontEndMessage(
      .setLogBase, flags: FrontEndMessage.version | FrontEndMessage.needReply,
      payload: FrontEndMessage.words(log.size, log.offset), descriptors: [file])
    _ = try frontEnd.call(base)
    do throws(FrontEndError) {
      try frontEnd.setFeatures(guest.features.union(.logAll))
    } catch {
      guard case .refused = error else { throw error }
      faults[.refused, default: 0] += 2
      return
    }
    let parts = guest.pairs[0].receiveq.parts
    guard let descriptors = guest.memory.userAddress(of: parts.descriptors.address),
      let used = guest.memory.userAddress(of: parts.used.address),
      let avail = guest.memory.userAddress(of: parts.avail.address)
    else { throw .memory }
    try frontEnd.setRingAddresses(
      0, descriptors: descriptors, used: used, avail: avail, log: place, flags: 1)
  }
}
