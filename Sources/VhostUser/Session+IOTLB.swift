internal import Linux

/// The requests that concern an IOMMU (vhost-user.rst, "IOMMU support"; E98).
extension Session {
  /// Whether addresses are translated. A front-end that gives no way to ask for translations has none to give:
  /// DPDK's virtio-user, say, whose addresses are what they are without.
  var isTranslated: Bool {
    (features ?? []).contains(.accessPlatform) && protocolFeatures.contains(.backendReq)
  }

  /// Takes the socket for our own requests; a second one takes the first one's place.
  func setBackendReqFD(_ descriptor: OwnedFD) throws(ProtocolError) -> Outcome {
    try require(.backendReq, for: .setBackendReqFD)
    guard descriptor.isStreamSocket else {
      throw .refused(.setBackendReqFD, "the descriptor is not a stream socket")
    }
    // A front-end makes this channel with socketpair(2). Anything else may be an end of a connection to here, its own
    // one even, which would then stay up when the front-end is gone.
    guard UnixSocket.isOfPair(descriptor) else {
      throw .refused(.setBackendReqFD, "the socket is not one of a pair")
    }
    UnixSocket.deafen(descriptor)
    channel = BackendChannel(descriptor)
    // What was asked on another channel, or would have been.
    asked.forget()
    checks.forget()
    backend.renewMisses()
    retryAwaiting()
    return .done
  }

  func changeIOTLB(_ message: IOTLBMessage) throws(ProtocolError) -> Outcome {
    try require(.backendReq, for: .iotlbMsg)
    guard isTranslated else {
      throw .refused(.iotlbMsg, "VIRTIO_F_ACCESS_PLATFORM is not accepted")
    }
    switch message.type {
    case IOTLBMessage.update:
      let entry = try entry(message)
      asked.answer(entry)
      restart(backend.insert(entry, isCheck: checks.answer(entry)))
    case IOTLBMessage.invalidate:
      // All of the address space is 2^64 bytes, which its size can't say: QEMU sends what is left of them.
      let (end, overflow) = message.address.addingReportingOverflow(message.size)
      let last = overflow || message.size == 0 ? UInt64.max : end - 1
      checks.withdraw(from: message.address, through: last)
      restart(backend.removeTranslations(from: message.address, through: last))
    default:
      throw .refused(.iotlbMsg, "\(message.type) is no type of message that a front-end sends")
    }
    return .done
  }

  /// Judges an update (HP-13).
  private func entry(_ message: IOTLBMessage) throws(ProtocolError) -> IOTLBEntry {
    let what = "the update of \(message.size) bytes at device address \(message.address)"
    guard (1...3).contains(message.access) else {
      throw .refused(.iotlbMsg, "\(what) allows \(message.access), not 1…3")
    }
    guard message.size > 0 else { throw .refused(.iotlbMsg, "\(what) is empty") }
    // Of both it is the last byte that must have an address: a range may end with the address space.
    guard !message.address.addingReportingOverflow(message.size - 1).overflow,
      !message.userAddress.addingReportingOverflow(message.size - 1).overflow
    else { throw .refused(.iotlbMsg, "\(what) wraps") }
    let isInside = regions.contains { region in
      message.userAddress >= region.userAddress
        && message.userAddress - region.userAddress < region.size
        && message.size <= region.size - (message.userAddress - region.userAddress)
    }
    guard isInside else { throw .refused(.iotlbMsg, "\(what) lies outside the memory table") }
    return IOTLBEntry(
      address: message.address, size: message.size, userAddress: message.userAddress,
      access: IOTLBAccess(rawValue: message.access))
  }

  /// Stops rings whose addresses lead elsewhere; those that can, and those that waited, start where they ended.
  private func restart(_ stale: [Int]) {
    suspend(stale)
    retryAwaiting()
  }

  /// Has rings that lacked a translation be tried again: it may have come.
  private func retryAwaiting() {
    makeDue(rings.indices.filter { rings[$0].state == .awaitsTranslation })
  }

  /// With no ring running or about to the front-end tells no more of what changes, so what it told is void.
  func forgetTranslations() {
    guard isTranslated, rings.allSatisfy({ $0.state != .running && $0.kick.isNone }) else { return }
    asked.forget()
    checks.forget()
    _ = backend.removeTranslations(from: 0, through: .max)
  }

  /// Asks the front-end for what was missed. Returns when to be called again, if nothing happens before.
  func askForMisses() -> ContinuousClock.Instant? {
    backend.missed?.drain()
    if let due = asked.due, due <= .now {
      asked.expire()
      backend.renewMisses()
      retryAwaiting()
      startDue()
    }
    var questions = 0
    for miss in backend.takeMisses() where !asked.excludes(miss) {
      guard let isSent = ask(for: miss) else { break }
      asked.note(miss, sent: isSent)
      if isSent { questions += 1 }
    }
    if questions > 0 { backend.noteQuestions(questions) }
    if let due = checks.due, due <= .now {
      for known in backend.translationsToCheck(checks.begin()) where !asked.excludes(known) {
        if ask(for: known) == true { checks.note(known) }
      }
    }
    return [asked.due, checks.due].compactMap(\.self).min()
  }

  /// Returns whether there was room; `nil`: there is no channel.
  private func ask(for miss: IOTLBMiss) -> Bool? {
    guard let channel else { return nil }
    switch channel.send(IOTLBMessage(miss)) {
    case .sent: return true
    case .full: return false
    case .failed(let error):
      self.channel = nil
      asked.forget()
      checks.forget()
      onEvent(.refused("the front-end can't be asked for translations: \(error)"))
      return nil
    }
  }
}
