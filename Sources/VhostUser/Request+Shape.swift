internal import Linux

/// What each request must look like before its handler sees it: the exact length of its payload and the
/// number of descriptors with it (E66, E67).
extension Message {
  /// Throws `.malformed` unless payload and descriptors are what `request` is due. Handlers may decode
  /// without looking again.
  func checkShape(_ request: Request) throws(ProtocolError) {
    let lengths: [Int]
    var descriptorCounts = 0...0
    switch request {
    case .getFeatures, .setOwner, .resetOwner, .getProtocolFeatures, .getQueueNum, .resetDevice,
      .getMaxMemSlots, .getStatus:
      // The specification gives them no payload to be read; some front-ends send eight bytes all the same.
      lengths = [payload.count]
    case .setFeatures, .setProtocolFeatures, .sendRARP, .netSetMTU, .setStatus:
      lengths = [UInt64.length]
    case .setVringNum, .setVringBase, .getVringBase, .setVringEnable:
      lengths = [VringState.length]
    case .setVringAddr:
      lengths = [VringAddress.length]
    case .iotlbMsg:
      lengths = [IOTLBMessage.length]
    case .setVringKick, .setVringCall, .setVringErr:
      lengths = [UInt64.length]
      if payload.count == UInt64.length {
        descriptorCounts = VringFile(UInt64(payload)).hasDescriptor ? 1...1 : 0...0
      }
    case .setMemTable:
      guard let table = MemoryTable(payload) else {
        throw .malformed(
          request, "a payload of \(payload.count) bytes does not fit its count of regions")
      }
      lengths = [payload.count]
      descriptorCounts = table.regions.count...table.regions.count
    case .addMemReg:
      lengths = [SingleRegion.length]
      descriptorCounts = 1...1
    case .remMemReg:
      // Some front-ends attach the region's descriptor; the specification lets it be closed unused.
      lengths = [SingleRegion.length]
      descriptorCounts = 0...1
    case .setLogBase:
      // The specification's text says u64, its table and every front-end a log description.
      lengths = [LogDescription.length, UInt64.length]
      descriptorCounts = 0...1
    case .setLogFD, .setBackendReqFD:
      lengths = [payload.count]
      descriptorCounts = 1...1
    default:
      // Not served: whatever it brings is dropped, and the request refused.
      return
    }
    guard lengths.contains(payload.count) else {
      throw .malformed(request, "a payload of \(payload.count) bytes, not \(lengths[0])")
    }
    guard descriptorCounts.contains(descriptors.count) else {
      throw .malformed(
        request, "\(descriptors.count) descriptors attached, not \(descriptorCounts.upperBound)")
    }
  }
}

extension Request {
  /// Requests whose reply is their answer; need_reply means nothing on them (E69). SET_LOG_BASE joins
  /// them when LOG_SHMFD is negotiated.
  var hasOwnReply: Bool {
    switch self {
    case .getFeatures, .getProtocolFeatures, .getQueueNum, .getVringBase, .getMaxMemSlots,
      .getStatus:
      true
    default: false
    }
  }
}
