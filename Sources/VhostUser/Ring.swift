internal import Linux

/// What a session knows of one ring: the pieces of its configuration as they come in, and whether the
/// back-end works on it.
struct Ring {
  /// How far a ring is on its way to the back-end.
  enum State {
    /// It lacks a piece, was stopped, or did not start as it is.
    case stopped
    /// It has every piece, and is started before anything is answered or waited for.
    case due
    /// The back-end was told to start it and not yet to stop.
    case running
    /// The back-end would run it, but the IOTLB does not know its addresses yet.
    case awaitsTranslation
  }

  /// How the driver tells of new buffers; without any the ring is stopped (E73).
  enum Kick {
    case none
    case polling
    case eventFD(OwnedFD)

    var isNone: Bool {
      if case .none = self { true } else { false }
    }
  }

  var size: Int?
  var address: VringAddress?
  /// Where to begin next: from SET_VRING_BASE, or where the back-end ended.
  var base: UInt32 = 0
  /// What the front-end takes for it: what it sent last, or was told.
  var agreedBase: UInt32 = 0
  var kick = Kick.none
  var call: OwnedFD?
  var error: OwnedFD?
  /// What SET_VRING_ENABLE said, kept while the ring is stopped (E77). Before it has said anything a ring
  /// is enabled unless VHOST_USER_F_PROTOCOL_FEATURES was accepted (E75).
  var enabled: Bool?
  var state = State.stopped
  /// It was suspended, or has not started, for want of translations: the back-end is to be told if it is stopped.
  var waits = false

  func isEnabled(_ features: Features) -> Bool {
    enabled ?? !features.contains(.vhostUserProtocol)
  }

  /// The whole configuration once every piece is there.
  func configuration(index: Int, features: Features) -> RingConfiguration? {
    guard let size, let address else { return nil }
    let kickFD: OwnedFD?
    switch kick {
    case .none: return nil
    case .polling: kickFD = nil
    case .eventFD(let descriptor): kickFD = descriptor
    }
    let isLogged = features.contains(.logAll) && address.flags & VringAddress.logFlag != 0
    return RingConfiguration(
      index: index, size: size, descriptors: address.descriptor, driver: address.available,
      device: address.used, logAddress: isLogged ? address.log : nil, base: base,
      agreedBase: agreedBase, features: features, enabled: isEnabled(features), kick: kickFD,
      call: call, error: error)
  }

  static let maximumSize = 32_768

  /// What is wrong with a number of descriptors (virtio v1.4, 2.7 and 2.8.10.1), or `nil`.
  static func flaw(size: UInt32, packed: Bool) -> String? {
    if size == 0 || size > maximumSize { return "\(size) is not within 1…\(maximumSize)" }
    if !packed, size & (size - 1) != 0 { return "\(size) is no power of two" }
    return nil
  }

  /// What is wrong with a base, or `nil`: a split ring's is one 16-bit index, a packed ring's two halves, index and wrap
  /// counter of avail in bits 0–15 and of used in bits 16–31 (E79, E80), which may differ: the back-end takes again what was
  /// taken and not used.
  static func flaw(base: UInt32, packed: Bool) -> String? {
    packed || base >> 16 == 0 ? nil : "\(base) is no index of a split ring"
  }
}
