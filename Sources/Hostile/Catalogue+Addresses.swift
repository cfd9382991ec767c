internal import VirtioDriver

/// Descriptors whose address or length is wrong: HG-01 to HG-03, HG-09, HG-19 and what DPDK had of the kind.
extension Catalogue {
  static var addresses: [Case] {
    both { packed, layout in
      [
        Case(
          "HG-01 outside, \(layout)", "a frame at an address that is in no region",
          .drop("malformed_descriptor")
        ) { site in
          let ring = try site.ring(packed: packed)
          for address: UInt64 in [1 << 40, 1 << 63, .max - 63, 0xFFFF_FFFF_FFFF_F000] {
            ring.offer([ForgedDescriptor(address, 64)])
          }
          try site.expectReturn(ring)
        }
      ]
    }
  }

  /// Cases of split and of packed rings.
  static func both(_ cases: (_ packed: Bool, _ layout: String) -> [Case]) -> [Case] {
    cases(false, "split") + cases(true, "packed")
  }
}

extension Site {
  /// The device must give back what was offered last, and take a good frame from the same ring afterwards.
  func expectReturn(_ ring: ForgedRing) throws {
    guard ring.awaitUsed(milliseconds: patience) else {
      throw AttackError.hurt("the chain does not come back")
    }
    let good = try buffer(in: ring.guest)
    ring.offer([ForgedDescriptor(good)])
    if !arrives(frame()) { throw AttackError.hurt("the ring does not go on") }
  }
}
