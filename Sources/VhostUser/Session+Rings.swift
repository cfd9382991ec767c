internal import Linux

/// The requests that concern one ring. Those that a running ring needs not be stopped for don't stop it, and those that
/// say what is so already do nothing to it: whatever stops a ring loses frames that come meanwhile.
extension Session {
  private var isPacked: Bool { features?.contains(.ringPacked) ?? false }

  func setVringNum(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .setVringNum)
    if let flaw = Ring.flaw(size: state.number, packed: isPacked) {
      throw .refused(.setVringNum, flaw)
    }
    let size = Int(state.number)
    if rings[index].state == .running, rings[index].size == size { return .done }
    return try reconfigure([index]) { rings[index].size = size }
  }

  func setVringAddr(_ address: VringAddress) throws(ProtocolError) -> Outcome {
    let index = try ring(address.index, .setVringAddr)
    guard address.flags & ~VringAddress.logFlag == 0 else {
      throw .refused(.setVringAddr, "flags \(address.flags) are unknown")
    }
    if rings[index].state == .running, rings[index].address == address { return .done }
    return try reconfigure([index]) { rings[index].address = address }
  }

  /// A running ring goes on at its new place. It is stopped for that even when it may be there already, as only its
  /// worker knows.
  func setVringBase(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .setVringBase)
    if let flaw = Ring.flaw(base: state.number, packed: isPacked) {
      throw .refused(.setVringBase, flaw)
    }
    return try reconfigure([index]) {
      rings[index].base = state.number
      rings[index].agreedBase = state.number
    }
  }

  /// Stops the ring until its next kick. A ring that was not live has its base all the same.
  func getVringBase(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .getVringBase)
    stop([index])
    rings[index].kick = .none
    forgetTranslations()
    rings[index].agreedBase = rings[index].base
    backend.forgetPositions([index])
    return .reply(VringState(index: state.index, number: rings[index].base).bytes)
  }

  func setVringEnable(_ state: VringState) throws(ProtocolError) -> Outcome {
    let index = try ring(state.index, .setVringEnable)
    guard state.number <= 1 else { throw .refused(.setVringEnable, "\(state.number), not 0 or 1") }
    let enabled = state.number == 1
    guard rings[index].state == .running else {
      return try reconfigure([index]) { rings[index].enabled = enabled }
    }
    let changes = rings[index].isEnabled(features ?? []) != enabled
    rings[index].enabled = enabled
    if changes {
      backend.setEnabled(enabled, of: index)
      onEvent(.ringEnabled(index, enabled))
    }
    return .done
  }

  /// SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR.
  func setVringFile(
    _ request: Request, _ file: VringFile, _ descriptor: OwnedFD?
  ) throws(ProtocolError) -> Outcome {
    guard file.strayBits == 0 else { throw .refused(request, "stray bits in \(file.value)") }
    let index = try ring(file.index, request)
    if let descriptor { try Session.check(eventFD: descriptor, request) }
    let wasRunning = rings[index].state == .running
    switch request {
    case .setVringKick: rings[index].kick = descriptor.map { .eventFD($0) } ?? .polling
    case .setVringCall: rings[index].call = descriptor
    default: rings[index].error = descriptor
    }
    let outcome =
      wasRunning ? replace(request, descriptor, of: index) : try reconfigure([index]) {}
    // Buffers used just before may have been told to the old descriptor, which nobody reads (E83).
    if request == .setVringCall, rings[index].state == .running || rings[index].state == .due,
      let descriptor
    {
      Notifier.signal(descriptor)
    }
    return outcome
  }

  /// Gives a running ring another descriptor.
  private func replace(_ request: Request, _ descriptor: OwnedFD?, of index: Int) -> Outcome {
    switch request {
    case .setVringKick:
      do throws(BackendError) {
        try backend.setKick(descriptor, of: index)
      } catch {
        stop([index])
        reportFailure(of: index, error)
        return .failed
      }
    case .setVringCall: backend.setCall(descriptor, of: index)
    default: backend.setError(descriptor, of: index)
    }
    return .done
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
