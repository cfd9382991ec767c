internal import ControlAPI
internal import Dataplane
internal import Linux
internal import VhostUser

/// Rings are placed, started, changed and stopped.
extension VhostBackend {
  func startRings(_ rings: [RingConfiguration]) -> [BackendError?] {
    var errors = [BackendError?](repeating: nil, count: rings.count)
    var starts: [(place: Int, start: QueueStart, setup: RingSetup, node: Int?)] = []
    for (place, ring) in rings.enumerated() {
      do throws(BackendError) {
        let (setup, queue, node) = try prepare(ring)
        // A receiveq is filled by whoever has a frame for it.
        let key = QueueKey(port: port.number, queue: ring.index)
        let worker =
          ring.index % 2 == 1 ? parent.placement.withLock { $0.place(key, node: node) } : 0
        starts.append((place, QueueStart(ring.index, queue, worker: worker), setup, node))
      } catch {
        errors[place] = error
      }
    }
    if starts.isEmpty { return errors }
    port.enabling.withLock { _ in
      let results = parent.dataplane.startQueues(starts.map(\.start), of: port.number)
      for (entry, error) in zip(starts, results) {
        if let error {
          if entry.start.index % 2 == 1 { parent.release([entry.start.worker]) }
          errors[entry.place] = BackendError("\(error)")
        } else {
          suspended.remove(entry.start.index)
          note(rings[entry.place], entry.setup, worker: entry.start.worker, node: entry.node)
          if port.isDown {
            parent.dataplane.setEnabled(false, queue: entry.start.index, of: port.number)
          }
        }
      }
    }
    // Frames may have waited for them.
    if iotlb != nil { parent.dataplane.wake(port: port.number) }
    return errors
  }

  /// Everything that can be said of a ring before it is started, and the memory node that its worker had best be on.
  private func prepare(
    _ ring: RingConfiguration
  ) throws(BackendError) -> (RingSetup, QueueSetup, node: Int?) {
    guard let memory else { throw BackendError("there is no memory table yet") }
    if memory.hasVanished { throw BackendError(QueueFault.memoryVanished.explanation) }
    if isDistrusted { throw BackendError(QueueFault.invalidationsMissing.explanation) }
    if isTranslated, iotlb == nil { throw BackendError("there is no descriptor for an IOTLB") }
    var setup = RingSetup(ring)
    setup.enabled = ring.enabled && !port.isDown
    if setup.packed, let place = port.journals {
      setup.journal = place.journal(of: ring.index)
      setup.keepsJournal = place.keeper
    }
    if let log, ring.features.contains(.logAll) {
      if log.hasVanished { throw BackendError(QueueFault.memoryVanished.explanation) }
      setup.log = log
      setup.logAddress = ring.logAddress
    }
    if let iotlb { try requireTranslations(setup, of: ring.index, iotlb) }
    let node =
      iotlb.map { $0.node(device: ring.descriptors) } ?? memory.node(user: ring.descriptors)
    return (setup, .ring(setup, memory: memory, iotlb: iotlb), node)
  }

  private func note(_ ring: RingConfiguration, _ setup: RingSetup, worker: Int, node: Int?) {
    // Its eventfds may be exchanged, and are not to be kept here.
    var kept = setup
    (kept.kick, kept.call, kept.keepsJournal, kept.journal) = (nil, nil, nil, nil)
    kept.log = nil
    running[ring.index] = (worker, kept)
    port.status.update { status in
      status.guestNode = node ?? status.guestNode
      status.runs += 1
      status.rings[ring.index] = .init(
        size: ring.size, enabled: ring.enabled, worker: worker, run: status.runs, error: ring.error)
      status.suspended[ring.index] = nil
    }
  }

  func stopRings(_ indices: [Int]) -> [UInt32] {
    forget(indices, parent.dataplane.stopQueues(indices, of: port.number))
  }

  /// Notes that rings run no more. Returns where each would go on, which the data plane knows of those that it had.
  func forget(_ indices: [Int], _ positions: [UInt32?]) -> [UInt32] {
    zip(indices, positions).map { index, position in
      guard let (worker, setup) = running.removeValue(forKey: index) else { return 0 }
      if index % 2 == 1 { parent.release([worker]) }
      // Whoever breaks a ring and starts it anew at once is counted too.
      if let run = port.status.read({ $0.rings[index]?.run }) { port.inspect(index, run: run) }
      port.status.update { $0.rings[index] = nil }
      return position ?? setup.base
    }
  }

  func forgetPositions(_ indices: [Int]) {
    for index in indices { port.journals?.journal(of: index).forget() }
  }

  // ---- Of a running ring ----

  func setCall(_ descriptor: OwnedFD?, of index: Int) {
    parent.dataplane.setCall(descriptor, queue: index, of: port.number)
  }

  /// Only control signals it.
  func setError(_ descriptor: OwnedFD?, of index: Int) {
    port.status.update { $0.rings[index]?.error = descriptor }
  }

  func setKick(_ descriptor: OwnedFD?, of index: Int) throws(BackendError) {
    do {
      try parent.dataplane.setKick(descriptor, queue: index, of: port.number)
    } catch {
      throw BackendError("\(error)")
    }
  }

  func setEnabled(_ enabled: Bool, of index: Int) {
    port.enabling.withLock { _ in
      parent.dataplane.setEnabled(enabled && !port.isDown, queue: index, of: port.number)
      port.status.update { $0.rings[index]?.enabled = enabled }
    }
  }
}

extension RingSetup {
  fileprivate init(_ ring: RingConfiguration) {
    let features = ring.features
    self.init(
      size: ring.size, descriptors: ring.descriptors, avail: ring.driver, used: ring.device,
      base: ring.base, agreedBase: ring.agreedBase, packed: features.contains(.ringPacked),
      inOrder: features.contains(.inOrder), eventIndex: features.contains(.ringEventIdx),
      indirect: features.contains(.ringIndirectDesc),
      mergeable: features.contains(.netMrgRxbuf), version1: features.contains(.version1),
      offloads: RingSetup.offloads(features, isTransmitq: ring.index % 2 == 1),
      enabled: ring.enabled, kick: ring.kick, call: ring.call)
  }

  /// What the driver may ask for of a transmitq's frames, or takes over of a receiveq's. Nothing goes without the
  /// checksum (virtio v1.4, 5.1.3.1), whatever else was accepted.
  private static func offloads(_ features: Features, isTransmitq: Bool) -> Offloads {
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
}
