@testable import Dataplane

/// A data plane without threads, in which honest guests are ports.
final class FuzzPlane {
  let plane: Dataplane

  /// - Parameter vectors: whether AVX-512 is used where there is any.
  init(vectors: Bool) throws {
    Burst.mayUseVectors = vectors
    plane = try Dataplane(
      .init(
        workers: [.init(cpu: nil, node: 0)], macEntries: 16, hugepages: false, threads: false))
  }

  /// Adds a guest, whose rings run for good; returns the port's number.
  func add(_ guest: HonestGuest, asks: Offloads = .none, takes: Offloads = .none) throws -> Int {
    let port = try plane.addPort(pairs: 1)
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
      try plane.startRing(index, of: port, setup, memory: memory, worker: 0)
    }
    return port
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
