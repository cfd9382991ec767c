@testable import Dataplane

/// A data plane without threads, in which honest guests are ports.
final class FuzzPlane {
  let plane: Dataplane

  init(_ plane: Dataplane) { self.plane = plane }

  /// - Parameter vectors: whether AVX-512 is used where there is any.
  init(vectors: Bool) throws {
    Burst.mayUseVectors = vectors
    plane = try Dataplane(
      .init(
        workers: [.init(cpu: nil, node: 0)], macEntries: 16, hugepages: false, threads: false))
  }

  /// Adds a port whose rings run for good, each queue pair a guest's; returns its number.
  func add(_ guests: HonestGuest..., asks: Offloads = .none, takes: Offloads = .none) throws -> Int
  {
    let port = try plane.addPort(pairs: guests.count)
    for (pair, guest) in guests.enumerated() { try start(guest, pair, port, asks, takes) }
    return port
  }

  /// Adds an uplink, to which everything is flooded; the kernel takes over TCP.
  func addUplink() throws -> Uplink {
    let uplink = try Uplink()
    let port = try plane.addPort(pairs: 1)
    let setup = QueueSetup.tap(
      TapSetup(descriptor: uplink.device, headerSize: 12, offloads: .tcp))
    for case let error? in plane.startQueues([0, 1].map { QueueStart($0, setup) }, of: port) {
      throw error
    }
    return uplink
  }

  private func start(
    _ guest: HonestGuest, _ pair: Int, _ port: Int, _ asks: Offloads, _ takes: Offloads
  ) throws {
    let region = try guest.map()
    let memory = GuestMemory([
      MappedRegion(guestAddress: region.guest, userAddress: region.user, mapping: region.mapping)
    ])
    for (index, place) in [guest.receiveq, guest.transmitq].enumerated() {
      let setup = RingSetup(
        size: HonestGuest.ringSize, descriptors: place.parts[0], avail: place.parts[1],
        used: place.parts[2], base: place.base, packed: guest.isPacked,
        inOrder: guest.isInOrder,
        eventIndex: false, indirect: true,
        mergeable: guest.isMergeable, version1: true,
        offloads: index == 1 ? asks : takes, enabled: true, kick: nil, call: nil)
      let start = QueueStart(2 * pair + index, .ring(setup, memory: memory))
      if let error = plane.startQueues([start], of: port)[0] { throw error }
    }
  }

  /// Every frame that came in went out, or was dropped by name.
  func holdBalance() {
    let (came, went) = plane.totals
    let drops = [came, went].reduce(0) { $0 + $1.drops.values.reduce(0, +) }
    hold(
      came.frames + came.replicas == went.frames + drops,
      "\(came.frames) and \(came.replicas) came, \(went.frames) went, \(drops) were dropped")
  }
}
