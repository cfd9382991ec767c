/// A session as it goes to another process: all that its front-end has said and is not going to say again. Descriptors are
/// places in the list that goes beside it (`HandedDescriptors`).
///
/// What an IOMMU's front-end has told is not among it: what is needed of that is asked for again, as it is after an
/// invalidation.
public struct SessionState: Codable, Sendable, Equatable {
  /// `Ring`, stopped.
  public struct RingState: Codable, Sendable, Equatable {
    var size: Int?
    /// Flags, descriptor area, device area, driver area, log: as SET_VRING_ADDR has them.
    var address: [UInt64]?
    var base: UInt32
    var agreedBase: UInt32
    var isPolled: Bool
    var kick: Int?
    var call: Int?
    var error: Int?
    var enabled: Bool?
    /// Whether it ran, or would have if its own addresses were known.
    var isHeld: Bool
  }

  /// `GuestRegion`, and how often it was added again.
  public struct Region: Codable, Sendable, Equatable {
    var guestAddress: UInt64
    var size: UInt64
    var userAddress: UInt64
    var mmapOffset: UInt64
    var file: Int
    var repeats: Int
  }

  var connection: Int
  /// `nil`: before SET_FEATURES.
  var features: UInt64?
  var protocolFeatures: UInt64
  var status: UInt8
  var rings: [RingState]
  var regions: [Region]
  /// The channel for requests of our own, and what is left of a message that was begun.
  var channel: Int?
  var rest: [UInt8]
}

/// Why a session can't go to another process, or come from one: a sentence for a person.
public struct HandOverError: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}
