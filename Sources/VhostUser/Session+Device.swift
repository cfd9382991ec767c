internal import Linux

/// The requests that concern the device as a whole: negotiation, status, reset, MTU, announcements.
extension Session {
  /// Bits that were not offered are refused (E09). While a ring is live only LOG_ALL may change (E93):
  /// QEMU toggles it for a migration, and repeats the same features for each queue pair.
  func setFeatures(_ new: Features) throws(ProtocolError) -> Outcome {
    let stray = new.subtracting(backend.features)
    guard stray.isEmpty else {
      throw .refused(.setFeatures, "\(stray.names.joined(separator: ", ")) not offered")
    }
    if new == features { return .done }
    let changed = new.symmetricDifference(features ?? [])
    if !changed.subtracting(.logAll).isEmpty {
      // Whether a ring that is due will run is known only once it was tried.
      startDue()
      guard !rings.contains(where: { $0.state == .running }) else {
        throw .refused(
          .setFeatures,
          "\(changed.names.joined(separator: ", ")) can't change while a ring is running")
      }
    }
    return try reconfigure(rings.indices) { accept(new) }
  }

  /// No ring is running.
  private func accept(_ new: Features?) {
    features = new
    if !(new ?? []).contains(.logAll), log != nil {
      // The log's file is the front-end's again.
      try? backend.setLog(nil)
      log = nil
    }
    announceNegotiation()
  }

  private func announceNegotiation() {
    backend.negotiated(features ?? [], protocolFeatures)
    onEvent(.negotiated(features ?? [], protocolFeatures))
  }

  /// Legal before SET_FEATURES, and without the bit being accepted (E70).
  func getProtocolFeatures() throws(ProtocolError) -> Outcome {
    try requireProtocolFeatures(for: .getProtocolFeatures)
    return .reply(offered.rawValue.bytes)
  }

  func setProtocolFeatures(_ new: ProtocolFeatures) throws(ProtocolError) -> Outcome {
    try requireProtocolFeatures(for: .setProtocolFeatures)
    let stray = new.subtracting(offered)
    guard stray.isEmpty else {
      throw .refused(.setProtocolFeatures, "\(stray.names.joined(separator: ", ")) not offered")
    }
    if new == protocolFeatures { return .done }
    return try reconfigure(rings.indices) {
      let (tells, told) = (new.contains(.status), protocolFeatures.contains(.status))
      protocolFeatures = new
      // Without STATUS nobody tells how it changes, and what it was is nothing to go by.
      if tells != told, !status.isEmpty { backend.statusChanged(tells ? status : []) }
      announceNegotiation()
    }
  }

  private func requireProtocolFeatures(for request: Request) throws(ProtocolError) {
    guard backend.features.contains(.vhostUserProtocol) else {
      throw .refused(request, "VHOST_USER_F_PROTOCOL_FEATURES is not offered")
    }
  }

  /// For a network device the number of queue pairs, as QEMU and DPDK read it (E96). Others (Cloud Hypervisor, crosvm) take it
  /// for virtqueues; a back-end of one pair has best not offer MQ, which all understand.
  func getQueueNum() throws(ProtocolError) -> Outcome {
    try require(.mq, for: .getQueueNum)
    return .reply(UInt64(backend.queuePairs).bytes)
  }

  /// Stops every ring and disables it again (E84). The specification warns against discarding more.
  func resetOwner() -> Outcome {
    stopAll()
    return .done
  }

  /// Back to the state after connecting, but for the protocol features and the memory: QEMU sends neither
  /// again, and with ADD_MEM_REG only what differs from what it sent before.
  func resetDevice() throws(ProtocolError) -> Outcome {
    try require(.resetDevice, for: .resetDevice)
    stopAll()
    for index in rings.indices {
      rings[index].size = nil
      rings[index].address = nil
      rings[index].base = 0
      rings[index].agreedBase = 0
    }
    backend.forgetPositions(Array(rings.indices))
    if features != nil { accept(nil) }
    if !status.isEmpty {
      status = []
      backend.statusChanged([])
    }
    return .done
  }

  private func stopAll() {
    stop(rings.indices)
    for index in rings.indices {
      rings[index].kick = .none
      rings[index].enabled = nil
    }
    forgetTranslations()
  }

  /// With STATUS negotiated, rings run from DRIVER_OK on (E01). 0 resets the device: its rings wait for
  /// their next kick, but keep the base that GET_VRING_BASE may still ask for.
  func setStatus(_ value: UInt64) throws(ProtocolError) -> Outcome {
    try require(.status, for: .setStatus)
    guard value <= UInt8.max else { throw .refused(.setStatus, "\(value) is no device status") }
    var new = DeviceStatus(rawValue: UInt8(value))
    // virtio v1.4, 3.1.1: the device confirms features by leaving the bit set.
    if features == nil { new.remove(.featuresOK) }
    let old = status
    guard new != old else { return .done }
    let runs = new.contains(.driverOK) != old.contains(.driverOK) || new.isEmpty
    let concerned = runs && protocolFeatures.contains(.status) ? rings.indices : 0..<0
    return try reconfigure(concerned) {
      status = new
      if new.isEmpty {
        for index in concerned { rings[index].kick = .none }
        forgetTranslations()
      }
      backend.statusChanged(new)
    }
  }

  func getStatus() throws(ProtocolError) -> Outcome {
    try require(.status, for: .getStatus)
    return .reply(UInt64(status.rawValue).bytes)
  }

  func setMTU(_ value: UInt64) throws(ProtocolError) -> Outcome {
    try require(.netMTU, for: .netSetMTU)
    guard (68...65_535).contains(value) else {
      throw .refused(.netSetMTU, "\(value) is not within 68…65535")
    }
    do throws(BackendError) {
      try backend.setMTU(Int(value))
    } catch {
      throw .refused(.netSetMTU, error.message)
    }
    return .done
  }

  /// The first six bytes of the payload are the MAC address (E92).
  func sendRARP(_ payload: [UInt8]) throws(ProtocolError) -> Outcome {
    try require(.rarp, for: .sendRARP)
    do throws(BackendError) {
      try backend.sendRARP(mac: Array(payload.prefix(6)))
    } catch {
      throw .refused(.sendRARP, error.message)
    }
    return .done
  }
}
