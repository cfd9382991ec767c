import Linux

@testable import VhostUser

/// A back-end that maps what it is given, looks at it, and ends the process when the session breaks its promises.
final class MappingBackend: Backend {
  let features = Features(rawValue: ~0).subtracting([.netCtrlVQ])
  let protocolFeatures = ProtocolFeatures.supported
  let queuePairs = 2
  let memorySlots = 8
  let memoryLimit: UInt64 = 8 << 40
  let missed: EventFD?

  private struct Part {
    var region: GuestRegion
    var mapping: Mapping
  }

  private var memory: [Part] = []
  private var running: [Int: RingConfiguration] = [:]
  private var awaiting: Set<Int> = []
  private var entries: [IOTLBEntry] = []
  private var misses: [IOTLBMiss] = []
  private var isReset = false
  private var mappings: [WeakMapping] = []

  private struct WeakMapping { weak var mapping: Mapping? }

  init(translates: Bool) { missed = translates ? try? EventFD() : nil }

  /// After the session: everything was given back.
  func holdIsOver() {
    hold(isReset, "the back-end was not reset")
    hold(mappings.allSatisfy { $0.mapping == nil }, "guest memory is still mapped")
  }

  private func holdStill(_ what: String) {
    hold(running.isEmpty, "\(what) while rings run")
    hold(!isReset, "\(what) after the end")
  }

  func negotiated(_ features: Features, _ protocolFeatures: ProtocolFeatures) {
    hold(features.isSubset(of: self.features), "features that were not offered")
    hold(protocolFeatures.isSubset(of: self.protocolFeatures), "protocol features not offered")
  }

  func setMemory(_ regions: [GuestRegion]) throws(BackendError) {
    holdStill("memory changed")
    hold(regions.count <= memorySlots, "\(regions.count) regions")
    for (index, region) in regions.enumerated() {
      hold(region.size > 0, "an empty region")
      hold(region.guestAddress <= .max - region.size, "a region wraps")
      hold(region.userAddress <= .max - region.size, "a region wraps")
      for other in regions[..<index] {
        hold(
          region.guestAddress >= other.guestAddress + other.size
            || other.guestAddress >= region.guestAddress + region.size, "guest addresses overlap")
        hold(
          region.userAddress >= other.userAddress + other.size
            || other.userAddress >= region.userAddress + region.size, "user addresses overlap")
      }
    }
    var parts: [Part] = []
    for region in regions {
      // It may be there already; then it comes with the same file.
      if let part = memory.first(where: { $0.region.file === region.file }) {
        parts.append(Part(region: region, mapping: part.mapping))
        continue
      }
      do throws(SystemError) {
        let mapping = try Mapping(
          sharing: region.file, offset: region.mmapOffset, length: region.size)
        touch(mapping)
        mappings.append(WeakMapping(mapping: mapping))
        parts.append(Part(region: region, mapping: mapping))
      } catch {
        throw BackendError("\(error)")
      }
    }
    memory = parts
  }

  /// The first byte and the last.
  private func touch(_ mapping: Mapping) {
    for offset in [0, mapping.length - 1] {
      mapping.base.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
    }
  }

  func setLog(_ log: LogRegion?) throws(BackendError) {
    holdStill("the log changed")
    guard let log else { return }
    do throws(SystemError) {
      touch(try Mapping(sharing: log.file, offset: log.offset, length: log.size))
    } catch {
      throw BackendError("\(error)")
    }
    if let notify = log.notify { hold(notify.isEventFD, "the log's descriptor is no eventfd") }
  }

  func startRings(_ rings: [RingConfiguration]) -> [BackendError?] {
    hold(!rings.isEmpty, "no ring is started")
    return rings.map { ring in
      do throws(BackendError) {
        try startRing(ring)
        return nil
      } catch {
        return error
      }
    }
  }

  private func startRing(_ ring: RingConfiguration) throws(BackendError) {
    hold(!isReset && running[ring.index] == nil, "ring \(ring.index) started twice")
    hold((0..<2 * queuePairs).contains(ring.index), "ring \(ring.index)")
    hold((1...32_768).contains(ring.size), "\(ring.size) descriptors")
    if !ring.features.contains(.ringPacked) {
      hold(ring.size.nonzeroBitCount == 1, "a split ring of \(ring.size)")
      hold(ring.base <= UInt32(UInt16.max), "a split ring's base of \(ring.base)")
    }
    for descriptor in [ring.kick, ring.call, ring.error] {
      hold(descriptor?.isEventFD ?? true, "a ring's descriptor is no eventfd")
    }
    hold(!memory.isEmpty, "a ring without memory")
    for address in [ring.descriptors, ring.driver, ring.device] {
      if missed != nil, !entries.contains(where: { $0.address <= address }) {
        misses.append(IOTLBMiss(address: address, access: .read))
        missed?.signal()
        awaiting.insert(ring.index)
        throw .notTranslated
      }
      if missed == nil, !memory.contains(where: { $0.region.userAddress <= address }) {
        throw BackendError("the ring lies outside of memory")
      }
    }
    awaiting.remove(ring.index)
    running[ring.index] = ring
  }

  func abandonRings(_ indices: [Int]) {
    hold(!indices.isEmpty, "no ring is abandoned")
    for index in indices { awaiting.remove(index) }
  }

  func stopRings(_ indices: [Int]) -> [UInt32] {
    hold(!indices.isEmpty, "no ring is stopped")
    for index in indices {
      hold(running.removeValue(forKey: index) != nil, "ring \(index) did not run")
    }
    return [UInt32](repeating: 0x8007, count: indices.count)
  }

  func setCall(_ descriptor: OwnedFD?, of index: Int) { holdRuns(index, descriptor) }
  func setError(_ descriptor: OwnedFD?, of index: Int) { holdRuns(index, descriptor) }
  func setEnabled(_ enabled: Bool, of index: Int) { holdRuns(index, nil) }

  /// Fails for want of a descriptor where there is none, so that a ring that runs is seen to fail.
  func setKick(_ descriptor: OwnedFD?, of index: Int) throws(BackendError) {
    holdRuns(index, descriptor)
    if descriptor == nil { throw BackendError("this back-end does not poll") }
  }

  private func holdRuns(_ index: Int, _ descriptor: OwnedFD?) {
    hold(running[index] != nil, "ring \(index) does not run")
    hold(descriptor?.isEventFD ?? true, "a ring's descriptor is no eventfd")
  }

  func setMTU(_ mtu: Int) throws(BackendError) { hold((68...65_535).contains(mtu), "MTU \(mtu)") }
  func sendRARP(mac: [UInt8]) { hold(mac.count == 6, "an address of \(mac.count) bytes") }
  func statusChanged(_ status: DeviceStatus) {}

  func reset() {
    holdStill("the end")
    hold(awaiting.isEmpty, "rings \(awaiting) still wait")
    isReset = true
    memory = []
  }

  // ---- IOMMU ----

  func takeMisses() -> [IOTLBMiss] {
    defer { misses = [] }
    return misses
  }

  func insert(_ entry: IOTLBEntry, isCheck: Bool) -> [Int] {
    hold(entry.size > 0 && !entry.access.isEmpty, "an empty entry")
    hold(entry.address <= .max - (entry.size - 1), "an entry wraps")
    hold(
      memory.contains {
        entry.userAddress >= $0.region.userAddress
          && entry.userAddress + (entry.size - 1)
            <= $0.region.userAddress + ($0.region.size - 1)
      }, "an entry outside of memory")
    entries.append(entry)
    return entry.size & 1 != 0 ? Array(running.keys) : []
  }

  func removeTranslations(from first: UInt64, through last: UInt64) -> [Int] {
    hold(first <= last, "a range from \(first) to \(last)")
    entries.removeAll { $0.address <= last && $0.address + ($0.size - 1) >= first }
    return Array(running.keys)
  }

  func renewMisses() {
    for index in awaiting { misses.append(IOTLBMiss(address: UInt64(index), access: .write)) }
  }
}
