public import Linux

/// The requests of a network device, in the order QEMU sends them.
extension FrontEnd {
  /// Agrees on features: GET_FEATURES, GET/SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_OWNER, and, as QEMU
  /// does, GET_FEATURES once more. Both masks are cut down to what is offered. `setFeatures` follows.
  public func negotiate(
    _ wanted: VirtioFeatures = .usual, _ wantedProtocol: VhostUserFeatures = .usual
  ) throws(FrontEndError) {
    offered = VirtioFeatures(rawValue: try get(.getFeatures))
    features = offered.intersection(wanted)
    if features.contains(.protocolFeatures) {
      offeredProtocol = VhostUserFeatures(rawValue: try get(.getProtocolFeatures))
      let agreed = offeredProtocol.intersection(wantedProtocol)
      // Not acknowledged: REPLY_ACK is in force only afterwards.
      try send(
        FrontEndMessage(
          .setProtocolFeatures, payload: FrontEndMessage.words(agreed.rawValue)))
      protocolFeatures = agreed
      if agreed.contains(.mq) { maxQueuePairs = Int(clamping: try get(.getQueueNum)) }
    }
    try set(.setOwner)
    offered = VirtioFeatures(rawValue: try get(.getFeatures))
    features = offered.intersection(wanted)
  }

  /// SET_FEATURES, with what `negotiate` found or with anything else.
  public func setFeatures(_ bits: VirtioFeatures? = nil) throws(FrontEndError) {
    try set(.setFeatures, FrontEndMessage.words((bits ?? features).rawValue))
  }

  /// SET_MEM_TABLE: one table with every region of `memory`, at most eight.
  public func shareMemory(_ memory: GuestMemory) throws(FrontEndError) {
    var payload = FrontEndMessage.words(UInt32(memory.regions.count), 0)
    // Behind an IOMMU what the driver takes for guest physical addresses are the device's, and are not these.
    let shift = isTranslated ? IOMMU.distance : 0
    for region in memory.regions { payload += FrontEndMessage.region(region, shift: shift) }
    try set(.setMemTable, payload, descriptors: memory.regions.map(\.file))
  }

  /// ADD_MEM_REG; needs CONFIGURE_MEM_SLOTS.
  public func addRegion(_ region: GuestMemory.Region) throws(FrontEndError) {
    try set(
      .addMemReg, FrontEndMessage.words(0 as UInt64) + FrontEndMessage.region(region),
      descriptors: [region.file])
  }

  /// REM_MEM_REG; needs CONFIGURE_MEM_SLOTS.
  public func removeRegion(_ region: GuestMemory.Region) throws(FrontEndError) {
    try set(.remMemReg, FrontEndMessage.words(0 as UInt64) + FrontEndMessage.region(region))
  }

  /// GET_MAX_MEM_SLOTS; needs CONFIGURE_MEM_SLOTS.
  public func maxMemorySlots() throws(FrontEndError) -> UInt64 { try get(.getMaxMemSlots) }

  /// SET_LOG_BASE: bytes `offset ..< offset + size` of `file` are the log of dirty pages. Needs LOG_SHMFD, with which it has a
  /// reply of its own.
  public func setLogBase(
    _ file: OwnedFD, size: UInt64, offset: UInt64 = 0
  ) throws(FrontEndError) {
    let reply = try call(
      FrontEndMessage(
        .setLogBase, payload: FrontEndMessage.words(size, offset), descriptors: [file]))
    guard let code = reply.word64 else { throw .badReply(.setLogBase) }
    if code != 0 { throw .refused(.setLogBase, code: code) }
  }

  /// SET_VRING_NUM, _BASE, _ADDR, _KICK, _CALL, and _ENABLE when asked.
  ///
  /// - Parameters:
  ///   - index: of the vring: receiveq of pair n is 2n, its transmitq 2n + 1.
  ///   - base: where to begin: what `stopRing` returned, or `nil` for the oldest buffer that the device has
  ///     not returned, which is what there is when a back-end went away without a word.
  public func setUpRing(
    _ index: Int, _ ring: borrowing DriverRing, base: UInt32? = nil, enable: Bool = true
  ) throws(FrontEndError) {
    try setRingSize(index, UInt32(ring.size))
    try setRingBase(index, base ?? ring.resumeBase)
    try setRingAddresses(index, ring)
    try setRingKick(index, ring.kickEvent.descriptor)
    try setRingCall(index, ring.callEvent.descriptor)
    if enable, features.contains(.protocolFeatures) { try enableRing(index, true) }
  }

  public func setRingSize(_ index: Int, _ size: UInt32) throws(FrontEndError) {
    try set(.setVringNum, FrontEndMessage.words(UInt32(index), size))
  }

  public func setRingBase(_ index: Int, _ base: UInt32) throws(FrontEndError) {
    try set(.setVringBase, FrontEndMessage.words(UInt32(index), base))
  }

  /// Whether every address is one that an IOMMU translates (vhost-user.rst, "IOMMU support").
  public var isTranslated: Bool {
    features.contains(.accessPlatform) && protocolFeatures.contains(.backendReq)
  }

  /// SET_VRING_ADDR: user addresses of the ring's parts, or, behind an IOMMU, the device's. Throws `.memory` when
  /// they are in no region.
  ///
  /// - Parameter log: where writes to the device area are to be marked in the log (VHOST_VRING_F_LOG); `nil`: nowhere.
  public func setRingAddresses(
    _ index: Int, _ ring: borrowing DriverRing, log: UInt64? = nil
  ) throws(FrontEndError) {
    let flags: UInt32 = log == nil ? 0 : 1
    if isTranslated {
      return try setRingAddresses(
        index, descriptors: ring.parts.descriptors.address, used: ring.parts.used.address,
        avail: ring.parts.avail.address, log: log ?? 0, flags: flags)
    }
    guard let descriptors = ring.memory.userAddress(of: ring.parts.descriptors.address),
      let used = ring.memory.userAddress(of: ring.parts.used.address),
      let avail = ring.memory.userAddress(of: ring.parts.avail.address)
    else { throw .memory }
    try setRingAddresses(
      index, descriptors: descriptors, used: used, avail: avail, log: log ?? 0, flags: flags)
  }

  /// SET_VRING_ADDR with any addresses at all.
  public func setRingAddresses(
    _ index: Int, descriptors: UInt64, used: UInt64, avail: UInt64, log: UInt64 = 0,
    flags: UInt32 = 0
  ) throws(FrontEndError) {
    try set(
      .setVringAddr,
      FrontEndMessage.words(UInt32(index), flags)
        + FrontEndMessage.words(descriptors, used, avail, log))
  }

  /// SET_VRING_KICK; `nil` sets bit 8: no descriptor, the back-end polls.
  public func setRingKick(_ index: Int, _ event: OwnedFD?) throws(FrontEndError) {
    try setRingDescriptor(.setVringKick, index, event)
  }

  /// SET_VRING_CALL; `nil` sets bit 8: the driver polls.
  public func setRingCall(_ index: Int, _ event: OwnedFD?) throws(FrontEndError) {
    try setRingDescriptor(.setVringCall, index, event)
  }

  /// SET_VRING_ERR; `nil` sets bit 8.
  public func setRingError(_ index: Int, _ event: OwnedFD?) throws(FrontEndError) {
    try setRingDescriptor(.setVringErr, index, event)
  }

  private func setRingDescriptor(
    _ request: FrontEndRequest, _ index: Int, _ event: OwnedFD?
  ) throws(FrontEndError) {
    let word = UInt64(index) | (event == nil ? 1 << 8 : 0)
    try set(request, FrontEndMessage.words(word), descriptors: event.map { [$0] } ?? [])
  }

  /// SET_VRING_ENABLE; valid only with VHOST_USER_F_PROTOCOL_FEATURES.
  public func enableRing(_ index: Int, _ enabled: Bool) throws(FrontEndError) {
    try set(.setVringEnable, FrontEndMessage.words(UInt32(index), enabled ? 1 : 0))
  }

  /// GET_VRING_BASE: stops the ring. Returns where the back-end would have gone on: a split ring's next avail
  /// index; of a packed ring the next available position in bits 0–15 and the next used one in 16–31.
  public func stopRing(_ index: Int) throws(FrontEndError) -> UInt32 {
    let reply = try call(
      FrontEndMessage(.getVringBase, payload: FrontEndMessage.words(UInt32(index), 0)))
    guard let state = reply.state, state.index == UInt32(index),
      features.contains(.ringPacked) || state.number <= 0xffff
    else {
      throw .badReply(.getVringBase)
    }
    return state.number
  }

  /// NET_SET_MTU; needs NET_MTU.
  public func setMTU(_ mtu: Int) throws(FrontEndError) {
    try set(.netSetMTU, FrontEndMessage.words(UInt64(mtu)))
  }

  /// SET_STATUS; needs STATUS.
  public func setStatus(_ status: UInt8) throws(FrontEndError) {
    try set(.setStatus, FrontEndMessage.words(UInt64(status)))
  }

  /// GET_STATUS; needs STATUS.
  public func status() throws(FrontEndError) -> UInt8 {
    UInt8(truncatingIfNeeded: try get(.getStatus))
  }

  /// SEND_RARP: asks the back-end to announce `address`; needs RARP.
  public func sendRARP(_ address: EthernetAddress) throws(FrontEndError) {
    try set(.sendRARP, address.bytes + [0, 0])
  }

  /// Waits until the back-end has dealt with everything sent so far, by a request that has a reply.
  public func synchronize() throws(FrontEndError) {
    _ = try get(.getFeatures)
  }
}
