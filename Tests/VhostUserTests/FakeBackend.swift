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
    case setCall(Int)
    case setError(Int)
    case setKick(Int)
    case setEnabled(Int, Bool)
    case setMTU(Int)
    case sendRARP([UInt8])
    case status(DeviceStatus)
    case insert(IOTLBEntry)
    case check(IOTLBEntry)
    case removeTranslations(UInt64, UInt64)
    case renewMisses
    case reset
  }

  /// What one call of `startRings` or `stopRings` named.
  enum Batch: Equatable {
    case start([Int])
    case stop([Int])
  }

  struct State {
    var calls: [Call] = []
    var batches: [Batch] = []
    var running: [Int: RingConfiguration] = [:]
    /// Promises the session broke.
    var violations: [String] = []
    /// What each ring's worker consumes between start and stop.
    var progress: UInt32 = 0
    var refusedRings: Set<Int> = []
    var refusedKicks: Set<Int> = []
    var refusesMemory = false
    var refusesMTU = false
    var misses: [IOTLBMiss] = []
    /// What it offers to be checked.
    var known: [IOTLBMiss] = []
    /// Rings whose addresses the IOTLB does not know, and those which its next change stops.
    var untranslatedRings: Set<Int> = []
    var staleRings: [Int] = []
  }

  let state = Lock(State())
  let features: Features
  let protocolFeatures: ProtocolFeatures
  let queuePairs: Int
  let memorySlots: Int
  let memoryLimit: UInt64 = 8 << 40
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

  /// The calls that start or stop rings since the last time this was asked.
  func takeBatches() -> [Batch] {
    state.withLock {
      let batches = $0.batches
      $0.batches = []
      return batches
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
    // Only rings that are logged stand on it.
    let isInUse = running.values.contains { $0.features.contains(.logAll) }
    guard let log else { return record(.endLog, mustBeStill: isInUse) }
    record(
      .setLog(size: log.size, offset: log.offset, notifies: log.notify != nil),
      mustBeStill: isInUse)
  }

  func startRings(_ rings: [RingConfiguration]) -> [BackendError?] {
    recordBatch(.start(rings.map(\.index)), of: rings.count)
    return rings.map { ring in
      do throws(BackendError) {
        try startRing(ring)
        return nil
      } catch {
        return error
      }
    }
  }

  func stopRings(_ indices: [Int]) -> [UInt32] {
    recordBatch(.stop(indices), of: indices.count)
    return indices.map { stopRing($0) }
  }

  private func recordBatch(_ batch: Batch, of count: Int) {
    state.withLock {
      $0.batches.append(batch)
      if count == 0 { $0.violations.append("\(batch) of no ring") }
    }
  }

  private func startRing(_ ring: RingConfiguration) throws(BackendError) {
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

  private func stopRing(_ index: Int) -> UInt32 {
    record(.stop(index))
    return state.withLock {
      guard let ring = $0.running.removeValue(forKey: index) else {
        $0.violations.append("stopped ring \(index), which did not run")
        return 0
      }
      return ring.base + $0.progress
    }
  }

  func setCall(_ descriptor: OwnedFD?, of index: Int) {
    change(index, .setCall(index)) { $0.call = descriptor }
  }

  func setError(_ descriptor: OwnedFD?, of index: Int) {
    change(index, .setError(index)) { $0.error = descriptor }
  }

  func setKick(_ descriptor: OwnedFD?, of index: Int) throws(BackendError) {
    change(index, .setKick(index)) { $0.kick = descriptor }
    if state.withLock({ $0.refusedKicks.contains(index) }) {
      throw BackendError("the kick descriptor can't be waited for")
    }
  }

  func setEnabled(_ enabled: Bool, of index: Int) {
    change(index, .setEnabled(index, enabled)) { $0.enabled = enabled }
  }

  private func change(_ index: Int, _ call: Call, _ body: (inout RingConfiguration) -> Void) {
    record(call)
    state.withLock {
      if $0.running[index] == nil {
        $0.violations.append("\(call) of a ring that does not run")
      } else {
        body(&$0.running[index]!)
      }
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

  func insert(_ entry: IOTLBEntry, isCheck: Bool) -> [Int] {
    record(isCheck ? .check(entry) : .insert(entry))
    return state.withLock { $0.staleRings }
  }

  func removeTranslations(from first: UInt64, through last: UInt64) -> [Int] {
    record(.removeTranslations(first, last))
    return state.withLock { $0.staleRings }
  }

  func translationsToCheck(_ count: Int) -> [IOTLBMiss] {
    state.withLock { Array($0.known.prefix(count)) }
  }

  func renewMisses() { record(.renewMisses) }
}
