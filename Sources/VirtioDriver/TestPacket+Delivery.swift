/// How a packet is sent, and what arrives (virtio v1.4, 5.1.9.2.1 and 5.1.9.4.1): the reference that a
/// device is held against.
extension TestPacket {
  /// How a driver hands a packet to the device.
  public enum Mode: Sendable, Hashable {
    /// Complete.
    case full
    /// With a checksum to be made.
    case partial
    /// To be cut into segments with `size` bytes of payload.
    case segmented(size: Int)
  }

  /// What a driver needs to have negotiated for sending the packet so.
  public func needs(_ mode: Mode) -> VirtioFeatures {
    switch mode {
    case .full: return []
    case .partial: return .csum
    case .segmented:
      if transport == .udp { return [.csum, .hostUSO] }
      let kind: VirtioFeatures = isIPv4 ? [.csum, .hostTSO4] : [.csum, .hostTSO6]
      return hasCWR ? kind.union(.hostECN) : kind
    }
  }

  /// Whether a driver with `features` can take the packet in one, to be segmented.
  public func isTaken(by features: VirtioFeatures) -> Bool {
    if !features.contains(.guestCsum) { return false }
    if transport == .udp { return features.contains(isIPv4 ? .guestUSO4 : .guestUSO6) }
    return features.contains(isIPv4 ? .guestTSO4 : .guestTSO6)
      && (!hasCWR || features.contains(.guestECN))
  }

  private var hasCWR: Bool { transport != .udp && flags & TestPacket.cwr != 0 }

  /// The frame as the driver sends it.
  public func frame(_ mode: Mode) -> [UInt8] { bytes(mode == .full ? .full : .partial) }

  /// The virtio-net header before it.
  public func header(_ mode: Mode) -> NetHeader {
    var header = NetHeader()
    if mode == .full { return header }
    header.flags = NetHeader.needsCsum
    header.csumStart = UInt16(transportOffset)
    header.csumOffset = UInt16(checksumOffset)
    guard case .segmented(let size) = mode else { return header }
    header.hdrLen = UInt16(headerLength)
    header.gsoSize = UInt16(size)
    if transport == .udp {
      header.gsoType = NetHeader.gsoUDPL4
    } else {
      header.gsoType =
        (isIPv4 ? NetHeader.gsoTCPv4 : NetHeader.gsoTCPv6) | (hasCWR ? NetHeader.gsoECN : 0)
    }
    return header
  }

  /// The packets it is cut into, each with `size` bytes of payload, the last with what is left. Sequence
  /// numbers and identifications go on from one to the next; FIN and PSH are the last one's, CWR is the first
  /// one's (RFC 3168, 6.1.2).
  public func segments(size: Int) -> [TestPacket] {
    let count = max(1, (payload.count + size - 1) / size)
    return (0..<count).map { number in
      var segment = self
      segment.payload = Array(payload[(number * size)..<min(payload.count, (number + 1) * size)])
      segment.sequence &+= UInt32(truncatingIfNeeded: number * size)
      segment.identification &+= UInt16(truncatingIfNeeded: number)
      if number + 1 < count { segment.flags &= ~(TestPacket.fin | TestPacket.psh) }
      if number > 0 { segment.flags &= ~TestPacket.cwr }
      return segment
    }
  }

  /// Frames that a driver with `features` gets when the packet is sent so.
  public func arrivals(_ mode: Mode, features: VirtioFeatures) -> Int {
    guard case .segmented(let size) = mode, !isTaken(by: features) else { return 1 }
    return segments(size: size).count
  }

  /// Holds what came, `arrivals` frames, against what a driver with `features` must get, byte for byte.
  /// Returns what is wrong, in words.
  public func judge(
    _ received: [QueuePair.Received], _ mode: Mode, features: VirtioFeatures
  ) -> [String] {
    let expected = arrivals(mode, features: features)
    guard received.count == expected else { return ["\(received.count) frames of \(expected)"] }
    switch mode {
    case .full:
      return judge(received[0], .full, NetHeader(numBuffers: received[0].header.numBuffers))
    case .partial:
      return judgeSingle(received[0], features)
    case .segmented(let size):
      // One segment is nothing to be cut.
      if isTaken(by: features), payload.count > size {
        var header = self.header(mode)
        // Any length that covers the headers will do, and HeaderRules has seen that it does.
        header.hdrLen = received[0].header.hdrLen
        header.numBuffers = received[0].header.numBuffers
        return judge(received[0], .partial, header)
      }
      return zip(segments(size: size), received).enumerated().flatMap { number, pair in
        pair.0.judgeSingle(pair.1, features).map { "segment \(number): \($0)" }
      }
    }
  }

  /// A packet sent with a checksum to be made may arrive so, if the driver takes it; else it is made.
  private func judgeSingle(
    _ received: QueuePair.Received, _ features: VirtioFeatures
  ) -> [String] {
    if received.header.flags & NetHeader.needsCsum != 0 {
      var header = self.header(.partial)
      header.numBuffers = received.header.numBuffers
      let stray = features.contains(.guestCsum) ? [] : ["NEEDS_CSUM without GUEST_CSUM"]
      return stray + judge(received, .partial, header)
    }
    return judge(received, .full, NetHeader(numBuffers: received.header.numBuffers))
  }

  private func judge(
    _ received: QueuePair.Received, _ checksum: Checksum, _ header: NetHeader
  ) -> [String] {
    var found: [String] = []
    if received.header != header { found.append("\(received.header) instead of \(header)") }
    let expected = bytes(checksum)
    if received.frame != expected, received.frame != otherZero(expected) {
      if received.frame.count != expected.count {
        found.append("\(received.frame.count) bytes of \(expected.count)")
      }
      let differing = zip(received.frame, expected).enumerated().filter { $1.0 != $1.1 }
      let places = differing.prefix(6).map { "[\($0.offset)] \($0.element.0), not \($0.element.1)" }
      found.append("\(differing.count) bytes differ: " + places.joined(separator: "; "))
    }
    return found
  }

  /// A sum of zero has two forms, and to TCP they are the same.
  private func otherZero(_ frame: [UInt8]) -> [UInt8] {
    let at = transportOffset + checksumOffset
    guard transport != .udp, frame[at] == frame[at + 1], frame[at] == 0 || frame[at] == 0xFF else {
      return frame
    }
    var other = frame
    other[at] = ~other[at]
    other[at + 1] = ~other[at + 1]
    return other
  }
}
