/// The bytes of an input, taken from the front. Beyond the end there are zeroes: no input is too short.
struct Input {
  private let bytes: [UInt8]
  private var offset = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var isEmpty: Bool { offset == bytes.count }

  mutating func byte() -> UInt8 {
    guard offset < bytes.count else { return 0 }
    defer { offset += 1 }
    return bytes[offset]
  }

  /// A number in little-endian order.
  mutating func number<Number: FixedWidthInteger>(_ type: Number.Type = Number.self) -> Number {
    var value: Number = 0
    for place in 0..<(Number.bitWidth / 8) { value |= Number(byte()) << (8 * place) }
    return value
  }

  /// The next `count` bytes, or as many as there are.
  mutating func take(_ count: Int) -> [UInt8] {
    let end = min(bytes.count, offset + count)
    defer { offset = end }
    return Array(bytes[offset..<end])
  }

  mutating func rest() -> [UInt8] { take(bytes.count) }
}
