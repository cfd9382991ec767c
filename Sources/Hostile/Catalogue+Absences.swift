internal import Linux
internal import VirtioDriver

/// Devices and queues that the record has and this kind of switch has not: asking for them must be refused.
extension Catalogue {
  static var absences: [Case] { crypto + graphics + controlQueue + legacy + descriptors }

  private static let createSession = FrontEndRequest(rawValue: 26)
  private static let closeSession = FrontEndRequest(rawValue: 27)
  private static let setGraphicsSocket = FrontEndRequest(rawValue: 33)
  private static let setConfig = FrontEndRequest(rawValue: 25)

  /// A case that sends messages of which every one is refused.
  private static func refused(
    _ name: String, _ summary: String, _ words: String,
    messages: @escaping @Sendable () throws -> [FrontEndMessage]
  ) -> Case {
    Case(name, summary, .refusal(words)) { site in
      for message in try messages() {
        let frontEnd = try site.frontEnd()
        try frontEnd.negotiate()
        try frontEnd.setFeatures()
        site.attempt { () throws(FrontEndError) in
          try frontEnd.send(message)
          try frontEnd.synchronize()
        }
        frontEnd.close()
      }
    }
  }

  private static func session(_ request: FrontEndRequest, _ payload: [UInt8]) -> FrontEndMessage {
    FrontEndMessage(request, payload: payload)
  }

  /// vhost-crypto: session parameters (vhost-user.rst, "Crypto session description") with lengths that lie.
  private static var crypto: [Case] {
    let name = "CREATE_CRYPTO_SESSION"
    @Sendable func parameters(cipher: UInt32, authentication: UInt32) -> [UInt8] {
      FrontEndMessage.words(0 as Int64) + FrontEndMessage.words(1 as UInt32, 0, 1, 1, cipher)
        + FrontEndMessage.words(authentication, 64, 1) + [UInt8](repeating: 0x41, count: 600)
    }
    return [
      refused("CVE-2020-10724", "a crypto session whose keys are longer than the message", name) {
        [
          session(createSession, parameters(cipher: .max, authentication: 0)),
          session(createSession, parameters(cipher: 65, authentication: .max)),
        ]
      },
      refused("CVE-2020-14374", "a crypto session with data of any length", name) {
        [session(createSession, parameters(cipher: 512, authentication: 512))]
      },
      refused("CVE-2020-14376", "a crypto session with an initial vector that is too long", name) {
        [session(createSession, parameters(cipher: 16, authentication: 0x8000_0000))]
      },
      refused("CVE-2020-14377", "a crypto session whose data ends early", name) {
        [session(createSession, [1, 2, 3]), session(createSession, [])]
      },
      refused("CVE-2020-14378", "the end of crypto sessions that there never were", "CRYPTO") {
        [UInt64(0), 1, .max].map { session(closeSession, FrontEndMessage.words($0)) }
      },
      mutated(
        "CVE-2020-14375",
        "a request that changes while it is looked at: a frame, as here there is no crypto"),
    ]
  }

  /// A chain whose first descriptor is a request of a crypto device, and changes.
  private static func mutated(_ name: String, _ summary: String) -> Case {
    Case(name, summary, .nothing) { site in
      let ring = try site.ring(packed: false)
      let buffer = try site.buffer(in: ring.guest, length: 256)
      // But for the frame's addresses: it must not go to everybody.
      let words = [0, 1, 2, 7, 8, 9, 10, 11, 12].map {
        Mutator.Word.half(buffer.slice(4 * $0, 4), [0, .max, 0x1000, 0x0202_0202])
      }
      var mutator = Mutator(words, of: ring.guest.memory)
      let deadline = Deadline(milliseconds: 60)
      while !deadline.isOver {
        ring.offer([ForgedDescriptor(buffer)])
        mutator.write { ring.isUsed }
        site.collect()
      }
    }
  }

  /// vhost-user-gpu.
  private static var graphics: [Case] {
    [
      refused("CVE-2021-3544", "a graphics device's socket, again and again", "GPU_SET_SOCKET") {
        try (0..<20).map { _ in
          FrontEndMessage(
            setGraphicsSocket, descriptors: [try UnixSocket.pair().0])
        }
      },
      refused("CVE-2021-3546", "a configuration space to be written beyond its end", "SET_CONFIG") {
        [
          session(
            setConfig,
            FrontEndMessage.words(0xFFFF_FFF0 as UInt32, 256, 0) + [UInt8](repeating: 1, count: 256)
          )
        ]
      },
    ]
  }

  private static func features(_ name: String, _ summary: String, bit: UInt64) -> Case {
    Case(name, summary, .refusal("SET_FEATURES")) { site in
      let frontEnd = try site.frontEnd()
      try frontEnd.negotiate()
      let feature = VirtioFeatures(rawValue: 1 << bit)
      if frontEnd.offered.contains(feature) {
        if site.isStrict { throw AttackError.hurt("feature bit \(bit) is offered") }
        return
      }
      site.attempt { () throws(FrontEndError) in
        try frontEnd.setFeatures(frontEnd.features.union(feature))
        try frontEnd.synchronize()
      }
    }
  }

  /// The control queue, and what it would carry.
  private static var controlQueue: [Case] {
    [
      Case(
        "DPDK 6ec1778134", "the control queue, which is the front-end's own, as a ring",
        .refusal("SET_VRING")
      ) { site in
        let guest = try site.guest(.ctrlVQ)
        let pair = guest.pairs[0]
        for index in [2, 4] {
          site.attempt { () throws(FrontEndError) in
            try guest.frontEnd.setUpRing(index * 2, pair.transmitq)
            try guest.frontEnd.synchronize()
          }
        }
      },
      Case(
        "DPDK 38e6400387", "a third queue, the control queue, set up behind a pair",
        .refusal("SET_VRING")
      ) { site in
        let frontEnd = try site.frontEnd()
        try frontEnd.negotiate()
        try frontEnd.setFeatures()
        for index in [4, 5, 255] {
          site.attempt { () throws(FrontEndError) in
            try frontEnd.setRingSize(index, 64)
            try frontEnd.synchronize()
          }
        }
      },
      features("CVE-2024-6505", "receive-side scaling that is not offered", bit: 60),
      Case("CVE-2011-2512", "a kick for a queue that there is not", .refusal("SET_VRING_KICK")) {
        site in
        let frontEnd = try site.frontEnd()
        try frontEnd.negotiate()
        try frontEnd.setFeatures()
        for index in [4, 100, 255] {
          let event = try EventFD()
          site.attempt { () throws(FrontEndError) in
            try frontEnd.setRingKick(index, event.descriptor)
          }
        }
      },
    ]
  }

  /// A legacy driver, whose header has ten bytes.
  private static var legacy: [Case] {
    [
      Case(
        "DPDK 706ba48665", "chains of a legacy driver that end inside of its header",
        .drop("header_too_short")
      ) { site in
        let ring = try site.ring(packed: false) { $0.features.subtract([.version1, .mrgRxbuf]) }
        let buffer = try site.buffer(in: ring.guest)
        site.offences = 11
        for length in 0..<10 {
          ring.offer([ForgedDescriptor(buffer.address, UInt32(length))])
          try site.expectReturn(ring)
        }
        ring.offer((0..<9).map { ForgedDescriptor(buffer.slice($0, 1)) })
        try site.expectRecovery(ring)
      }
    ]
  }

  /// Kick and call descriptors that come and go while workers use them.
  private static var descriptors: [Case] {
    [
      Case(
        "CVE-2023-1838", "kick and call descriptors that are replaced under traffic", .nothing
      ) { site in
        let guest = try site.guest()
        for round in 0..<50 {
          let events = (try EventFD(), try EventFD())
          for index in [0, 1] {
            try guest.frontEnd.setRingCall(index, events.0.descriptor)
            try guest.frontEnd.setRingKick(index, events.1.descriptor)
          }
          _ = guest.send(site.frame(UInt64(round)))
          // The descriptor that its driver signals is another by now.
          events.1.signal()
        }
        try site.expectArrival(site.frame(49))
      }
    ]
  }
}
