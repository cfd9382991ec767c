public import Linux

/// A session goes to another process, or comes from one, without its front-end noticing. All of this is called while the
/// session's thread stands in `onPause`, or has not begun to `run`.
extension Session {
  /// Stops the receiveqs that run, or the transmitqs, until `letGo`.
  public func hold(receiveqs: Bool) {
    let indices = rings.indices.filter {
      ($0 % 2 == 0) == receiveqs && (rings[$0].state == .running || rings[$0].waits)
    }
    stop(indices)
    held.formUnion(indices)
  }

  /// Starts those that were held. Their drivers are told that something may have been used: who was about to tell them may
  /// be gone.
  public func letGo(receiveqs: Bool) {
    let indices = held.filter { ($0 % 2 == 0) == receiveqs }.sorted()
    held.subtract(indices)
    makeDue(indices)
    startDue()
    for index in indices {
      if let call = rings[index].call { Notifier.signal(call) }
    }
  }

  /// The state of a session whose rings are held.
  ///
  /// - Parameter descriptors: gets those that go with it.
  public func state(
    _ descriptors: inout HandedDescriptors
  ) throws(HandOverError) -> SessionState {
    if log != nil || (features ?? []).contains(.logAll) {
      throw HandOverError("its guest is about to move to another machine")
    }
    guard let connection else { throw HandOverError("its front-end has gone") }
    var rows: [SessionState.RingState] = []
    for index in rings.indices { rows.append(state(of: index, &descriptors)) }
    return SessionState(
      connection: descriptors.add(connection.socket), features: features?.rawValue,
      protocolFeatures: protocolFeatures.rawValue, status: status.rawValue, rings: rows,
      regions: regions.map { region in
        .init(
          guestAddress: region.guestAddress, size: region.size, userAddress: region.userAddress,
          mmapOffset: region.mmapOffset, file: descriptors.add(region.file),
          repeats: repeatedRegions[region.guestAddress] ?? 0)
      }, channel: descriptors.add(channel?.socket), rest: channel?.rest ?? [])
  }

  private func state(
    of index: Int, _ descriptors: inout HandedDescriptors
  ) -> SessionState.RingState {
    let ring = rings[index]
    var kick: OwnedFD?
    var isPolled = false
    switch ring.kick {
    case .none: break
    case .polling: isPolled = true
    case .eventFD(let descriptor): kick = descriptor
    }
    return SessionState.RingState(
      size: ring.size,
      address: ring.address.map {
        [UInt64($0.flags), $0.descriptor, $0.used, $0.available, $0.log]
      }, base: ring.base, agreedBase: ring.agreedBase, isPolled: isPolled,
      kick: descriptors.add(kick), call: descriptors.add(ring.call),
      error: descriptors.add(ring.error), enabled: ring.enabled, isHeld: held.contains(index))
  }

  /// The connection of a session that was handed over.
  public static func connection(
    of state: SessionState, _ descriptors: HandedDescriptors
  ) throws(SystemError) -> OwnedFD {
    try descriptors.at(state.connection)
  }

  /// Goes on where a session of another process was. Its rings are held until `letGo`.
  public func take(_ state: SessionState, _ descriptors: HandedDescriptors) throws {
    guard state.rings.count == rings.count else {
      throw HandOverError("it has \(rings.count) rings, and its front-end \(state.rings.count)")
    }
    let stray = Features(rawValue: state.features ?? 0).subtracting(backend.features)
    guard stray.isEmpty else {
      throw HandOverError(
        "its front-end has taken \(stray.names.joined(separator: ", ")), which is not offered here")
    }
    let strange = ProtocolFeatures(rawValue: state.protocolFeatures).subtracting(offered)
    guard strange.isEmpty else {
      throw HandOverError(
        "its front-end has taken \(strange.names.joined(separator: ", ")), which is not offered here"
      )
    }
    features = state.features.map { Features(rawValue: $0) }
    protocolFeatures = ProtocolFeatures(rawValue: state.protocolFeatures)
    status = DeviceStatus(rawValue: state.status)
    for (index, row) in state.rings.enumerated() {
      rings[index] = try Ring(row, index: index, descriptors)
      if row.isHeld { held.insert(index) }
    }
    for region in state.regions {
      regions.append(
        GuestRegion(
          guestAddress: region.guestAddress, size: region.size, userAddress: region.userAddress,
          mmapOffset: region.mmapOffset, file: try descriptors.at(region.file)))
      if region.repeats > 0 { repeatedRegions[region.guestAddress] = region.repeats }
    }
    if let socket = try descriptors.at(state.channel) {
      channel = BackendChannel(socket, rest: state.rest)
    }
    backend.negotiated(features ?? [], protocolFeatures)
    try backend.setMemory(regions)
    backend.statusChanged(status)
  }
}

extension Ring {
  fileprivate init(
    _ state: SessionState.RingState, index: Int, _ descriptors: HandedDescriptors
  ) throws {
    self.init()
    size = state.size
    if let row = state.address {
      guard row.count == 5 else { throw HandOverError("ring \(index) has no sound address") }
      address = VringAddress(
        index: UInt32(index), flags: UInt32(truncatingIfNeeded: row[0]), descriptor: row[1],
        used: row[2], available: row[3], log: row[4])
    }
    base = state.base
    agreedBase = state.agreedBase
    if let descriptor = try descriptors.at(state.kick) {
      kick = .eventFD(descriptor)
    } else if state.isPolled {
      kick = .polling
    }
    call = try descriptors.at(state.call)
    error = try descriptors.at(state.error)
    enabled = state.enabled
  }
}
