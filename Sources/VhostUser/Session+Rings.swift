internal import Linux

/// The requests that concern one ring.
extension Session {
  private var isPacked: Bool { features?.contains(.ringPacked) ?? false }

  func setVringNum(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .setVringNum)
    if let flaw = Ring.flaw(size: state.number, packed: isPacked) {
      throw .refused(.setVringNum, flaw)
    }
    return try reconfigure([index]) { rings[index].size = Int(state.number) }
  }

  func setVringAddr(_ address: VringAddress) throws(ProtocolError) -> Outcome {
    let index = try ring(address.index, .setVringAddr)
    guard address.flags & ~VringAddress.logFlag == 0 else {
      throw .refused(.setVringAddr, "flags \(address.flags) are unknown")
    }
    return try reconfigure([index]) { rings[index].address = address }
  }

  func setVringBase(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .setVringBase)
    if let flaw = Ring.flaw(base: state.number, packed: isPacked) {
      throw .refused(.setVringBase, flaw)
    }
    return try reconfigure([index]) { rings[index].base = state.number }
  }

  /// Stops the ring until its next kick. A ring that was not live has its base all the same.
  func getVringBase(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .getVringBase)
    stop(index)
    rings[index].kick = .none
    forgetTranslations()
    return .reply(VringState(index: state.index, number: rings[index].base).bytes)
  }

  func setVringEnable(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .setVringEnable)
    guard state.number <= 1 else { throw .refused(.setVringEnable, "\(state.number), not 0 or 1") }
    let enabled = state.number == 1
    if rings[index].isLive, rings[index].isEnabled(features ?? []) == enabled {
      rings[index].enabled = enabled
      return .done
    }
    return try reconfigure([index]) { rings[index].enabled = enabled }
  }

  /// SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR.
  func setVringFile(
    _ request: Request, _ file: VringFile, _ descriptor: OwnedFD?
  ) throws(ProtocolError) -> Outcome {
    guard file.strayBits == 0 else { throw .refused(request, "stray bits in \(file.value)") }
    let index = try ring(file.index, request)
    if let descriptor { try Session.check(eventFD: descriptor, request) }
    let outcome = try reconfigure([index]) {
      switch request {
      case .setVringKick: rings[index].kick = descriptor.map { .eventFD($0) } ?? .polling
      case .setVringCall: rings[index].call = descriptor
      default: rings[index].error = descriptor
      }
    }
    // Buffers used just before may have been told to the old descriptor, which nobody reads (E83).
    if request == .setVringCall, rings[index].isLive, let descriptor {
      Notifier.signal(descriptor)
    }
    return outcome
  }

  /// A descriptor that workers will signal must be an eventfd (HP-08). That it does not block is for the fallback of
  /// `Notifier` alone, as its other holder can change that.
  static func check(eventFD descriptor: OwnedFD, _ request: Request) throws(ProtocolError) {
    guard descriptor.isEventFD else {
      throw .refused(request, "the descriptor is not an eventfd")
    }
    do throws(SystemError) {
      try descriptor.setNonblocking()
    } catch {
      throw .refused(request, "\(error)")
    }
  }
}
