internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Synchronization
internal import VhostUser

/// What a session asks of the switch, for one front-end: memory is mapped, rings are placed and started.
/// Used by the port's thread only.
final class VhostBackend: Backend {
  let port: VhostPort
  unowned let parent: Switch
  private(set) var memory: GuestMemory?
  /// What the guest's IOMMU lets us reach, when it has one.
  var iotlb: IOTLB?
  private var isTranslated = false
  /// Mappings of the present table by the file and range they came from, to be kept when a new table names
  /// them again.
  private var mappings: [(region: GuestRegion, mapping: Mapping)] = []
  /// Rings that wait for translations of their own parts, and what they lack.
  var untranslated: [Int: [TranslationMiss]] = [:]
  /// What workers have missed and the front-end was not asked for yet.
  var pendingMisses: [TranslationMiss] = []
  /// Each running ring as it was asked for, where it was placed, and what the data plane was given.
  private(set) var running: [Int: (ring: RingConfiguration, worker: Int, setup: RingSetup)] = [:]

  /// Where rings ended that could not go on with a change.
  private var lost: [Int: UInt32] = [:]

  init(_ port: VhostPort, in parent: Switch) {
    self.port = port
    self.parent = parent
  }

  // ---- What is offered ----

  var features: Features {
    var offered: Features = [
      .version1, .netMrgRxbuf, .anyLayout, .ringIndirectDesc, .ringEventIdx,
      .ringPacked, .inOrder, .netMTU, .accessPlatform, .vhostUserProtocol,
      // Whatever a guest asks for, its peer may lack: then the switch does it (decision 11, also why not UFO).
      .netCsum, .netHostTSO4, .netHostTSO6, .netHostECN, .netHostUSO,
      .netGuestCsum, .netGuestTSO4, .netGuestTSO6, .netGuestECN, .netGuestUSO4, .netGuestUSO6,
    ]
    // The control queue is the front-end's own, but several queue pairs depend on it (virtio v1.4, 5.1.3.1).
    if port.pairs > 1 { offered.formUnion([.netMQ, .netCtrlVQ]) }
    return offered
  }

  var protocolFeatures: ProtocolFeatures {
    [.mq, .rarp, .replyAck, .netMTU, .backendReq, .resetDevice, .configureMemSlots, .status]
  }

  var queuePairs: Int { port.pairs }
  /// Enough for memory hotplug; each costs a mapping and a line of the table that is searched.
  var memorySlots: Int { 64 }

  func negotiated(_ features: Features, _ protocolFeatures: ProtocolFeatures) {
    isTranslated = features.contains(.accessPlatform) && protocolFeatures.contains(.backendReq)
    makeIOTLB()
    port.status.update { status in
      status.features = features
      status.protocolFeatures = protocolFeatures
    }
  }

  // ---- Memory ----

  func setMemory(_ regions: [GuestRegion]) throws(BackendError) {
    var fresh: [(region: GuestRegion, mapping: Mapping)] = []
    for region in regions {
      fresh.append((region, try mapping(for: region)))
    }
    mappings = fresh
    memory =
      fresh.isEmpty
      ? nil
      : GuestMemory(
        fresh.map { region, mapping in
          MappedRegion(
            guestAddress: region.guestAddress, userAddress: region.userAddress, mapping: mapping)
        })
    makeIOTLB()
    port.status.update { status in
      status.regions = fresh.map { region, mapping in
        .init(
          guestAddress: region.guestAddress, size: region.size,
          pageSize: UInt64(mapping.pageSize))
      }
    }
  }

  /// Makes an IOTLB, or leaves it, as memory and features ask for. No ring is running.
  private func makeIOTLB() {
    guard isTranslated, let memory else {
      iotlb = nil
      port.status.update { $0.iotlb = nil }
      return
    }
    if let iotlb {
      iotlb.replaceMemory(by: memory)
    } else {
      // Only an eventfd can be lacking: then no ring starts, and `startRings` says so.
      iotlb = try? IOTLB(memory)
    }
    noteIOTLB()
  }

  private func mapping(for region: GuestRegion) throws(BackendError) -> Mapping {
    let kept = mappings.first { old in
      old.region.file === region.file && old.region.mmapOffset == region.mmapOffset
        && old.region.size == region.size && !old.mapping.hasVanished
    }
    if let kept { return kept.mapping }
    do {
      return try Mapping(sharing: region.file, offset: region.mmapOffset, length: region.size)
    } catch {
      throw BackendError("\(error)")
    }
  }

  // ---- Rings ----

  func startRings(_ rings: [RingConfiguration]) -> [BackendError?] {
    rings.map { ring in
      do throws(BackendError) {
        try startRing(ring)
        return nil
      } catch {
        return error
      }
    }
  }

  func stopRings(_ indices: [Int]) -> [UInt32] { indices.map { stopRing($0) } }

  private func startRing(_ ring: RingConfiguration) throws(BackendError) {
    guard let memory else { throw BackendError("there is no memory table yet") }
    if memory.hasVanished { throw BackendError(QueueFault.memoryVanished.explanation) }
    if isTranslated, iotlb == nil { throw BackendError("there is no descriptor for an IOTLB") }
    let setup = RingSetup(ring)
    if let iotlb { try requireTranslations(setup, of: ring.index, iotlb) }
    let node =
      iotlb.map { $0.node(device: ring.descriptors) } ?? memory.node(user: ring.descriptors)
    let worker = parent.placement.withLock { placement in
      // A receiveq is filled by whoever has a frame for it.
      ring.index % 2 == 1 ? placement.place(node: node) : 0
    }
    do {
      try parent.dataplane.startRing(
        ring.index, of: port.number, setup, memory: memory, iotlb: iotlb, worker: worker)
    } catch {
      if ring.index % 2 == 1 { parent.release([worker]) }
      throw BackendError("\(error)")
    }
    running[ring.index] = (ring, worker, setup)
    port.status.update { status in
      status.guestNode = node ?? status.guestNode
      status.runs += 1
      status.rings[ring.index] = .init(
        size: ring.size, enabled: ring.enabled, worker: worker, run: status.runs, error: ring.error)
    }
  }

  /// What the driver may ask for of a transmitq's frames, or takes over of a receiveq's. Nothing goes without the
  /// checksum (virtio v1.4, 5.1.3.1), whatever else was accepted.
  fileprivate static func offloads(_ features: Features, isTransmitq: Bool) -> Offloads {
    guard features.contains(isTransmitq ? .netCsum : .netGuestCsum) else { return .none }
    let table: [(Features, Offloads)] =
      isTransmitq
      ? [
        (.netHostTSO4, .tcp4), (.netHostTSO6, .tcp6), (.netHostECN, .ecn),
        (.netHostUSO, .udp4.union(.udp6)),
      ]
      : [
        (.netGuestTSO4, .tcp4), (.netGuestTSO6, .tcp6), (.netGuestECN, .ecn),
        (.netGuestUSO4, .udp4), (.netGuestUSO6, .udp6),
      ]
    return table.reduce(.checksum) { offloads, row in
      features.contains(row.0) ? offloads.union(row.1) : offloads
    }
  }

  private func stopRing(_ index: Int) -> UInt32 {
    guard let (ring, worker, _) = running.removeValue(forKey: index) else {
      return lost.removeValue(forKey: index) ?? 0
    }
    let next = parent.dataplane.stopRing(index, of: port.number) ?? ring.base
    if index % 2 == 1 { parent.release([worker]) }
    // Whoever breaks a ring and starts it anew at once is counted too.
    if let run = port.status.read({ $0.rings[index]?.run }) { port.inspect(index, run: run) }
    port.status.update { $0.rings[index] = nil }
    return next
  }

  func setCall(_ descriptor: OwnedFD?, of index: Int) {
    try? restart(index) { $0.call = descriptor }
  }

  func setError(_ descriptor: OwnedFD?, of index: Int) {
    running[index]?.ring.error = descriptor
    port.status.update { $0.rings[index]?.error = descriptor }
  }

  func setKick(_ descriptor: OwnedFD?, of index: Int) throws(BackendError) {
    try restart(index) { $0.kick = descriptor }
  }

  func setEnabled(_ enabled: Bool, of index: Int) {
    try? restart(index) { $0.enabled = enabled }
  }

  /// Changes a running ring by stopping it and starting it anew where it was.
  private func restart(
    _ index: Int, _ change: (inout RingConfiguration) -> Void
  ) throws(BackendError) {
    guard var ring = running[index]?.ring else { return }
    ring.base = stopRing(index)
    change(&ring)
    do throws(BackendError) {
      try startRing(ring)
    } catch {
      lost[index] = ring.base
      throw error
    }
  }

  // ---- The rest ----

  func setMTU(_ mtu: Int) throws(BackendError) {
    // The smaller of what the operator allows and what the front-end asks for.
    let effective = min(mtu, port.request.mtu ?? mtu)
    port.status.update { $0.mtu = effective }
    parent.dataplane.setMTU(effective, port: port.number)
  }

  func sendRARP(mac: [UInt8]) {
    parent.announce(mac, from: port.number)
  }

  func statusChanged(_ status: DeviceStatus) {
    port.status.update { $0.deviceStatus = status }
  }

  func reset() {
    memory = nil
    mappings = []
    iotlb = nil
    isTranslated = false
    untranslated = [:]
    pendingMisses = []
    // With its guest gone nothing behind the port is known any more: better a flood than a black hole.
    parent.dataplane.flush(port: port.number)
    parent.dataplane.setMTU(port.request.mtu, port: port.number)
    port.status.update { status in
      status.features = []
      status.protocolFeatures = []
      status.deviceStatus = []
      status.regions = []
      status.guestNode = nil
      status.mtu = nil
      status.iotlb = nil
    }
  }
}

extension RingSetup {
  fileprivate init(_ ring: RingConfiguration) {
    let features = ring.features
    self.init(
      size: ring.size, descriptors: ring.descriptors, avail: ring.driver, used: ring.device,
      base: ring.base, packed: features.contains(.ringPacked),
      inOrder: features.contains(.inOrder), eventIndex: features.contains(.ringEventIdx),
      indirect: features.contains(.ringIndirectDesc),
      mergeable: features.contains(.netMrgRxbuf), version1: features.contains(.version1),
      offloads: VhostBackend.offloads(features, isTransmitq: ring.index % 2 == 1),
      enabled: ring.enabled, kick: ring.kick, call: ring.call)
  }
}
