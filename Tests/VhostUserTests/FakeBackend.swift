import Linux
import VhostUser

/// A back-end that records what it is asked, and holds the session to what it promises.
final class FakeBackend: Backend, Sendable {
  enum Call: Equatable {
    case negotiated(Features, ProtocolFeatures)
    case setMemory([UInt64])
    case setLog(size: UInt64, offset: UInt64, notifies: Bool)
    case endLog
    case start(Int, base: UInt32, enabled: Bool)
    case stop(Int)
    case setMTU(Int)
    case sendRARP([UInt8])
    case status(DeviceStatus)
    case insert(IOTLBEntry)
    case removeTranslations(UInt64, UInt64)
    case renewMisses
    case reset
  }

  struct State {
    var calls: [Call] = []
    var running: [Int: RingConfiguration] = [:]
    /// Promises the session broke.
    var violations: [String] = []
    /// What each ring's worker consumes between start and stop.
    var progress: UInt32 = 0
    var refusedRings: Set<Int> = []
    var refusesMemory = false
    var refusesMTU = false
    var misses: [IOTLBMiss] = []
    /// Rings whose addresses the IOTLB does not know, and those which its next change stops.
    var untranslatedRings: Set<Int> = []
    var staleRings: [Int] = []
  }

  let state = Lock(State())
  let features: Features
  let protocolFeatures: ProtocolFeatures
  let queuePairs: Int
  let memorySlots: Int
  /// There when the guest has an IOMMU.
  let missed: EventFD?

  static let offered: Features = [
    .netMrgRxbuf, .netMQ, .netMTU, .logAll, .ringIndirectDesc, .ringEventIdx, .vhostUserProtocol,
    .version1, .ringPacked,
  ]

  init(
    features: Features = FakeBackend.offered, protocolFeatures: ProtocolFeatures = .supported,
    queuePairs: Int = 2, memorySlots: Int = 8, translates: Bool = false
  ) {
    missed = translates ? try? EventFD() : nil
    self.features = features
    self.protocolFeatures = protocolFeatures
    self.queuePairs = queuePairs
    self.memorySlots = memorySlots
  }

  var calls: [Call] { state.withLock { $0.calls } }
  var running: [Int: RingConfiguration] { state.withLock { $0.running } }

  /// The calls since the last time this was asked.
  func takeCalls() -> [Call] {
    state.withLock {
      let calls = $0.calls
      $0.calls = []
      return calls
    }
  }

  private func record(_ call: Call, mustBeStill: Bool = false) {
    state.withLock {
      $0.calls.append(call)
      if mustBeStill, !$0.running.isEmpty { $0.violations.append("\(call) while rings run") }
    }
  }

  func negotiated(_ features: Features, _ protocolFeatures: ProtocolFeatures) {
    record(.negotiated(features, protocolFeatures))
  }

  func setMemory(_ regions: [GuestRegion]) throws(BackendError) {
    record(.setMemory(regions.map(\.guestAddress)), mustBeStill: true)
    if state.withLock({ $0.refusesMemory }) { throw BackendError("memory does not fit its file") }
  }

  func setLog(_ log: LogRegion?) throws(BackendError) {
    guard let log else { return record(.endLog, mustBeStill: true) }
    record(
      .setLog(size: log.size, offset: log.offset, notifies: log.notify != nil), mustBeStill: true)
  }

  func startRing(_ ring: RingConfiguration) throws(BackendError) {
    record(.start(ring.index, base: ring.base, enabled: ring.enabled))
    if state.withLock({ $0.untranslatedRings.contains(ring.index) }) { throw .notTranslated }
    let refused = state.withLock { state in
      if state.refusedRings.contains(ring.index) { return true }
      if state.running[ring.index] != nil { state.violations.append("started twice") }
      state.running[ring.index] = ring
      return false
    }
    if refused { throw BackendError("the avail ring is in no region") }
  }

  func stopRing(_ index: Int) -> UInt32 {
    record(.stop(index))
    return state.withLock {
      guard let ring = $0.running.removeValue(forKey: index) else {
        $0.violations.append("stopped ring \(index), which did not run")
        return 0
      }
      return ring.base + $0.progress
    }
  }

  func setMTU(_ mtu: Int) throws(BackendError) {
    record(.setMTU(mtu))
    if state.withLock({ $0.refusesMTU }) { throw BackendError("the uplink's MTU is smaller") }
  }

  func sendRARP(mac: [UInt8]) { record(.sendRARP(mac)) }
  func statusChanged(_ status: DeviceStatus) { record(.status(status)) }
  func reset() { record(.reset, mustBeStill: true) }

  // ---- IOMMU ----

  /// As a worker that misses something.
  func miss(_ misses: IOTLBMiss...) { miss(misses) }

  func miss(_ misses: [IOTLBMiss]) {
    state.withLock { $0.misses += misses }
    missed?.signal()
  }

  func takeMisses() -> [IOTLBMiss] {
    state.withLock { state in
      defer { state.misses = [] }
      return state.misses
    }
  }

  func insert(_ entry: IOTLBEntry) -> [Int] {
    record(.insert(entry))
    return state.withLock { $0.staleRings }
  }

  func removeTranslations(from first: UInt64, through last: UInt64) -> [Int] {
    record(.removeTranslations(first, last))
    return state.withLock { $0.staleRings }
  }

  func renewMisses() { record(.renewMisses) }
}
