internal import ControlAPI
internal import Dataplane
internal import Linux
internal import VhostUser

/// The part of a guest that has an IOMMU: its translations come from the front-end, what workers miss goes there.
extension VhostBackend {
  /// Tables that workers may still hold before they are waited for, though nothing else asks for it.
  private static let retiredLimit = 64
  /// Misses kept over invalidations; what is forgotten is missed again.
  private static let pendingLimit = 1024

  var missed: EventFD? { iotlb?.missed }

  func takeMisses() -> [IOTLBMiss] {
    let all =
      untranslated.keys.sorted().flatMap { untranslated[$0] ?? [] } + pendingMisses
      + parent.dataplane.takeMisses(port: port.number)
    for index in untranslated.keys { untranslated[index] = [] }
    pendingMisses = []
    // The answer to another miss may have come since.
    return all.filter { iotlb?.knows($0) == false }.map {
      IOTLBMiss(
        address: $0.address, access: IOTLBAccess(rawValue: $0.access.rawValue))
    }
  }

  func noteQuestions(_ count: Int) {
    port.status.update { $0.iotlb?.misses += count }
  }

  func translationsToCheck(_ count: Int) -> [IOTLBMiss] {
    guard let iotlb, !isDistrusted else { return [] }
    return iotlb.sample(count).map {
      IOTLBMiss(address: $0.address, access: IOTLBAccess(rawValue: $0.access.rawValue))
    }
  }

  func insert(_ entry: IOTLBEntry, isCheck: Bool) -> [Int] {
    guard let iotlb, !isDistrusted else { return [] }
    let translation = Translation(
      address: entry.address, size: entry.size, user: entry.userAddress,
      access: DeviceAccess(rawValue: entry.access.rawValue))
    if isCheck, iotlb.contradicts(translation) {
      distrust(iotlb)
      return []
    }
    let replaced = iotlb.insert(translation)
    if replaced || iotlb.retiredCount > VhostBackend.retiredLimit {
      parent.dataplane.settle(iotlb)
    }
    port.status.update { $0.iotlb?.updates += 1 }
    noteIOTLB()
    parent.dataplane.wake(port: port.number)
    return replaced ? rings(from: entry.address, through: entry.address + (entry.size - 1)) : []
  }

  func removeTranslations(from first: UInt64, through last: UInt64) -> [Int] {
    guard let iotlb else { return [] }
    // Its driver begins anew, and may do so without the IOMMU.
    if first == 0, last == .max, running.isEmpty { isDistrusted = false }
    iotlb.remove(from: first, through: last)
    parent.dataplane.settle(iotlb)
    // What was missed of these addresses before is not what they lead to next.
    pendingMisses += parent.dataplane.takeMisses(port: port.number)
    pendingMisses.removeAll { $0.address >= first && $0.address <= last }
    if pendingMisses.count > VhostBackend.pendingLimit { pendingMisses = [] }
    if !pendingMisses.isEmpty { iotlb.missed.signal() }
    port.status.update { $0.iotlb?.invalidations += 1 }
    noteIOTLB()
    return rings(from: first, through: last)
  }

  func renewMisses() {
    iotlb?.renew()
    parent.dataplane.wake(port: port.number)
  }

  /// Ends all work for a front-end that does not tell what is taken back.
  private func distrust(_ iotlb: IOTLB) {
    isDistrusted = true
    parent.dataplane.breakDown(port: port.number, .invalidationsMissing)
    iotlb.remove(from: 0, through: .max)
    parent.dataplane.settle(iotlb)
    noteIOTLB()
    port.inspect()
  }

  func abandonRings(_ indices: [Int]) {
    for index in indices { untranslated[index] = nil }
    noteIOTLB()
    endSuspension(of: indices)
  }

  func suspendRings(_ indices: [Int]) -> [UInt32] {
    suspended.formUnion(indices)
    port.status.update { status in
      for index in indices {
        if let ring = status.rings[index] {
          status.suspended[index] = .init(ring: ring, since: .now)
        }
      }
    }
    return forget(indices, parent.dataplane.suspendQueues(indices, of: port.number))
  }

  /// Has nothing wait any more for those of these rings that were suspended.
  func endSuspension(of indices: [Int]) {
    let ended = indices.filter { suspended.remove($0) != nil }
    port.status.update { status in
      for index in ended { status.suspended[index] = nil }
    }
    if !ended.isEmpty { _ = parent.dataplane.stopQueues(ended, of: port.number) }
  }

  /// Running rings that have a part at one of these device addresses.
  private func rings(from first: UInt64, through last: UInt64) -> [Int] {
    running.filter { $1.setup.lies(from: first, through: last) }.keys.sorted()
  }

  /// Throws `.notTranslated`, and has the front-end be asked, unless all of a ring's parts are known.
  func requireTranslations(
    _ setup: RingSetup, of index: Int, _ iotlb: IOTLB
  ) throws(BackendError) {
    let misses = setup.misses(in: iotlb)
    untranslated[index] = misses.isEmpty ? nil : misses
    noteIOTLB()
    if misses.isEmpty { return }
    iotlb.missed.signal()
    throw .notTranslated
  }

  /// Tells `port show`.
  func noteIOTLB() {
    guard let iotlb else { return }
    let waiting = untranslated.keys.sorted()
    port.status.update { status in
      var now = status.iotlb ?? IOTLBStatus()
      now.entries = iotlb.count
      now.waitingRings = waiting
      status.iotlb = now
    }
  }
}
