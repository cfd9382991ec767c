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
  /// Where written pages are marked, from SET_LOG_BASE on.
  var log: DirtyLog?
  /// What the guest's IOMMU lets us reach, when it has one.
  var iotlb: IOTLB?
  private(set) var isTranslated = false
  private var negotiatedFeatures: Features = []
  /// Mappings of the present table by the file and range they came from, to be kept when a new table names
  /// them again.
  private var mappings: [(region: GuestRegion, mapping: Mapping)] = []
  /// Rings that wait for translations of their own parts, and what they lack.
  var untranslated: [Int: [TranslationMiss]] = [:]
  /// Rings that were suspended and are neither started nor abandoned yet.
  var suspended: Set<Int> = []
  /// The front-end was seen not to tell what is taken back.
  var isDistrusted = false
  /// What workers have missed and the front-end was not asked for yet.
  var pendingMisses: [TranslationMiss] = []
  /// What each running ring was started with, and the worker that polls it if it is a transmitq.
  var running: [Int: (worker: Int, setup: RingSetup)] = [:]

  init(_ port: VhostPort, in parent: Switch) {
    self.port = port
    self.parent = parent
  }

  // ---- What is offered ----

  var features: Features { VhostBackend.features(of: port) }

  /// What a port offers to the front-end that it has.
  static func features(of port: VhostPort) -> Features {
    offered(by: port).union(port.keptFeatures.withLock { $0 })
  }

  /// Every offload that can be offered.
  static var offloads: Features {
    OffloadName.allCases.reduce(into: Features()) { $0.insert($1.feature) }
  }

  /// What a port offers to everyone.
  static func offered(by port: VhostPort) -> Features {
    var offered: Features = [
      .version1, .netMrgRxbuf, .anyLayout, .ringIndirectDesc, .ringEventIdx,
      .ringPacked, .inOrder, .netMTU, .accessPlatform, .vhostUserProtocol, .logAll,
      // The driver announces itself where it has come to. It is asked by the front-end, on the control queue, which is the
      // front-end's own.
      .netGuestAnnounce, .netCtrlVQ,
    ]
    // Whatever a guest asks for, its peer may lack: then the switch does it (decision 11, also why not UFO).
    for offload in port.offloads { offered.insert(offload.feature) }
    // Several queue pairs depend on the control queue, too (virtio v1.4, 5.1.3.1).
    if port.pairs > 1 { offered.insert(.netMQ) }
    return offered
  }

  var protocolFeatures: ProtocolFeatures {
    var offered: ProtocolFeatures = [
      .rarp, .replyAck, .netMTU, .backendReq, .resetDevice, .configureMemSlots, .status,
      .logShmfd,
    ]
    // Without it every front-end knows that there is one pair. What GET_QUEUE_NUM answers some take for pairs (QEMU, DPDK) and
    // some for virtqueues (Cloud Hypervisor, crosvm), for which 1 is too few to start with.
    if port.pairs > 1 { offered.insert(.mq) }
    return offered
  }

  var queuePairs: Int { port.pairs }
  var memorySlots: Int { port.regionLimit }
  var memoryLimit: UInt64 { port.memoryLimit }

  func negotiated(_ features: Features, _ protocolFeatures: ProtocolFeatures) {
    isTranslated = features.contains(.accessPlatform) && protocolFeatures.contains(.backendReq)
    makeIOTLB()
    // The device was reset: whatever drives it next is another station.
    if features.isEmpty, !negotiatedFeatures.isEmpty {
      parent.dataplane.flush(port: port.number)
    }
    negotiatedFeatures = features
    port.status.update { status in
      status.features = features
      status.protocolFeatures = protocolFeatures
    }
    port.applyMTU()
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
      status.memory.replace(by: fresh.map(\.region.file))
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
      iotlb = try? IOTLB(
        memory, pairs: port.pairs, patience: parent.configuration.translationPatience)
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
      return try Mapping(
        sharing: region.file, offset: region.mmapOffset, length: region.size,
        allowsDisks: parent.configuration.memoryOnDisks)
    } catch {
      throw BackendError("\(error)")
    }
  }

  /// No ring that is logged is running. A log that is too small for the memory that there is now is refused; one that is
  /// for the memory that comes later keeps its rings from starting.
  func setLog(_ region: LogRegion?) throws(BackendError) {
    guard let region else {
      log = nil
      return
    }
    do {
      let new = DirtyLog(
        try Mapping(
          sharing: region.file, offset: region.offset, length: region.size,
          allowsDisks: parent.configuration.memoryOnDisks))
      if let memory, !new.covers(memory) {
        throw BackendError("a log of \(region.size) bytes is too small for the memory table")
      }
      log = new
    } catch let error as BackendError {
      throw error
    } catch {
      throw BackendError("\(error)")
    }
  }

  // ---- The rest ----

  func setMTU(_ mtu: Int) throws(BackendError) {
    port.status.update { $0.askedMTU = mtu }
    port.applyMTU()
  }

  func sendRARP(mac: [UInt8]) throws(BackendError) {
    do {
      try parent.announce(mac, from: port.number)
    } catch {
      throw BackendError("\(error)")
    }
  }

  func statusChanged(_ status: DeviceStatus) {
    port.status.update { $0.deviceStatus = status }
  }

  func reset() {
    memory = nil
    log = nil
    mappings = []
    iotlb = nil
    isTranslated = false
    untranslated = [:]
    suspended = []
    isDistrusted = false
    pendingMisses = []
    // With its guest gone nothing behind the port is known any more: better a flood than a black hole.
    parent.dataplane.flush(port: port.number)
    negotiatedFeatures = []
    port.status.update { status in
      status.suspended = [:]
      status.askedMTU = nil
      status.features = []
      status.protocolFeatures = []
      status.deviceStatus = []
      status.regions = []
      status.memory.replace(by: [])
      status.guestNode = nil
      status.iotlb = nil
    }
    port.applyMTU()
  }
}

extension OffloadName {
  /// The feature bit.
  fileprivate var feature: Features {
    switch self {
    case .csum: .netCsum
    case .hostTSO4: .netHostTSO4
    case .hostTSO6: .netHostTSO6
    case .hostECN: .netHostECN
    case .hostUSO: .netHostUSO
    case .guestCsum: .netGuestCsum
    case .guestTSO4: .netGuestTSO4
    case .guestTSO6: .netGuestTSO6
    case .guestECN: .netGuestECN
    case .guestUSO4: .netGuestUSO4
    case .guestUSO6: .netGuestUSO6
    }
  }
}
