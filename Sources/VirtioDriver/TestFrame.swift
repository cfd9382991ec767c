/// Frames that prove that they arrived whole and in order: behind the Ethernet header a mark, a stream, a
/// sequence number, the frame's length and a checksum over everything before and behind it; the rest is
/// filled with bytes that follow from the sequence number.
public enum TestFrame {
  /// The shortest test frame, without a VLAN tag.
  public static let minLength = 14 + header
  /// Mark (4), stream (4), sequence (8), length (4), checksum (8).
  private static let header = 28
  private static let mark: UInt32 = 0x5357_564c

  /// What a frame says of itself.
  public struct Content: Sendable, Hashable {
    public var stream: UInt32
    public var sequence: UInt64
  }

  /// Makes a frame of `length` bytes, at least `minLength` (4 more with a tag).
  public static func make(
    to destination: EthernetAddress, from source: EthernetAddress, stream: UInt32 = 0,
    sequence: UInt64, length: Int = 64, vlan: UInt16? = nil
  ) -> [UInt8] {
    let start = vlan == nil ? 14 : 18
    precondition(length >= start + header, "too short for a test frame")
    var fill = [UInt8](repeating: 0, count: length - start - header)
    var state = sequence &* 0x9e37_79b9_7f4a_7c15 | 1
    for index in fill.indices {
      // xorshift64: any generator will do that is not constant.
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      fill[index] = UInt8(truncatingIfNeeded: state)
    }
    let front =
      EthernetFrame.make(to: destination, from: source, vlan: vlan)
      + FrontEndMessage.words(mark, stream) + FrontEndMessage.words(sequence)
      + FrontEndMessage.words(UInt32(length))
    return front + FrontEndMessage.words(checksum(front, fill[...])) + fill
  }

  /// The content of a test frame, or `nil` for a frame that is none or did not arrive intact. A frame
  /// may have been padded at its end, to 60 bytes, by whatever it came through.
  public static func verify(_ frame: [UInt8]) -> Content? {
    let start = frame.count > 13 && frame[12] == 0x81 && frame[13] == 0 ? 18 : 14
    guard frame.count >= start + header else { return nil }
    let found: UInt32 = FrontEndMessage.load(frame, at: start)
    let length = Int(FrontEndMessage.load(frame, at: start + 16) as UInt32)
    guard found == mark, length >= start + header, length <= frame.count,
      length == frame.count || frame.count == 60
    else { return nil }
    let sum: UInt64 = FrontEndMessage.load(frame, at: start + 20)
    let whole = checksum(Array(frame[..<(start + 20)]), frame[(start + header)..<length])
    guard sum == whole else { return nil }
    return Content(
      stream: FrontEndMessage.load(frame, at: start + 4),
      sequence: FrontEndMessage.load(frame, at: start + 8))
  }

  /// FNV-1a, 64 bits, over both parts.
  private static func checksum(_ front: [UInt8], _ back: ArraySlice<UInt8>) -> UInt64 {
    var sum: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in front { sum = (sum ^ UInt64(byte)) &* 0x100_0000_01b3 }
    for byte in back { sum = (sum ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return sum
  }
}

/// The receiver of one stream of test frames: counts what came whole, in order, and what did not.
public struct SequenceChecker: Sendable {
  public private(set) var received = 0
  /// Sequence numbers that were passed over.
  public private(set) var missing = 0
  /// Frames whose number was not above the last one's.
  public private(set) var reordered = 0
  public private(set) var corrupt = 0
  public private(set) var next: UInt64 = 0

  public init() {}

  /// Whether everything so far came whole, in order and without a gap.
  public var isClean: Bool { missing == 0 && reordered == 0 && corrupt == 0 }

  public mutating func accept(_ frame: [UInt8]) {
    guard let content = TestFrame.verify(frame) else {
      corrupt += 1
      return
    }
    received += 1
    if content.sequence < next {
      reordered += 1
    } else {
      missing += Int(content.sequence - next)
      next = content.sequence + 1
    }
  }
}
