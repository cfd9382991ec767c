import VirtioDriver

@testable import Dataplane

/// A frame as it was sent, and what may arrive of it (virtio v1.4, 5.1.9).
struct Sent {
  let header: VirtioDriver.NetHeader
  let frame: [UInt8]

  /// TCP over IPv4 to everybody, to be cut into segments.
  static func tcp(payload: Int, segments: Int) -> Sent {
    let packet = TestPacket(
      to: .broadcast, from: .station(1), .ipv4(options: 0), .tcp(options: 0), length: payload)
    return Sent(
      header: packet.header(.segmented(size: segments)),
      frame: packet.frame(.segmented(size: segments)))
  }

  private var asksChecksum: Bool { header.flags & VirtioDriver.NetHeader.needsCsum != 0 }
  private var asksSegments: Bool { header.gsoType != 0 }

  /// Whether a driver may send it so, as far as `HeaderRules` knows.
  var isRight: Bool {
    let all = VirtioFeatures(rawValue: .max)
    return HeaderRules(all).offences(header, frame).isEmpty
  }

  /// Holds what a receiver has got against what was sent.
  func judge(_ received: [QueuePair.Received], takes: Offloads) {
    guard let first = received.first else { return }
    let isCut = asksSegments && !isOneSegment
    if isCut, first.header.gsoType == 0 { return judgeSegments(received, takes) }
    hold(received.count == 1, "\(received.count) frames")
    hold(isCut || first.header.gsoType == 0, "gso_type \(first.header.gsoType) of one segment")
    if isCut {
      hold(first.header.gsoType == header.gsoType, "gso_type \(first.header.gsoType)")
      hold(first.header.gsoSize == header.gsoSize, "gso_size \(first.header.gsoSize)")
    }
    judge(first, asksSegments ? withRightLengths : frame, takes)
  }

  private var isOneSegment: Bool {
    guard let headers = FrameHeaders(frame) else { return false }
    return frame.count - headers.length <= Int(header.gsoSize)
  }

  /// The frame with the lengths that IP's and UDP's headers should have.
  private var withRightLengths: [UInt8] {
    guard let headers = FrameHeaders(frame) else { return frame }
    var frame = frame
    func set(_ value: Int, _ place: Int) {
      frame.replaceSubrange(
        place..<(place + 2), with: [UInt8(value >> 8 & 255), UInt8(value & 255)])
    }
    let network = headers.network
    if headers.version == 6 {
      set(frame.count - network - 40, network + 4)
    } else {
      let before = frame[(network + 2)...(network + 3)]
      set(frame.count - network, network + 2)
      if frame[(network + 2)...(network + 3)] != before {
        set(0, network + 10)
        set(Int(~InternetChecksum.sum(frame[network..<headers.transport])), network + 10)
      }
    }
    if headers.kind == .udp { set(frame.count - headers.transport, headers.transport + 4) }
    return frame
  }

  /// One frame: as it was, or with its checksum completed.
  private func judge(_ received: QueuePair.Received, _ expected: [UInt8], _ takes: Offloads) {
    let start = Int(header.csumStart)
    let field = start + Int(header.csumOffset)
    if received.header.flags & VirtioDriver.NetHeader.needsCsum != 0 {
      hold(asksChecksum && takes.covers(.checksum), "NEEDS_CSUM without being asked")
      hold(received.header.csumStart == header.csumStart, "csum_start")
      hold(received.header.csumOffset == header.csumOffset, "csum_offset")
      hold(received.frame == expected, "the frame changes on its way")
    } else if asksChecksum {
      var expected = expected
      let sum = ~InternetChecksum.sum(expected[start...])
      hold(received.frame.count == expected.count, "\(received.frame.count) bytes")
      let stored = UInt16(received.frame[field]) << 8 | UInt16(received.frame[field + 1])
      hold(InternetChecksum.same(stored, sum), "the checksum \(stored), not \(sum)")
      expected[field] = received.frame[field]
      expected[field + 1] = received.frame[field + 1]
      hold(received.frame == expected, "the frame changes on its way")
    } else {
      hold(received.frame == expected, "the frame changes on its way")
    }
  }

  /// Segments: the frame's payload, one piece after another, each behind headers of its own.
  private func judgeSegments(_ received: [QueuePair.Received], _ takes: Offloads) {
    guard let whole = FrameHeaders(frame) else {
      return hold(false, "segments of a frame without headers")
    }
    let payload = frame[whole.length...]
    let size = Int(header.gsoSize)
    var done = 0
    for segment in received {
      guard let headers = FrameHeaders(segment.frame) else {
        return hold(false, "a segment without headers")
      }
      hold(headers.length == whole.length && headers.kind == whole.kind, "other headers")
      let part = segment.frame[headers.length...]
      // The receiver may have had no room for the last ones, but for none in between.
      hold(part.count == min(size, payload.count - done), "\(part.count) bytes in a segment")
      hold(part.elementsEqual(payload.dropFirst(done).prefix(part.count)), "other bytes")
      judgeLengths(segment.frame, headers)
      if headers.kind == .tcp {
        let sequence = number(segment.frame, headers.transport + 4)
        hold(sequence == number(frame, whole.transport + 4) &+ UInt32(done), "sequence number")
      }
      judgeSum(segment, headers, whole)
      done += part.count
    }
    hold(!payload.isEmpty || received.count == 1, "\(received.count) segments of nothing")
  }

  private func judgeLengths(_ segment: [UInt8], _ headers: FrameHeaders) {
    let network = headers.network
    if headers.version == 4 {
      let length = Int(segment[network + 2]) << 8 | Int(segment[network + 3])
      hold(length == segment.count - network, "an IPv4 packet of \(length) bytes")
      hold(
        InternetChecksum.sum(segment[network..<headers.transport]) == 0xFFFF, "IPv4's checksum")
    } else {
      let length = Int(segment[network + 4]) << 8 | Int(segment[network + 5])
      hold(length == segment.count - network - 40, "an IPv6 packet of \(length) bytes")
    }
    if headers.kind == .udp {
      let at = headers.transport + 4
      let length = Int(segment[at]) << 8 | Int(segment[at + 1])
      hold(length == segment.count - headers.transport, "a datagram of \(length) bytes")
    }
  }

  /// The checksum is right, or left to be made, if the sender's was.
  private func judgeSum(
    _ segment: QueuePair.Received, _ headers: FrameHeaders, _ whole: FrameHeaders
  ) {
    let stored = UInt16(frame[whole.checksum]) << 8 | UInt16(frame[whole.checksum + 1])
    guard InternetChecksum.same(stored, whole.pseudoSum) else { return }
    if segment.header.flags & VirtioDriver.NetHeader.needsCsum != 0 {
      let left =
        UInt16(segment.frame[headers.checksum]) << 8 | UInt16(segment.frame[headers.checksum + 1])
      hold(InternetChecksum.same(left, headers.pseudoSum), "the pseudo header's sum \(left)")
    } else {
      hold(headers.isChecksumRight(in: segment.frame), "a segment's checksum")
    }
  }

  private func number(_ frame: [UInt8], _ offset: Int) -> UInt32 {
    frame[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) }
  }
}
