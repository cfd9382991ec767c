internal import VirtioDriver

/// Every case there is. The numbers are those of the public record: HG for what a guest's driver does, HP for what a
/// front-end says; CVE; DPDK, with the commit that mended it; and other projects' issues.
public enum Catalogue {
  public static let cases: [Case] = guestCases + protocolCases

  /// What a guest's driver does.
  static var guestCases: [Case] {
    addresses + chains + indirection + rings + packedRings + offloads + receiveBuffers + mutations
      + rereadings + floods + absences
  }

  /// Cases of split and of packed rings.
  static func both(_ cases: (_ packed: Bool, _ layout: String) -> [Case]) -> [Case] {
    cases(false, "split") + cases(true, "packed")
  }

  /// What is different from a plain guest.
  static func with(
    _ change: @escaping @Sendable (inout GuestPort.Options) -> Void
  ) -> @Sendable (inout GuestPort.Options) -> Void { change }

  /// A case that offers chains on a transmitq. Each is dropped for the same reason and given back, and the ring goes
  /// on.
  static func dropped(
    _ name: String, _ summary: String, _ reason: String, packed: Bool,
    _ required: VirtioFeatures = [],
    _ change: @escaping @Sendable (inout GuestPort.Options) -> Void = { _ in },
    chains: @escaping @Sendable (Site, ForgedRing) throws -> [[ForgedDescriptor]]
  ) -> Case {
    Case("\(name), \(packed ? "packed" : "split")", summary, .drop(reason)) { site in
      let ring = try site.ring(packed: packed, required, change)
      let chains = try chains(site, ring)
      site.offences = chains.count
      for chain in chains {
        ring.offer(chain)
        try site.expectReturn(ring)
      }
      try site.expectRecovery(ring)
    }
  }

  /// A case that offers one chain on a transmitq, by which a frame arrives.
  static func delivered(
    _ name: String, _ summary: String, packed: Bool, _ required: VirtioFeatures = [],
    _ change: @escaping @Sendable (inout GuestPort.Options) -> Void = { _ in },
    chain: @escaping @Sendable (Site, ForgedRing) throws -> [ForgedDescriptor]
  ) -> Case {
    Case("\(name), \(packed ? "packed" : "split")", summary, .nothing) { site in
      let ring = try site.ring(packed: packed, required, change)
      ring.offer(try chain(site, ring))
      try site.expectArrival(site.frame())
    }
  }
}
