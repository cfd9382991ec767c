/// The Internet checksum (RFC 1071): ones' complement sums of 16-bit big-endian words.
public enum InternetChecksum {
  /// The folded sum of `bytes`, not complemented; an odd last byte counts as the high one of a word.
  ///
  /// - Parameter initial: a folded sum to begin with.
  public static func sum(_ bytes: ArraySlice<UInt8>, _ initial: UInt16 = 0) -> UInt16 {
    // Summed as words of this machine's order, which turns no carry the wrong way (RFC 1071, 2B), and as
    // eight bytes at a time, as tests run unoptimised.
    var total = unsafe bytes.withUnsafeBytes { buffer in
      var total: UInt64 = 0
      var offset = 0
      while offset + 8 <= buffer.count {
        // SAFETY: eight bytes are there, by the line above.
        let word = unsafe buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        total &+= (word & 0xFFFF_FFFF) &+ (word &>> 32)
        offset &+= 8
      }
      while offset < buffer.count {
        let byte = unsafe UInt64(buffer[offset])
        total &+= offset & 1 == 0 ? byte : byte &<< 8
        offset &+= 1
      }
      return total
    }
    total = UInt64(fold(total).bigEndian) &+ UInt64(initial)
    return fold(total)
  }

  /// The folded sum of 16-bit words.
  public static func sum(words: [UInt16]) -> UInt16 { fold(words.reduce(0) { $0 &+ UInt64($1) }) }

  private static func fold(_ total: UInt64) -> UInt16 {
    var total = total
    while total > 0xFFFF { total = (total & 0xFFFF) &+ (total &>> 16) }
    return UInt16(truncatingIfNeeded: total)
  }

  /// Whether two sums say the same: zero has two forms.
  public static func same(_ first: UInt16, _ second: UInt16) -> Bool {
    first == second || (first == 0 && second == 0xFFFF) || (first == 0xFFFF && second == 0)
  }
}
