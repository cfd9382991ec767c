internal import Linux
internal import VirtioDriver

/// Rings as such: HG-10, HG-14, HG-15 and HG-17.
extension Catalogue {
  static var rings: [Case] {
    indices + both { packed, layout in places(packed, layout) + events(packed, layout) }
  }

  private static let jump = Sign.fault("avail.idx moved by more")

  /// The indices of a split ring.
  private static var indices: [Case] {
    [
      Case("HG-10 forward", "avail.idx jumps beyond the ring", jump) { site in
        let ring = try site.ring(packed: false)
        ring.moveAvail(by: ring.size + 1)
      },
      Case("HG-10 back", "avail.idx moves back", jump) { site in
        let ring = try site.ring(packed: false)
        let buffer = try site.buffer(in: ring.guest)
        for _ in 0..<3 { ring.offer([ForgedDescriptor(buffer)]) }
        try site.expectReturn(ring)
        ring.moveAvail(by: -1)
      },
      Case("HG-10 half", "avail.idx jumps by 32,768", jump) { site in
        let ring = try site.ring(packed: false)
        ring.moveAvail(by: 32_768)
      },
      Case("HG-10 receiveq", "avail.idx of a receiveq jumps", jump) { site in
        let ring = try site.ring(transmitq: false, packed: false)
        site.announce(ring.guest)
        ring.moveAvail(by: 9000)
        site.sendFromWitness(ring.size + 4)
      },
      Case("firecracker#3149", "avail.idx jumps by all that fits 16 bits", jump) { site in
        let ring = try site.ring(packed: false)
        ring.moveAvail(by: 0xFFFF)
      },
      Case("openvmm#2780", "avail.idx jumps, again after the ring was set up anew", jump) { site in
        let ring = try site.ring(packed: false)
        for _ in 0..<5 {
          ring.moveAvail(by: ring.size + 1)
          try ring.restart()
        }
        ring.moveAvail(by: ring.size + 1)
      },
    ]
  }

  /// Where the parts of a ring lie.
  private static func places(_ packed: Bool, _ layout: String) -> [Case] {
    [
      Case("HG-15 end of a region, \(layout)", "a ring whose last byte is a region's", .nothing) {
        site in
        let ring = try site.ring(packed: packed)
        let length = UInt64(ring.guest.memory.regions[0].length)
        let bytes = UInt64(RingParts.descriptorBytes(ring.size))
        try site.place(ring) { $0.descriptors &+= length &- bytes &- $0.descriptorsPlace }
        // The guest's own ring is not there any more: nobody offers anything.
        _ = try ring.guest.frontEnd.stopRing(1)
      },
      Case(
        "HG-15 beyond a region, \(layout)", "a ring that begins in a region and ends outside",
        .refusal("not mapped in one piece")
      ) { site in
        let ring = try site.ring(packed: packed)
        let length = UInt64(ring.guest.memory.regions[0].length)
        let bytes = UInt64(RingParts.descriptorBytes(ring.size))
        site.tryPlacing(ring) { $0.descriptors &+= length &- bytes &+ 16 &- $0.descriptorsPlace }
      },
      Case(
        "HG-15 misaligned, \(layout)", "rings at odd addresses", .refusal("not aligned")
      ) { site in
        let ring = try site.ring(packed: packed)
        site.tryPlacing(ring) { $0.descriptors &+= 8 }
        site.tryPlacing(ring) { $0.used &+= 2 }
        site.tryPlacing(ring) { $0.avail &+= 1 }
      },
      Case(
        "HG-15 overlapping, \(layout)", "a transmitq that is the receiveq", .nothing
      ) { site in
        let ring = try site.ring(packed: packed)
        let other = ForgedRing(ring.guest, transmitq: false)
        let parts = other.withRing { $0.parts }
        site.tryPlacing(ring) { places in
          places.descriptors &+= parts.descriptors.address &- places.descriptorsPlace
          places.avail &+= parts.avail.address &- places.availPlace
          places.used &+= parts.used.address &- places.usedPlace
        }
        site.sendFromWitness(40)
      },
      Case(
        "HG-14 used ring, \(layout)", "a device area that lies on the descriptors", .nothing
      ) { site in
        let ring = try site.ring(packed: packed)
        site.tryPlacing(ring) { $0.used &+= $0.descriptorsPlace &- $0.usedPlace }
        let buffer = try site.buffer(in: ring.guest)
        for _ in 0..<200 { ring.offer([ForgedDescriptor(buffer)]) }
      },
      Case(
        "HG-14 driver area, \(layout)", "a device area that lies on the driver area", .nothing
      ) { site in
        let ring = try site.ring(packed: packed)
        site.tryPlacing(ring) { $0.used &+= ($0.availPlace &+ 3) / 4 * 4 &- $0.usedPlace }
        let buffer = try site.buffer(in: ring.guest)
        for _ in 0..<200 { ring.offer([ForgedDescriptor(buffer)]) }
      },
      Case(
        "HG-14 frame, \(layout)", "frames that are the ring itself", .nothing
      ) { site in
        let ring = try site.ring(packed: packed)
        let parts = ring.withRing { $0.parts }
        for _ in 0..<50 {
          for part in [parts.descriptors, parts.avail, parts.used] {
            ring.offer([ForgedDescriptor(part.address, 100)])
          }
        }
      },
      Case(
        "CVE-2024-3446, \(layout)", "receive buffers that are the ring itself",
        .drop("malformed_receive_buffer"), .drop("no_receive_buffer"), .drop("queue_broken"),
        .nothing
      ) { site in
        let ring = try site.ring(transmitq: false, packed: packed)
        site.announce(ring.guest)
        let parts = ring.withRing { $0.parts }
        for slot in 0..<ring.size {
          let part = [parts.descriptors, parts.avail, parts.used][slot % 3]
          ring.overwrite(
            slot, ForgedDescriptor(part.address, 300, flags: ForgedDescriptor.write))
        }
        site.sendFromWitness(3 * ring.size)
      },
    ]
  }

  private static func events(_ packed: Bool, _ layout: String) -> [Case] {
    [
      Case(
        "HG-17, \(layout)",
        "event indices and flags that make no sense, and change with each buffer",
        .nothing
      ) { site in
        let ring = try site.ring(packed: packed, .eventIdx)
        let buffer = try site.buffer(in: ring.guest)
        for round in 0..<300 {
          ring.withRing { ring in
            let noise = UInt16(truncatingIfNeeded: round &* 40_503)
            if packed {
              let flags: [EventSuppression.Flags] = [.enable, .disable, .descriptor, .reserved]
              ring.driverEvent = EventSuppression(
                flags[round % 4], at: PackedPosition(word: noise))
              ring.deviceEvent = EventSuppression(
                flags[(round / 4) % 4], at: PackedPosition(word: ~noise))
            } else {
              ring.usedEvent = noise
              ring.availFlags = noise
              ring.availEvent = ~noise
              ring.usedFlags = ~noise
            }
          }
          ring.offer([ForgedDescriptor(buffer)])
          // No more than the ring has entries may be under way.
          if round % 32 == 0 { try site.expectReturn(ring) }
        }
        try site.expectReturn(ring)
        try site.expectArrival(site.frame())
      }
    ]
  }
}

/// Where a ring's parts are said to be: user addresses, and the guest's addresses they had.
struct RingPlaces {
  var descriptors: UInt64
  var avail: UInt64
  var used: UInt64
  let descriptorsPlace: UInt64
  let availPlace: UInt64
  let usedPlace: UInt64
}

extension Site {
  /// Stops the guest's transmitq and starts it with its parts elsewhere.
  func place(_ ring: ForgedRing, _ change: (inout RingPlaces) -> Void) throws(FrontEndError) {
    let frontEnd = ring.guest.frontEnd
    let memory = ring.guest.memory
    let (parts, kick) = ring.withRing { ($0.parts, $0.kickEvent.descriptor) }
    guard let descriptors = memory.userAddress(of: parts.descriptors.address),
      let avail = memory.userAddress(of: parts.avail.address),
      let used = memory.userAddress(of: parts.used.address)
    else { throw .memory }
    var places = RingPlaces(
      descriptors: descriptors, avail: avail, used: used,
      descriptorsPlace: parts.descriptors.address, availPlace: parts.avail.address,
      usedPlace: parts.used.address)
    change(&places)
    _ = try frontEnd.stopRing(1)
    try frontEnd.setRingBase(1, ring.withRing { $0.resumeBase })
    try frontEnd.setRingAddresses(
      1, descriptors: places.descriptors, used: places.used, avail: places.avail)
    try frontEnd.setRingKick(1, kick)
  }

  /// The same, where the switch may refuse it.
  func tryPlacing(_ ring: ForgedRing, _ change: (inout RingPlaces) -> Void) {
    do throws(FrontEndError) {
      try place(ring, change)
    } catch {
      // That is how it should be.
    }
  }
}

extension ForgedRing {
  /// Moves `avail.idx` of a split ring, and kicks.
  func moveAvail(by distance: Int) {
    withRing { ring in
      ring.availIndex = ring.availIndex &+ UInt16(truncatingIfNeeded: distance)
      ring.kick()
    }
  }
}
