internal import Linux
internal import VirtioDriver

/// Frames that ask for segments, pass whole to a receiver that makes them itself, and whose own headers are not the
/// same when they are judged and when they are delivered: HG-13 and HG-18. What was judged must be what is delivered,
/// all headers of it, or a receiver gets a virtio-net header that belongs to other bytes.
extension Catalogue {
  static var rereadings: [Case] {
    both { packed, layout in
      Rewriting.all.map { overwritten($0, packed, layout) } + [raced(packed, layout)]
    }
  }

  /// One byte behind the first 16 of a frame, and what it is made to be.
  private struct Rewriting: Sendable {
    var name: String
    var summary: String
    /// Whether the frame has a VLAN tag, so that what its EtherType says lies behind those 16 bytes.
    var tagged = false
    var changes: [(offset: Int, byte: UInt8)]

    static let all = [
      Rewriting(
        name: "protocol", summary: "TCP before, UDP afterwards", changes: [(23, 17)]),
      Rewriting(
        name: "header length", summary: "a TCP header of 20 bytes before, of none afterwards",
        changes: [(46, 0)]),
      Rewriting(
        name: "fragment", summary: "a whole packet before, a later fragment afterwards",
        changes: [(20, 0x20), (21, 0x10)]),
      Rewriting(
        name: "version", summary: "IPv4 before, IPv6 afterwards", tagged: true,
        changes: [(16, 0x86), (17, 0xdd), (18, 0x65)]),
    ]

    func applied(to frame: [UInt8]) -> [UInt8] {
      var frame = frame
      for change in changes { frame[change.offset] = change.byte }
      return frame
    }
  }

  /// What the attacker's guest may ask for, and the receiver makes itself.
  private static let asked: VirtioFeatures = [.csum, .hostTSO4]
  private static let taken: VirtioFeatures = [.guestCsum, .guestTSO4]

  private static func request(tagged: Bool) -> NetHeader {
    let shift: UInt16 = tagged ? 4 : 0
    return NetHeader(
      flags: NetHeader.needsCsum, gsoType: NetHeader.gsoTCPv4, hdrLen: 54 + shift, gsoSize: 1000,
      csumStart: 34 + shift, csumOffset: 16)
  }

  // ---- Between two deliveries of one burst ----

  /// Two frames of one burst. The first goes to an accomplice, who has shared the sender's memory too and whose
  /// receive buffer is the second frame's transmit buffer: its delivery writes other headers over those that the second
  /// was judged by. The second goes to somebody honest. No timing is needed.
  private static func overwritten(
    _ rewriting: Rewriting, _ packed: Bool, _ layout: String
  ) -> Case {
    Case(
      "HG-18 overwritten \(rewriting.name), \(layout)",
      "a frame to be segmented, written over by the delivery of the one before it: "
        + rewriting.summary, .nothing
    ) { site in
      let ring = try site.ring(packed: packed, asked)
      let frame = site.tcp(2000, to: Site.visitor, tagged: rewriting.tagged)
      let header = request(tagged: rewriting.tagged)
      let second = try site.buffer(in: ring.guest, header: header, frame)
      let first = try site.buffer(
        in: ring.guest, site.addressed(rewriting.applied(to: frame), to: Site.accomplice))
      let accomplice = try site.accomplice(sharing: ring.guest, packed: packed, buffer: second)
      defer { withExtendedLifetime(accomplice) {} }
      // In one piece and in several, to a receiver whose buffers are merged and one that needs it whole.
      for mergeable in [true, false] {
        let receiver = try site.receiver(taken, mergeable: mergeable)
        defer { receiver.disconnect() }
        for pieces in 1...2 {
          second.write(header.bytes(length: ring.guest.pairs[0].headerLength) + frame)
          let chain =
            pieces == 1
            ? [ForgedDescriptor(second)]
            : [
              ForgedDescriptor(second.slice(0, 30)),
              ForgedDescriptor(second.slice(30, second.length - 30)),
            ]
          ring.offer(batch: [[ForgedDescriptor(first)], chain])
          try site.expectReturn(ring)
          try site.expectAgreement(
            of: receiver, whole: Array(frame.prefix(Int(header.hdrLen))),
            "sent in \(pieces == 1 ? "one piece" : "two pieces") to buffers that are "
              + (mergeable ? "merged" : "not merged"))
        }
      }
      let isOverwritten = second.read(count: second.length).dropFirst(12) != frame[...]
      if site.isStrict, !isOverwritten {
        throw AttackError.hurt("the first frame has not been written over the second")
      }
    }
  }

  // ---- By a race ----

  /// The sender rewrites its IP and TCP headers at full speed while they are judged and delivered.
  private static func raced(_ packed: Bool, _ layout: String) -> Case {
    Case(
      "HG-13 segments' headers, \(layout)",
      "a frame to be segmented, whose IP and TCP headers change while it is sent",
      .drop("malformed_offload")
    ) { site in
      let ring = try site.ring(packed: packed, asked)
      let receiver = try site.receiver(taken, mergeable: true)
      let frame = site.tcp(2000, to: Site.visitor)
      let buffer = try site.buffer(in: ring.guest, header: request(tagged: false), frame)
      let bytes = buffer.read(count: buffer.length)
      /// The word in which `offset` bytes of the frame lies, and in which that byte is another by turns.
      func word(_ offset: Int, _ byte: UInt8) -> Mutator.Word {
        let place = (12 + offset) & ~3
        let good: UInt32 = FrontEndMessage.load(bytes, at: place)
        var other = bytes
        other[12 + offset] = byte
        let bad: UInt32 = FrontEndMessage.load(other, at: place)
        return .half(buffer.slice(place, 4), [good, bad])
      }
      var mutator = Mutator([word(23, 17), word(46, 0)], of: ring.guest.memory)
      let chain = [ForgedDescriptor(buffer)]
      let deadline = Deadline(milliseconds: 300)
      var (rounds, arrived, strange) = (0, 0, [String]())
      // On a busy machine the worker may sleep through most of the time.
      while !deadline.isOver || rounds < 100 {
        rounds += 1
        try Mutator.apart {
          ring.offer(batch: [[ForgedDescriptor]](repeating: chain, count: 16))
          mutator.write { ring.isUsed }
        }
        while let received = receiver.pairs[0].receiveWithHeader() {
          if received.header.gsoType == 0 { continue }
          arrived += 1
          if let flaw = received.disagreement { strange.append(flaw) }
        }
      }
      if site.isStrict, let first = strange.first {
        throw AttackError.hurt(
          "\(strange.count) of \(arrived) frames arrive with another's virtio-net header: \(first)")
      }
      if site.isStrict, arrived == 0 { throw AttackError.hurt("no frame arrives whole") }
    }
  }
}

extension Site {
  /// Who is on the visitor's socket, and who works together with the attacker.
  static let visitor = EthernetAddress.station(4)
  static let accomplice = EthernetAddress.station(5)

  /// Somebody honest on the visitor's socket, who takes segments as they are and whose address is known.
  fileprivate func receiver(
    _ features: VirtioFeatures, mergeable: Bool
  ) throws -> GuestPort {
    guard let visitor else { throw AttackError.notOffered("a port for somebody else") }
    let receiver = try guest(on: visitor, features) { options in
      options.receiveBufferLength = 4096
      if !mergeable { options.features.remove(.mrgRxbuf) }
    }
    try introduce(receiver, as: Site.visitor)
    return receiver
  }

  /// A second port of the attacker's. Its front-end has shared the memory of `guest` beside its own, and every
  /// buffer of its receiveq is `buffer`, which lies there.
  fileprivate func accomplice(
    sharing guest: GuestPort, packed: Bool, buffer: GuestBuffer
  ) throws -> ForgedRing {
    guard let accomplice else { throw AttackError.notOffered("a second port for the attacker") }
    let second = try self.guest(on: accomplice, packed ? .ringPacked : [])
    try introduce(second, as: Site.accomplice)
    let shift: UInt64 = 1 << 40
    let (own, shared) = (second.memory.regions[0], guest.memory.regions[0])
    let table = FrontEndMessage.table(
      [
        FrontEndMessage.region(own),
        FrontEndMessage.region(
          guest: shared.guestAddress + shift, size: UInt64(shared.length),
          user: shared.userAddress + (1 << 46), offset: shared.fileOffset),
      ], [own.file, shared.file])
    try second.frontEnd.set(.setMemTable, table.payload, descriptors: table.descriptors)
    let ring = ForgedRing(second, transmitq: false)
    for slot in 0..<ring.size {
      ring.overwrite(
        slot,
        ForgedDescriptor(
          buffer.address + shift, UInt32(buffer.length), flags: ForgedDescriptor.write))
    }
    return ring
  }

  /// Lets the switch learn a guest's address.
  private func introduce(_ guest: GuestPort, as address: EthernetAddress) throws {
    _ = guest.send(
      TestFrame.make(
        to: Site.witness, from: address, stream: Site.attackerStream, sequence: 1 << 33))
    try expect("a guest's first frame is not taken") {
      guest.pairs[0].reclaim()
      return guest.pairs[0].transmitq.outstanding == 0
    }
    collect()
  }

  /// The same frame to somebody else.
  fileprivate func addressed(_ frame: [UInt8], to address: EthernetAddress) -> [UInt8] {
    address.bytes + frame.dropFirst(6)
  }

  /// A frame to be segmented arrives at a receiver that makes the segments itself, and its virtio-net header is that of
  /// its bytes.
  ///
  /// - Parameters:
  ///   - whole: the headers that the switch was shown when it judged the frame.
  ///   - how: in what way it was sent, for a person.
  fileprivate func expectAgreement(
    of receiver: GuestPort, whole: [UInt8], _ how: String
  ) throws {
    var frames: [QueuePair.Received] = []
    try expect("a frame to be segmented does not arrive, \(how)") {
      while let received = receiver.pairs[0].receiveWithHeader() {
        if received.header.gsoType != 0 { frames.append(received) }
      }
      return !frames.isEmpty
    }
    guard isStrict, let received = frames.first else { return }
    if let flaw = received.disagreement { throw AttackError.hurt("\(flaw), \(how)") }
    if !received.frame.starts(with: whole) {
      throw AttackError.hurt("the headers delivered are not those that were judged, \(how)")
    }
  }
}

extension QueuePair.Received {
  /// In what the virtio-net header of a frame to be segmented is not that of its bytes, in words (virtio v1.4,
  /// 5.1.9.4.1); `nil`: in nothing. The checksum's own field is the sender's affair.
  fileprivate var disagreement: String? {
    let said =
      "gso_type \(header.gsoType), hdr_len \(header.hdrLen), csum_start \(header.csumStart)"
    guard let headers = FrameHeaders(frame) else {
      return "\(said) over bytes that are no whole TCP or UDP packet"
    }
    let found =
      "an IPv\(headers.version) packet of \(headers.kind) with \(headers.length) of headers"
    let isRight =
      header.gsoType == NetHeader.gsoTCPv4 && headers.version == 4 && headers.kind == .tcp
      && Int(header.hdrLen) == headers.length && Int(header.csumStart) == headers.transport
      && Int(header.csumOffset) == headers.kind.checksumOffset
    return isRight ? nil : "\(said) over \(found)"
  }
}
