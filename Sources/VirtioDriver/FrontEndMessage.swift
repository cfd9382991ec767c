public import Linux

/// The code of a vhost-user request; any number, as hostile tests send unknown ones.
public struct FrontEndRequest: RawRepresentable, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let getFeatures = FrontEndRequest(rawValue: 1)
  public static let setFeatures = FrontEndRequest(rawValue: 2)
  public static let setOwner = FrontEndRequest(rawValue: 3)
  public static let resetOwner = FrontEndRequest(rawValue: 4)
  public static let setMemTable = FrontEndRequest(rawValue: 5)
  public static let setLogBase = FrontEndRequest(rawValue: 6)
  public static let setLogFD = FrontEndRequest(rawValue: 7)
  public static let setVringNum = FrontEndRequest(rawValue: 8)
  public static let setVringAddr = FrontEndRequest(rawValue: 9)
  public static let setVringBase = FrontEndRequest(rawValue: 10)
  public static let getVringBase = FrontEndRequest(rawValue: 11)
  public static let setVringKick = FrontEndRequest(rawValue: 12)
  public static let setVringCall = FrontEndRequest(rawValue: 13)
  public static let setVringErr = FrontEndRequest(rawValue: 14)
  public static let getProtocolFeatures = FrontEndRequest(rawValue: 15)
  public static let setProtocolFeatures = FrontEndRequest(rawValue: 16)
  public static let getQueueNum = FrontEndRequest(rawValue: 17)
  public static let setVringEnable = FrontEndRequest(rawValue: 18)
  public static let sendRARP = FrontEndRequest(rawValue: 19)
  public static let netSetMTU = FrontEndRequest(rawValue: 20)
  public static let setBackendReqFD = FrontEndRequest(rawValue: 21)
  public static let iotlbMsg = FrontEndRequest(rawValue: 22)
  public static let resetDevice = FrontEndRequest(rawValue: 34)
  public static let getMaxMemSlots = FrontEndRequest(rawValue: 36)
  public static let addMemReg = FrontEndRequest(rawValue: 37)
  public static let remMemReg = FrontEndRequest(rawValue: 38)
  public static let setStatus = FrontEndRequest(rawValue: 39)
  public static let getStatus = FrontEndRequest(rawValue: 40)
}

/// One vhost-user message (vhost-user.rst, "Message Specification"): a header of three native-endian
/// 32-bit words (request, flags, payload bytes), the payload, and descriptors beside it.
public struct FrontEndMessage: Sendable {
  /// Version 1, in the two lowest bits of the flags.
  public static let version: UInt32 = 1
  public static let reply: UInt32 = 1 << 2
  public static let needReply: UInt32 = 1 << 3
  public static let headerLength = 12
  /// No reply is longer.
  public static let maxPayload = 4096

  public var request: FrontEndRequest
  public var flags: UInt32
  public var payload: [UInt8]
  public var descriptors: [OwnedFD]

  public init(
    _ request: FrontEndRequest, flags: UInt32 = FrontEndMessage.version, payload: [UInt8] = [],
    descriptors: [OwnedFD] = []
  ) {
    self.request = request
    self.flags = flags
    self.payload = payload
    self.descriptors = descriptors
  }

  /// Header and payload.
  public var bytes: [UInt8] {
    FrontEndMessage.words(request.rawValue, flags, UInt32(payload.count)) + payload
  }

  /// The payload as a 64-bit word, or `nil` when it is not eight bytes long.
  public var word64: UInt64? {
    payload.count == 8 ? FrontEndMessage.load(payload, at: 0) : nil
  }

  /// The payload as a vring state (index, number), or `nil` when it is not eight bytes long.
  public var state: (index: UInt32, number: UInt32)? {
    payload.count == 8
      ? (FrontEndMessage.load(payload, at: 0), FrontEndMessage.load(payload, at: 4)) : nil
  }

  /// Integers one after the other, as a payload has them.
  public static func words<Word: FixedWidthInteger>(_ values: Word...) -> [UInt8] {
    values.flatMap { value in
      (0..<Word.bitWidth / 8).map { UInt8(truncatingIfNeeded: value.littleEndian >> (8 * $0)) }
    }
  }

  /// The integer at `offset` of `bytes`.
  public static func load<Word: FixedWidthInteger>(_ bytes: [UInt8], at offset: Int) -> Word {
    (0..<Word.bitWidth / 8).reduce(0) {
      $0 | Word(truncatingIfNeeded: bytes[offset + $1]) << (8 * $1)
    }
  }

  /// The 32-byte description of a region: guest address (and `shift`), size, user address, offset in the file.
  public static func region(_ region: GuestMemory.Region, shift: UInt64 = 0) -> [UInt8] {
    words(
      region.guestAddress + shift, UInt64(region.length), region.userAddress, region.fileOffset)
  }

  /// The 32-byte payload of an IOTLB message.
  public static func iotlb(
    address: UInt64, size: UInt64, userAddress: UInt64, access: UInt8, type: UInt8
  ) -> [UInt8] {
    words(address, size, userAddress) + [access, type, 0, 0, 0, 0, 0, 0]
  }
}
