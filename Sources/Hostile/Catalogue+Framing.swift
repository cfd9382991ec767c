internal import Linux
internal import VirtioDriver

/// Messages that are none: descriptors where none belong (HP-04), and lengths that are not what the request is due
/// (HP-05).
extension Catalogue {
  static var framing: [Case] { strayDescriptors + lengths }

  /// Every request of a network device, as it should be, but that what it names may not be there.
  private static func wellFormed() throws -> [FrontEndMessage] {
    let event = try EventFD().descriptor
    let memory = try GuestMemory(length: 1 << 16)
    let region = FrontEndMessage.region(memory.regions[0])
    let file = memory.regions[0].file
    let empty: [FrontEndRequest] = [
      .getFeatures, .setOwner, .resetOwner, .getProtocolFeatures, .getQueueNum, .resetDevice,
      .getMaxMemSlots, .getStatus,
    ]
    let words: [FrontEndRequest] = [
      .setFeatures, .setProtocolFeatures, .sendRARP, .netSetMTU, .setStatus,
    ]
    return empty.map { FrontEndMessage($0) }
      + words.map { FrontEndMessage($0, payload: FrontEndMessage.words(0 as UInt64)) }
      + [.setVringNum, .setVringBase, .getVringBase, .setVringEnable].map { .state($0, 0) }
      + ringFiles.map { .file($0, 0, event) }
      + [
        .addresses(0), .translation(0, user: 0), .table([region], [file]),
        .region(.addMemReg, region, file), .region(.remMemReg, region),
        FrontEndMessage(.setLogFD, descriptors: [event]),
        FrontEndMessage(.setBackendReqFD, descriptors: [event]),
      ]
  }

  private static func offences(_ change: (FrontEndMessage) -> FrontEndMessage?) throws
    -> [FrontEndMessage]
  {
    try wellFormed().compactMap(change)
  }

  private static var strayDescriptors: [Case] {
    [
      Case(
        "HP-04", "a descriptor more than belongs to the request, with every one",
        .refusal("descriptors attached")
      ) { site in
        let file = try site.file(4096)
        try site.end(
          offences { message in
            var message = message
            message.descriptors += [file]
            // The region's own may come along when it is taken away.
            if message.request == .remMemReg { message.descriptors += [file] }
            return message
          })
      },
      Case(
        "CVE-2022-0669", "as many descriptors as fit, with messages to which none belong",
        .refusal("descriptors attached")
      ) { site in
        let files = [OwnedFD](repeating: try site.file(4096), count: 32)
        try site.end(
          offences { message in
            guard message.descriptors.isEmpty else { return nil }
            var message = message
            message.descriptors = files
            return message
          })
      },
      Case("HP-04 none", "no descriptor where one belongs", .refusal("0 descriptors attached")) {
        site in
        try site.end(
          offences { message in
            guard !message.descriptors.isEmpty else { return nil }
            var message = message
            message.descriptors = []
            return message
          })
      },
      Case(
        "CVE-2019-14818", "descriptors that nobody wants, until none are left: each is closed",
        .refusal("31 descriptors attached")
      ) { site in
        let event = try EventFD().descriptor
        let many = [OwnedFD](repeating: event, count: 31)
        for _ in 0..<60 {
          try site.end(
            [FrontEndMessage(.setVringCall, payload: [1, 0, 0, 0, 0, 0, 0, 0], descriptors: many)],
            negotiates: false)
        }
      },
      Case(
        "DPDK 218daf1664", "more descriptors than a message can bring (MSG_CTRUNC)",
        .refusal("more descriptors attached to a message than can be taken")
      ) { site in
        let file = try site.file(4096)
        for count in [33, 64, 253] {
          let files = [OwnedFD](repeating: file, count: count)
          try site.end(
            [
              FrontEndMessage(.getFeatures, descriptors: files),
              .table([[UInt8]](repeating: FrontEndMessage.region(), count: 33), files),
            ], negotiates: false)
        }
      },
      Case(
        "HP-04 in the middle", "descriptors attached to the payload, not to the header",
        .refusal("middle of a message")
      ) { site in
        let file = try site.file(4096)
        for cut in [1, 11, 12, 15] {
          try site.end("descriptors at byte \(cut)") { () throws(FrontEndError) in
            let frontEnd = try site.frontEnd()
            let bytes = FrontEndMessage.state(.setVringNum, 0, 64).bytes
            try frontEnd.send(Array(bytes.prefix(cut)))
            try frontEnd.send(Array(bytes.dropFirst(cut)), descriptors: [file, file])
            return frontEnd
          }
        }
      },
    ]
  }

  private static var lengths: [Case] {
    [
      Case("HP-05 short", "every request with a payload too short", .refusal("a payload of")) {
        site in
        for cut in [1, 8] {
          try site.end(
            offences { message in
              if message.payload.count < cut { return nil }
              var message = message
              message.payload.removeLast(cut)
              return message
            })
        }
      },
      Case("HP-05 long", "every request with a payload too long", .refusal("a payload of")) {
        site in
        for length in [1, 8, 4000] {
          try site.end(
            offences { message in
              // Where none is due, none is looked at.
              if message.payload.isEmpty { return nil }
              var message = message
              message.payload += [UInt8](repeating: 0xFF, count: length)
              return message
            })
        }
      },
      Case(
        "HP-05 beyond the maximum", "messages that say they are longer than any is",
        .refusal("at most 4096 are taken")
      ) { site in
        for size: UInt32 in [4097, 65_536, 1 << 31, .max] {
          for code: UInt32 in [1, 5, 26, 999] {
            try site.end("a payload of \(size) bytes") { () throws(FrontEndError) in
              let frontEnd = try site.frontEnd()
              try frontEnd.send(
                FrontEndMessage.words(code, FrontEndMessage.version, size) + [1, 2])
              return frontEnd
            }
          }
        }
      },
      Case(
        "DPDK 966f89d998", "a part of a header, or of a payload, and no more",
        .refusal("in the middle of a message")
      ) { site in
        let message = FrontEndMessage.addresses(0)
        for length in [1, 4, 11, 12, 13, 51] {
          try site.end("\(length) bytes of a message") { () throws(FrontEndError) in
            let frontEnd = try site.frontEnd()
            try frontEnd.send(Array(message.bytes.prefix(length)))
            site.finishSending(frontEnd)
            return frontEnd
          }
        }
      },
      Case(
        "HP-05 running", "half a message from a front-end whose rings run, which then is gone",
        .refusal("in the middle of a message")
      ) { site in
        for length in [1, 11, 19] {
          let guest = try site.guest()
          try guest.frontEnd.send(
            Array(FrontEndMessage.state(.setVringNum, 1, 64).bytes.prefix(length)))
          try site.expectDelivery(by: guest)
          guest.disconnect()
          site.faults[.malformed, default: 0] += 1
        }
      },
    ]
  }
}
