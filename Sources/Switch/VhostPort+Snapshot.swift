internal import ControlAPI
internal import Dataplane
internal import VhostUser

/// A vhost-user port as it explains itself.
extension VhostPort {
  func snapshot(macs: [Int: Int]) -> Port {
    let status = status.read { $0 }
    let addresses = addresses
    var port = Port(
      name: request.name, kind: .vhostUser, state: .waiting, explanation: "",
      lastError: status.lastError, mtu: status.mtu ?? request.mtu, guestNode: status.guestNode,
      macs: macs[number] ?? 0, macLimit: addresses.limit,
      learning: LearningCounters(addresses.counts),
      status: VhostUserStatus(
        path: path, mode: mode, queuePairs: pairs, frontEndPID: status.pid,
        connections: status.connections, features: status.features.names,
        protocolFeatures: status.protocolFeatures.names,
        deviceStatus: status.deviceStatus.names, memoryRegions: status.regions,
        memoryLimit: memoryLimit, regionLimit: regionLimit,
        offloads: offloads.map(\.rawValue), iotlb: status.iotlb))
    port.faults = status.faults
    for index in 0..<(2 * pairs) { port.add(queue(index, status.ring(index))) }
    (port.state, port.explanation) = explain(status, port.queues)
    return port
  }

  private func queue(_ index: Int, _ ring: PortStatus.Ring?) -> Queue {
    let sample = sample(of: index)
    let isReceiveq = index % 2 == 0
    let worker = isReceiveq ? nil : ring?.worker
    // The counters know of a fault at once, the port's thread a little later.
    let fault = ring == nil ? nil : fault(of: index)
    return Queue(
      index: index, direction: isReceiveq ? .receiveq : .transmitq,
      state: ring == nil
        ? .stopped
        : fault != nil ? .broken : ring?.enabled == true && !isDown ? .running : .disabled,
      size: ring?.size ?? 0, worker: worker, workerNode: worker.map(node(ofWorker:)),
      error: fault?.explanation, counters: Counters(sample))
  }

  private func explain(_ status: PortStatus.Values, _ queues: [Queue]) -> (PortState, String) {
    if isDown {
      return (
        .down,
        "was set down (swivel port up \(request.name)): no frame passes, which its guest is not told"
      )
    }
    if !status.connected {
      if !isReachable {
        return (
          .broken,
          "the socket's file \(path) was removed or replaced, so that no front-end can connect any more; a reload (SIGHUP) makes it anew"
        )
      }
      return (
        .waiting,
        mode == .server
          ? "waits for a front-end (QEMU, for one) to connect to \(path)"
          : "waits for a front-end to listen at \(path)"
            + (status.waitingFor.map { "; the last attempt: \($0)" } ?? "")
      )
    }
    if let broken = queues.first(where: { $0.state == .broken }) {
      return (
        .broken,
        "ring \(broken.index) is stopped because \(broken.error ?? "it broke"); it starts again when the guest's driver or the front-end does"
      )
    }
    let receiving = queues.count { $0.direction == .receiveq && $0.state == .running }
    let transmitting = queues.count { $0.direction == .transmitq && $0.state == .running }
    if receiving > 0 || transmitting > 0 {
      return (
        .running, "carries frames: \(receiving) receiveq(s), \(transmitting) transmitq(s) running"
      )
    }
    if queues.contains(where: { $0.state == .disabled }) {
      return (
        .connected,
        "the front-end has started rings but not enabled them; frames from the guest are discarded"
      )
    }
    if let waiting = status.iotlb?.waitingRings, !waiting.isEmpty {
      return (
        .connected,
        "the front-end has started rings, but not told where the guest's IOMMU leads their addresses"
      )
    }
    if status.regions.isEmpty, status.deviceStatus.contains(.driverOK) {
      return (
        .connected,
        "the guest's driver is ready, but the front-end has shared none of the guest's memory"
      )
    }
    if status.runs > status.runsBefore {
      return (
        .connected,
        "the front-end has stopped the rings that ran: the guest is suspended, restarts, or has its driver no more"
      )
    }
    return (
      .connected, "a front-end is connected, but the guest's driver has not started its rings yet"
    )
  }
}

extension PortStatus.Values {
  /// A ring that waits for its own addresses for so long is one that runs: an IOMMU's driver may take everything back a
  /// hundred times a second.
  private static let moment = Duration.seconds(1)

  /// A ring that runs, or does but for a moment.
  fileprivate func ring(_ index: Int) -> PortStatus.Ring? {
    if let ring = rings[index] { return ring }
    guard let suspension = suspended[index],
      suspension.since.duration(to: .now) < PortStatus.Values.moment
    else { return nil }
    return suspension.ring
  }
}
