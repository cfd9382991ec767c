/// What a lane sends: the lengths of its frames and where they go. None of this while frames are under way.
extension Lane {
  /// Where frames go, as their first sixteen bytes, ready to be stored: addresses, EtherType and two bytes
  /// of zeros.
  public struct Flow: Sendable, Hashable {
    let front: SIMD2<UInt64>
    public let destination: EthernetAddress
    public let source: EthernetAddress

    public init(to destination: EthernetAddress, from source: EthernetAddress) {
      self.destination = destination
      self.source = source
      let bytes = EthernetFrame.make(to: destination, from: source, payload: [0, 0])
      front = SIMD2(FrontEndMessage.load(bytes, at: 0), FrontEndMessage.load(bytes, at: 8))
    }
  }

  /// Whether the lane holds every transmit buffer.
  public var isDrained: Bool { idleCount == buffers }

  /// The longest frame that can be sent.
  public var maxFrameLength: Int { options.transmitRoom * options.pieces }

  /// Makes frames from now on as long as `lengths` say, one buffer after another. The device must have
  /// returned every transmit buffer (`isDrained`).
  public mutating func prepare(_ lengths: [Int]) {
    precondition(isDrained && !lengths.isEmpty)
    precondition(lengths.allSatisfy { $0 >= minFrameLength && $0 <= maxFrameLength })
    let most = (lengths.reduce(0, max) + options.transmitRoom - 1) / options.transmitRoom
    let step = options.indirect ? 1 : most
    buffers = transmitq.size / step
    frameLength = lengths.count == 1 ? lengths[0] : 0
    idleFirst = 0
    idleCount = buffers
    let fronts =
      options.segmented
      ? Dictionary(uniqueKeysWithValues: Set(lengths).map { ($0, Lane.segmentedFront($0)) }) : [:]
    for buffer in 0..<buffers {
      let head = buffer * step
      let length = lengths[buffer % lengths.count]
      // SAFETY: `head` is below the ring's size, the capacity of both.
      unsafe idle[buffer] = UInt16(head)
      unsafe frameLengths[head] = UInt32(length)
      transmitq.prime(UInt16(head), described(head, length), indirect: options.indirect)
      if options.segmented {
        let place = pieces(head, length)[0].offset
        transmit.write(fronts[length, default: []], at: place)
      }
    }
  }

  /// The flows whose turn it is one after another, frame by frame; none: nothing can be sent.
  public mutating func setFlows(_ list: [Flow]) {
    precondition(list.count <= Lane.flowCapacity)
    for (index, flow) in list.enumerated() {
      var front = flow.front
      if options.segmented {
        // EtherType and the first two bytes of the IP header.
        let type: UInt64 = FrontEndMessage.load(Lane.segmentedFront(minFrameLength), at: 8)
        front[1] = front[1] & 0xFFFF_FFFF | type & ~0xFFFF_FFFF
      }
      unsafe flows[index] = front
    }
    flowCount = list.count
    nextFlow = 0
    sequence = 0
  }

  // ---- Segmented frames ----

  /// Ethernet, IPv4 and TCP, 54 bytes, and two bytes up to a stamp that is aligned.
  static let segmentedFrontLength = 56
  /// Payload of the segments that such a frame is to be cut into: Ethernet's, with TCP's timestamps.
  static let segmentSize: UInt16 = 1448

  /// The beginning of a segmented frame of `length` bytes.
  static func segmentedFront(_ length: Int) -> [UInt8] {
    let packet = TestPacket(
      to: .broadcast, from: .broadcast, .ipv4(options: 0), .tcp(options: 0), length: length - 54)
    return Array(packet.bytes(.partial).prefix(segmentedFrontLength))
  }

  /// What is written before each frame.
  static func netHeader(_ options: Options) -> NetHeader {
    guard options.segmented else { return NetHeader() }
    return NetHeader(
      flags: NetHeader.needsCsum, gsoType: NetHeader.gsoTCPv4, hdrLen: 54, gsoSize: segmentSize,
      csumStart: 34, csumOffset: 16)
  }

  /// What the descriptors of a frame of `length` bytes in `head`'s buffers name.
  private func described(_ head: Int, _ length: Int) -> [Piece] {
    let header = UInt64(headerLength)
    var found: [Piece] = []
    for (index, piece) in pieces(head, length).enumerated() {
      let address = transmit.address + UInt64(piece.offset)
      let bytes = UInt32(piece.length)
      if index > 0 {
        found.append(Piece(address, bytes))
      } else if options.indirect {
        found += [Piece(address - header, UInt32(header)), Piece(address, bytes)]
      } else {
        found.append(Piece(address - header, UInt32(header) + bytes))
      }
    }
    return found
  }

  /// Where in `transmit` the parts of a frame of `length` bytes lie.
  func pieces(_ head: Int, _ length: Int) -> [(offset: Int, length: Int)] {
    let room = options.transmitRoom
    let count = (length + room - 1) / room
    return (0..<count).map { index in
      (
        offset: head * transmitStride + index * Lane.stride(room) + Lane.line,
        length: min(room, length - index * room)
      )
    }
  }
}
