internal import Linux
internal import VirtioDriver

/// Messages that are well-formed and ask for what can't be: HP-01, HP-02, HP-07, HP-10 and HP-12.
extension Catalogue {
  static var messages: [Case] { ringIndices + ringSizes + features + requests + inflight }

  private static let ringStates: [FrontEndRequest] = [
    .setVringNum, .setVringBase, .setVringEnable,
  ]
  static let ringFiles: [FrontEndRequest] = [.setVringKick, .setVringCall, .setVringErr]

  /// Every message that names a ring, for each of these.
  private static func naming(_ indices: [UInt32]) throws -> [FrontEndMessage] {
    let event = try EventFD().descriptor
    return indices.flatMap { index in
      ringStates.map { .state($0, index) } + [.addresses(index)]
        // Eight bits of the word are the index; the others mean nothing, or that no descriptor comes.
        + ringFiles.map { .file($0, UInt64(index) & 0xFF, event) }
    }
  }

  private static var ringIndices: [Case] {
    [
      Case(
        "HP-01", "a ring that is not there, in every message", .refusal("there is no ring")
      ) { site in
        try site.refuse(try naming([4, 5, 127, 128, 255]))
        for index: UInt32 in [4, 256, .max] {
          // Its reply has no room for an error.
          try site.end([.state(.getVringBase, index)], as: .refused)
        }
        try site.end(try naming([200]), as: .refused, [])
      },
      Case("HP-01 running", "the same, while the rings that are there run", .refusal("no ring 77"))
      {
        site in
        let guest = try site.guest()
        try site.refuse(try naming([255, 77]), from: guest.frontEnd)
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-01 stray bits", "a ring beyond the eight bits of its word", .refusal("stray bits")
      ) { site in
        let event = try EventFD().descriptor
        try site.refuse(
          [0x200, 0x1_0001, 1 << 32, 1 << 63].flatMap { (word: UInt64) in
            ringFiles.map { .file($0, word, event) }
          })
      },
      Case(
        "CVE-2020-10723", "a ring's number whose lower 16 bits are a good one",
        .refusal("there is no ring")
      ) { site in
        let messages = [0x1_0000, 0x1_0001, 0xFFFF_0003, 0x8000_0000].flatMap { (index: UInt32) in
          ringStates.map { FrontEndMessage.state($0, index) } + [.addresses(index)]
        }
        try site.refuse(messages)
      },
    ]
  }

  private static var ringSizes: [Case] {
    [
      Case("HP-02", "sizes that no split ring has", .refusal("is no power of two")) { site in
        let sizes: [UInt32] = [0, 32_769, 65_535, 65_536, 1 << 31, .max, 3, 48, 32_767]
        try site.refuse(sizes.map { .state(.setVringNum, 1, $0) })
      },
      Case("HP-02 packed", "sizes that no packed ring has", .refusal("is not within")) { site in
        let frontEnd = try site.negotiated(.usual.union(.ringPacked))
        guard frontEnd.features.contains(.ringPacked) else {
          throw AttackError.notOffered("packed rings")
        }
        let sizes: [UInt32] = [0, 32_769, 65_536, .max]
        try site.refuse(sizes.map { .state(.setVringNum, 1, $0) }, from: frontEnd)
      },
      Case(
        "DPDK eb7c574b21", "a running ring becomes larger than its memory",
        .refusal("not mapped in one piece")
      ) { site in
        let guest = try site.guest { $0.spareMemory = 4096 }
        // Smaller ones are another matter: its driver sees to that itself.
        for size: UInt32 in [1, 2, 32] { try? guest.frontEnd.setRingSize(1, size) }
        try site.refuse(
          [.state(.setVringNum, 1, 32_768)], from: guest.frontEnd, as: .notStarted)
      },
      Case(
        "CVE-2019-14818 SET_VRING_NUM", "the size of a running ring, a thousand times", .nothing
      ) { site in
        let guest = try site.guest()
        for _ in 0..<500 {
          for index in 0..<2 { try guest.frontEnd.setRingSize(index, 64) }
        }
        try site.expectDelivery(by: guest)
      },
    ]
  }

  private static var features: [Case] {
    [
      Case("HP-07", "features that are not offered", .refusal("not offered")) { site in
        let frontEnd = try site.negotiated()
        let agreed = frontEnd.features.rawValue
        let stray = (0..<64).map { 1 << UInt64($0) }.filter { frontEnd.offered.rawValue & $0 == 0 }
        try site.refuse(
          (stray.map { agreed | $0 } + [.max]).map {
            FrontEndMessage(.setFeatures, payload: FrontEndMessage.words($0))
          }, from: site.isStrict ? frontEnd : nil)
      },
      Case("HP-07 protocol", "protocol features that are not offered", .refusal("not offered")) {
        site in
        let frontEnd = try site.negotiated()
        let agreed = frontEnd.protocolFeatures.rawValue
        let stray = (0..<64).map { 1 << UInt64($0) }.filter {
          frontEnd.offeredProtocol.rawValue & $0 == 0
        }
        try site.refuse(
          (stray.map { agreed | $0 } + [.max]).map {
            FrontEndMessage(.setProtocolFeatures, payload: FrontEndMessage.words($0))
          }, from: site.isStrict ? frontEnd : nil)
      },
      Case(
        "DPDK 07f8db29b8", "other features while the rings run",
        .refusal("can't change while a ring is running")
      ) { site in
        let guest = try site.guest()
        let changes: [VirtioFeatures] = [
          .mrgRxbuf, .ringPacked, .indirectDesc, .eventIdx, .version1,
        ]
        let messages = changes.map { change in
          FrontEndMessage(
            .setFeatures,
            payload: FrontEndMessage.words(guest.features.symmetricDifference(change).rawValue))
        }
        try site.refuse(messages, from: guest.frontEnd)
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-07 protocol, running", "other protocol features while the rings run, again and again",
        .nothing
      ) { site in
        let guest = try site.guest()
        let agreed = guest.frontEnd.protocolFeatures
        guest.frontEnd.acknowledged = false
        for round in 0..<60 {
          let some: VhostUserFeatures = round % 2 == 1 ? agreed : round % 4 == 0 ? [] : .replyAck
          try guest.frontEnd.set(
            .setProtocolFeatures, FrontEndMessage.words(agreed.intersection(some).rawValue))
          try guest.frontEnd.synchronize()
        }
        guest.frontEnd.acknowledged = true
        try site.expectDelivery(by: guest)
      },
    ]
  }

  private static var requests: [Case] {
    [
      Case("HP-10", "requests that nobody knows", .refusal("is unknown")) { site in
        let file = try site.file(4096)
        let codes: [UInt32] = [
          23, 24, 25, 26, 27, 28, 29, 30, 33, 35, 41, 42, 43, 0, 44, 999, 1 << 31, .max,
        ]
        try site.refuse(
          codes.flatMap { code in
            let request = FrontEndRequest(rawValue: code)
            return [
              FrontEndMessage(request),
              FrontEndMessage(request, payload: [1, 2, 3], descriptors: [file]),
            ]
          })
        try site.end([.init(.init(rawValue: 35)), .init(.init(rawValue: 999))], as: .refused)
      },
      Case("HP-10 version", "other versions of the protocol", .refusal("protocol version")) {
        site in
        try site.end(
          [0, 2, 3, 8, 0xFFFF_FFF8].map { FrontEndMessage(.getFeatures, flags: $0) },
          negotiates: false)
      },
      Case("HP-10 reply", "messages that say they are replies", .refusal("reply flag")) { site in
        try site.end(
          [5, 13, 0xFFFF_FFFD].map { FrontEndMessage(.getFeatures, flags: $0) })
      },
    ]
  }

  private static var inflight: [Case] {
    let features = VhostUserFeatures.usual.union(.inflightShmfd)
    return [
      Case(
        "HP-12", "sizes of the region that tracks descriptors", .refusal("_INFLIGHT_FD: not")
      ) { site in
        let file = try site.file(1 << 16)
        let sizes: [(UInt64, UInt64, UInt16, UInt16)] = [
          (0, 0, 0, 0), (4096, 0, 1, 0), (4096, 0, 1, .max), (.max, 1, 1, 64), (1 << 40, 0, 2, 64),
          (4096, .max, 2, 64), (1, 0, 4, 1024),
        ]
        try site.refuse(
          sizes.flatMap { size, offset, queues, length in
            let payload = inflightPayload(size, offset, queues, length)
            return [
              FrontEndMessage(.setInflightFD, payload: payload, descriptors: [file]),
              FrontEndMessage(.setInflightFD, payload: payload),
              FrontEndMessage(.getInflightFD, payload: payload),
            ]
          }, features)
      },
      Case(
        "CVE-2020-10726", "the region that tracks descriptors, asked for again and again",
        .refusal("GET_INFLIGHT_FD: not")
      ) { site in
        let payload = inflightPayload(0, 0, 2, 1024)
        try site.refuse(
          (0..<200).map { _ in FrontEndMessage(.getInflightFD, payload: payload) }, features)
      },
      Case(
        "CVE-2021-3839", "more queues in flight than there are", .refusal("SET_INFLIGHT_FD: not")
      ) { site in
        let file = try site.file(1 << 20)
        try site.refuse(
          [3, 255, 256, 4096, .max].map { (queues: UInt16) in
            FrontEndMessage(
              .setInflightFD, payload: inflightPayload(1 << 20, 0, queues, 64),
              descriptors: [file])
          }, features)
      },
      Case(
        "DPDK 5a4fbe79e6", "rings that start from a record in flight that is nonsense",
        .refusal("SET_INFLIGHT_FD: not")
      ) { site in
        let guest = try site.guest { $0.protocolFeatures.formUnion(.inflightShmfd) }
        let file = try site.file(1 << 16, filled: 0xFF)
        try site.refuse(
          [
            FrontEndMessage(
              .setInflightFD, payload: inflightPayload(1 << 16, 0, 2, 64), descriptors: [file])
          ], from: guest.frontEnd)
        try guest.stop()
        try guest.restart()
        try site.expectDelivery(by: guest)
      },
    ]
  }

  /// Size and offset of the region, queues, and descriptors of each.
  private static func inflightPayload(
    _ size: UInt64, _ offset: UInt64, _ queues: UInt16, _ length: UInt16
  ) -> [UInt8] {
    FrontEndMessage.words(size, offset) + FrontEndMessage.words(queues, length) + [0, 0, 0, 0]
  }
}

extension FrontEndRequest {
  static let getInflightFD = FrontEndRequest(rawValue: 31)
  static let setInflightFD = FrontEndRequest(rawValue: 32)
}
