/// Reads numbers in the machine's byte order, one after another. The caller has checked that they are
/// there: reading beyond the end traps.
struct PayloadReader {
  private let bytes: [UInt8]
  private var offset = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  mutating func next<Number: FixedWidthInteger>() -> Number {
    var value: Number = 0
    for byte in 0..<(Number.bitWidth / 8) {
      value |= Number(bytes[offset + byte]) << (8 * byte)
    }
    offset += Number.bitWidth / 8
    return Number(littleEndian: value)
  }
}

/// Writes numbers in the machine's byte order, one after another.
struct PayloadWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append<Number: FixedWidthInteger>(_ value: Number) {
    let value = value.littleEndian
    for byte in 0..<(Number.bitWidth / 8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> (8 * byte)))
    }
  }
}

/// A payload of fixed layout.
protocol Payload {
  /// Bytes on the wire.
  static var length: Int { get }
  init(from reader: inout PayloadReader)
  func write(to writer: inout PayloadWriter)
}

extension Payload {
  /// Decodes the first `length` bytes, which must be there: `Message.checkShape` has seen to it.
  init(_ bytes: [UInt8]) {
    var reader = PayloadReader(bytes)
    self.init(from: &reader)
  }

  var bytes: [UInt8] {
    var writer = PayloadWriter()
    write(to: &writer)
    return writer.bytes
  }
}

extension UInt64: Payload {
  static var length: Int { 8 }
  init(from reader: inout PayloadReader) { self = reader.next() }
  func write(to writer: inout PayloadWriter) { writer.append(self) }
}

/// "A vring state description": a ring and a number.
struct VringState: Payload, Equatable {
  static let length = 8
  var index: UInt32
  var number: UInt32

  init(index: UInt32, number: UInt32) {
    self.index = index
    self.number = number
  }

  init(from reader: inout PayloadReader) {
    index = reader.next()
    number = reader.next()
  }

  func write(to writer: inout PayloadWriter) {
    writer.append(index)
    writer.append(number)
  }
}

/// "A vring address description": user addresses of the front-end, and where to log the used ring.
struct VringAddress: Payload, Equatable {
  static let length = 40
  /// VHOST_VRING_F_LOG: writes to the used ring are logged at `log`.
  static let logFlag: UInt32 = 1

  var index: UInt32
  var flags: UInt32
  var descriptor: UInt64
  var used: UInt64
  var available: UInt64
  var log: UInt64

  init(
    index: UInt32, flags: UInt32, descriptor: UInt64, used: UInt64, available: UInt64, log: UInt64
  ) {
    self.index = index
    self.flags = flags
    self.descriptor = descriptor
    self.used = used
    self.available = available
    self.log = log
  }

  init(from reader: inout PayloadReader) {
    index = reader.next()
    flags = reader.next()
    descriptor = reader.next()
    used = reader.next()
    available = reader.next()
    log = reader.next()
  }

  func write(to writer: inout PayloadWriter) {
    writer.append(index)
    writer.append(flags)
    for address in [descriptor, used, available, log] { writer.append(address) }
  }
}

/// One region of "Memory regions description".
struct RegionDescription: Payload, Equatable {
  static let length = 32
  var guestAddress: UInt64
  var size: UInt64
  var userAddress: UInt64
  var mmapOffset: UInt64

  init(guestAddress: UInt64, size: UInt64, userAddress: UInt64, mmapOffset: UInt64) {
    self.guestAddress = guestAddress
    self.size = size
    self.userAddress = userAddress
    self.mmapOffset = mmapOffset
  }

  init(from reader: inout PayloadReader) {
    guestAddress = reader.next()
    size = reader.next()
    userAddress = reader.next()
    mmapOffset = reader.next()
  }

  func write(to writer: inout PayloadWriter) {
    for value in [guestAddress, size, userAddress, mmapOffset] { writer.append(value) }
  }
}

/// "Memory regions description": a count, padding, and so many regions. Its length depends on the count.
struct MemoryTable: Equatable {
  static let headLength = 8
  var regions: [RegionDescription]

  init(regions: [RegionDescription]) { self.regions = regions }

  /// `nil` when the bytes are not as long as their count of regions says.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= MemoryTable.headLength else { return nil }
    var reader = PayloadReader(bytes)
    let count: UInt32 = reader.next()
    let _: UInt32 = reader.next()
    let expected = UInt64(MemoryTable.headLength) + UInt64(count) * UInt64(RegionDescription.length)
    guard UInt64(bytes.count) == expected else { return nil }
    regions = (0..<Int(count)).map { _ in RegionDescription(from: &reader) }
  }

  var bytes: [UInt8] {
    var writer = PayloadWriter()
    writer.append(UInt32(regions.count))
    writer.append(UInt32(0))
    for region in regions { region.write(to: &writer) }
    return writer.bytes
  }
}

/// "Single memory region description": padding and a region.
struct SingleRegion: Payload, Equatable {
  static let length = 40
  var region: RegionDescription

  init(_ region: RegionDescription) { self.region = region }

  init(from reader: inout PayloadReader) {
    let _: UInt64 = reader.next()
    region = RegionDescription(from: &reader)
  }

  func write(to writer: inout PayloadWriter) {
    writer.append(UInt64(0))
    region.write(to: &writer)
  }
}

/// "Log description": the size of the log and where it begins in its file, in bytes.
struct LogDescription: Payload, Equatable {
  static let length = 16
  var size: UInt64
  var offset: UInt64

  init(size: UInt64, offset: UInt64) {
    self.size = size
    self.offset = offset
  }

  init(from reader: inout PayloadReader) {
    size = reader.next()
    offset = reader.next()
  }

  func write(to writer: inout PayloadWriter) {
    writer.append(size)
    writer.append(offset)
  }
}

/// The payload of SET_VRING_KICK, _CALL and _ERR (E78): bits 0–7 the ring, bit 8: no descriptor comes.
struct VringFile: Equatable {
  static let noDescriptor: UInt64 = 1 << 8
  var value: UInt64

  init(_ value: UInt64) { self.value = value }

  var index: UInt32 { UInt32(value & 0xFF) }
  var hasDescriptor: Bool { value & VringFile.noDescriptor == 0 }
  /// Bits that the specification gives no meaning: a ring beyond 255 would look like this.
  var strayBits: UInt64 { value & ~0x1FF }
}
