/// What a device may write into the virtio-net header before a frame (virtio v1.4, 5.1.9.4.1), for a driver
/// with these features. `num_buffers` is judged where buffers are put together (`QueuePair`).
public struct HeaderRules: Sendable {
  public let features: VirtioFeatures

  public init(_ features: VirtioFeatures) { self.features = features }

  /// What is wrong with a header and the frame behind it, in words; empty when all is well.
  public func offences(_ header: NetHeader, _ frame: [UInt8]) -> [String] {
    var found: [String] = []
    let headers = FrameHeaders(frame)
    judgeFlags(header, headers, frame, &found)
    judgeSegmentation(header, headers, frame, &found)
    judgeChecksum(header, headers, frame, &found)
    return found
  }

  private func judgeFlags(
    _ header: NetHeader, _ headers: FrameHeaders?, _ frame: [UInt8], _ found: inout [String]
  ) {
    let flags = header.flags
    if flags != 0, !features.contains(.guestCsum) {
      found.append("flags \(flags) without GUEST_CSUM (E53)")
    }
    if flags & NetHeader.rscInfo != 0 { found.append("RSC_INFO without RSC_EXT (E60)") }
    if flags & ~(NetHeader.needsCsum | NetHeader.dataValid | NetHeader.rscInfo) != 0 {
      found.append("flags \(flags), of which some are not negotiated or not known (E60)")
    }
    guard flags & NetHeader.dataValid != 0 else { return }
    if flags & NetHeader.needsCsum != 0 {
      found.append("a checksum that is validated and yet to be made (E59)")
    } else if let headers, !headers.isChecksumRight(in: frame) {
      found.append("DATA_VALID with a wrong checksum (E59)")
    }
  }

  private func judgeSegmentation(
    _ header: NetHeader, _ headers: FrameHeaders?, _ frame: [UInt8], _ found: inout [String]
  ) {
    guard header.gsoType != 0 else {
      if header.gsoSize != 0 { found.append("gso_size \(header.gsoSize) without GSO (E61)") }
      if header.hdrLen != 0 { found.append("hdr_len \(header.hdrLen) without GSO (E61)") }
      return
    }
    let type = header.gsoType & ~NetHeader.gsoECN
    let allowed: Bool
    let fits: Bool
    switch type {
    case NetHeader.gsoTCPv4:
      allowed = features.contains(.guestTSO4)
      fits = headers?.version == 4 && headers?.kind == .tcp
    case NetHeader.gsoTCPv6:
      allowed = features.contains(.guestTSO6)
      fits = headers?.version == 6 && headers?.kind == .tcp
    case NetHeader.gsoUDP:
      allowed = features.contains(.guestUFO)
      fits = headers?.kind == .udp
    case NetHeader.gsoUDPL4:
      allowed = features.contains(headers?.version == 6 ? .guestUSO6 : .guestUSO4)
      fits = headers?.kind == .udp
    default:
      found.append("gso_type \(header.gsoType): no such type, or a tunnel (E57, E60)")
      return
    }
    if !allowed { found.append("gso_type \(header.gsoType), not negotiated (E54, E57)") }
    if !fits { found.append("gso_type \(header.gsoType) before a frame of another kind (E54)") }
    if header.flags & NetHeader.needsCsum == 0 { found.append("GSO without NEEDS_CSUM (E58)") }
    if header.gsoSize == 0 { found.append("GSO with gso_size 0 (E58)") }
    if Int(header.hdrLen) < headers?.length ?? 0 || Int(header.hdrLen) > frame.count {
      found.append(
        "hdr_len \(header.hdrLen) of a frame of \(frame.count) with \(headers?.length ?? 0) of headers (E58)"
      )
    }
    judgeECN(header, headers, frame, &found)
  }

  /// CWR in a frame to be segmented: only for a driver with GUEST_ECN, and then with the bit.
  private func judgeECN(
    _ header: NetHeader, _ headers: FrameHeaders?, _ frame: [UInt8], _ found: inout [String]
  ) {
    let bit = header.gsoType & NetHeader.gsoECN != 0
    if bit, !features.contains(.guestECN) { found.append("GSO_ECN without GUEST_ECN (E55)") }
    guard let headers else { return }
    if bit, headers.kind != .tcp { found.append("GSO_ECN before a frame that is not TCP (E55)") }
    if headers.kind == .tcp, frame[headers.transport + 13] & 0x80 != 0, !bit {
      found.append("CWR in a frame to be segmented, without GSO_ECN (E55)")
    }
  }

  private func judgeChecksum(
    _ header: NetHeader, _ headers: FrameHeaders?, _ frame: [UInt8], _ found: inout [String]
  ) {
    let (start, offset) = (Int(header.csumStart), Int(header.csumOffset))
    guard header.flags & NetHeader.needsCsum != 0 else {
      if start != 0 || offset != 0 {
        found.append("csum_start \(start), csum_offset \(offset) without NEEDS_CSUM (E61)")
      }
      return
    }
    guard start >= 14, start + offset + 2 <= frame.count else {
      found.append("csum_start \(start), csum_offset \(offset) of \(frame.count) bytes (E56)")
      return
    }
    guard let headers else { return }
    if start == headers.transport, offset == headers.kind.checksumOffset {
      let stored = UInt16(frame[headers.checksum]) << 8 | UInt16(frame[headers.checksum + 1])
      if !InternetChecksum.same(stored, headers.pseudoSum) {
        found.append("\(stored) stored, the pseudo header's sum is \(headers.pseudoSum) (E56)")
      }
    } else if header.gsoType != 0 || start < headers.length {
      // Without GSO it may be that of a frame inside of the frame.
      found.append(
        "csum_start \(start), csum_offset \(offset); the transport begins at \(headers.transport) (E56)"
      )
    }
  }
}
