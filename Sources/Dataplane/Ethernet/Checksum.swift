/// A running Internet checksum (RFC 1071): the one's complement sum of 16-bit words.
///
/// Words are summed in the machine's own byte order, which only decides in which order the two bytes of the result
/// are stored: the machine's own again.
struct Checksum {
  private var sum: UInt64 = 0
  /// Whether an odd number of bytes has been added: the next one is the second of a word.
  private var isOdd = false

  /// Adds `length` bytes, no more than 64 KiB at a time.
  mutating func add(_ base: UnsafeRawPointer, _ length: Int) {
    // 64 bits at a time, the carry added at the other end: an addition with carry is one instruction, which vectors lack.
    var whole: UInt64 = 0
    var offset = 0
    while offset &+ 32 <= length {
      // SAFETY: 32 bytes from `offset` lie within the `length` bytes that the caller has.
      let words = unsafe base + offset
      whole = unsafe Checksum.add(whole, words.loadUnaligned(as: UInt64.self))
      whole = unsafe Checksum.add(
        whole, words.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      whole = unsafe Checksum.add(
        whole, words.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
      whole = unsafe Checksum.add(
        whole, words.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
      offset &+= 32
    }
    var part = (whole & 0xFFFF_FFFF) &+ whole &>> 32
    while offset &+ 4 <= length {
      // SAFETY: four bytes from `offset` lie within the `length` bytes that the caller has.
      part &+= UInt64(unsafe base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
      offset &+= 4
    }
    if offset &+ 2 <= length {
      part &+= UInt64(unsafe base.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
      offset &+= 2
    }
    if offset < length {
      let last = UInt16(unsafe base.load(fromByteOffset: offset, as: UInt8.self))
      part &+= UInt64(last.littleEndian)
    }
    let folded = Checksum.fold(part)
    sum &+= UInt64(isOdd ? folded.byteSwapped : folded)
    if length & 1 != 0 { isOdd.toggle() }
  }

  /// Adds one word, given as its value in network byte order means it.
  mutating func add(_ value: UInt16) {
    sum &+= UInt64(value.bigEndian)
  }

  /// Adds a word as it lies in memory.
  mutating func add(raw word: UInt16) {
    sum &+= UInt64(word)
  }

  /// The sum so far, to be stored as it is.
  var folded: UInt16 { Checksum.fold(sum) }

  /// What goes into a checksum field: the complement. UDP reads 0 as "none", and the other form of zero is as right
  /// everywhere else.
  var field: UInt16 {
    let value = ~folded
    return value == 0 ? 0xFFFF : value
  }

  @inline(always)
  private static func add(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let (sum, carry) = a.addingReportingOverflow(b)
    return sum &+ (carry ? 1 : 0)
  }

  private static func fold(_ sum: UInt64) -> UInt16 {
    var sum = (sum & 0xFFFF_FFFF) &+ sum &>> 32
    sum = (sum & 0xFFFF_FFFF) &+ sum &>> 32
    sum = (sum & 0xFFFF) &+ sum &>> 16
    sum = (sum & 0xFFFF) &+ sum &>> 16
    sum = (sum & 0xFFFF) &+ sum &>> 16
    return UInt16(truncatingIfNeeded: sum)
  }
}
