internal import ControlAPI

/// JSON of any shape (RFC 8259): what a body is before it is known to be what was asked for. What the grammar does not
/// have is refused (a comma before a bracket, NaN, comments), and so is a name that an object has twice: others would take
/// the one, others the other.
enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case int(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// How a message calls it.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .int(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): quoted(value)
    case .array: "an array"
    case .object: "an object"
    }
  }

  init(parsing bytes: [UInt8]) throws(JSONFault) {
    var parser = JSONParser(bytes: bytes)
    self = try parser.document()
  }
}

/// What is wrong with a text that is to be JSON, and behind which byte.
struct JSONFault: Error, Equatable, CustomStringConvertible {
  var message: String
  var offset: Int

  var description: String { "\(message) at byte \(offset)" }
}

private struct JSONParser {
  let bytes: [UInt8]
  private var next = 0
  private var depth = 0

  /// Arrays and objects within each other; a body has two.
  private static let deepest = 32

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func document() throws(JSONFault) -> JSONValue {
    let value = try value()
    skipSpace()
    if next < bytes.count { throw fault("something follows the value") }
    return value
  }

  private func fault(_ message: String) -> JSONFault { JSONFault(message: message, offset: next) }

  private mutating func skipSpace() {
    while next < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[next]) { next += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard next < bytes.count, bytes[next] == UInt8(ascii: character) else { return false }
    next += 1
    return true
  }

  private mutating func value() throws(JSONFault) -> JSONValue {
    skipSpace()
    guard next < bytes.count else { throw fault("a value is missing") }
    switch bytes[next] {
    case UInt8(ascii: "{"): return try nested { parser throws(JSONFault) in try parser.object() }
    case UInt8(ascii: "["): return try nested { parser throws(JSONFault) in try parser.array() }
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default:
      for (word, value) in [
        ("true", JSONValue.bool(true)), ("false", .bool(false)), ("null", .null),
      ]
      where bytes[next...].starts(with: word.utf8) {
        next += word.utf8.count
        return value
      }
      throw fault("there is no value")
    }
  }

  private mutating func nested(
    _ body: (inout JSONParser) throws(JSONFault) -> JSONValue
  ) throws(JSONFault) -> JSONValue {
    if depth == JSONParser.deepest { throw fault("arrays and objects lie too deep") }
    depth += 1
    next += 1
    let value = try body(&self)
    depth -= 1
    return value
  }

  private mutating func object() throws(JSONFault) -> JSONValue {
    var members: [String: JSONValue] = [:]
    if take("}") { return .object(members) }
    repeat {
      skipSpace()
      guard next < bytes.count, bytes[next] == UInt8(ascii: "\"") else {
        throw fault("a name in double quotes is missing")
      }
      let name = try string()
      if !take(":") { throw fault("a ':' is missing") }
      if members.updateValue(try value(), forKey: name) != nil {
        throw fault("the name \(quoted(name)) is there twice")
      }
    } while take(",")
    if !take("}") { throw fault("a ',' or '}' is missing") }
    return .object(members)
  }

  private mutating func array() throws(JSONFault) -> JSONValue {
    var elements: [JSONValue] = []
    if take("]") { return .array(elements) }
    repeat { elements.append(try value()) } while take(",")
    if !take("]") { throw fault("a ',' or ']' is missing") }
    return .array(elements)
  }

  private mutating func string() throws(JSONFault) -> String {
    next += 1
    var text: [UInt8] = []
    while next < bytes.count {
      let byte = bytes[next]
      next += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let string = String(validating: text, as: UTF8.self) else {
          throw fault("a string is not UTF-8")
        }
        return string
      case UInt8(ascii: "\\"): text += try escaped().utf8
      case 0..<0x20: throw fault("a control character stands in a string")
      default: text.append(byte)
      }
    }
    throw fault("a string has no end")
  }

  private mutating func escaped() throws(JSONFault) -> String {
    guard next < bytes.count else { throw fault("a string has no end") }
    let plain: [UInt8: String] = [
      0x22: "\"", 0x5c: "\\", 0x2f: "/", 0x62: "\u{8}", 0x66: "\u{c}", 0x6e: "\n", 0x72: "\r",
      0x74: "\t",
    ]
    let byte = bytes[next]
    next += 1
    if let character = plain[byte] { return character }
    guard byte == UInt8(ascii: "u") else { throw fault("there is no such escape") }
    var unit = try hexadecimal()
    if (0xD800..<0xDC00).contains(unit), bytes[next...].starts(with: "\\u".utf8) {
      next += 2
      let low = try hexadecimal()
      guard (0xDC00..<0xE000).contains(low) else { throw fault("half of a pair stands alone") }
      unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(unit) else { throw fault("half of a pair stands alone") }
    return String(Character(scalar))
  }

  private mutating func hexadecimal() throws(JSONFault) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard next < bytes.count, let digit = Character(Unicode.Scalar(bytes[next])).hexDigitValue
      else {
        throw fault("four hexadecimal digits are missing")
      }
      value = value << 4 | UInt32(digit)
      next += 1
    }
    return value
  }

  private mutating func digits() -> Int {
    let start = next
    while next < bytes.count, (0x30...0x39).contains(bytes[next]) { next += 1 }
    return next - start
  }

  private mutating func number() throws(JSONFault) -> JSONValue {
    let start = next
    if bytes[next] == UInt8(ascii: "-") { next += 1 }
    let leadsWithZero = next < bytes.count && bytes[next] == UInt8(ascii: "0")
    let whole = digits()
    if whole == 0 || leadsWithZero && whole > 1 { throw fault("this is no number") }
    if next < bytes.count, bytes[next] == UInt8(ascii: ".") {
      next += 1
      if digits() == 0 { throw fault("this is no number") }
    }
    if next < bytes.count, bytes[next] | 0x20 == UInt8(ascii: "e") {
      next += 1
      if next < bytes.count, [0x2b, 0x2d].contains(bytes[next]) { next += 1 }
      if digits() == 0 { throw fault("this is no number") }
    }
    let text = String(decoding: bytes[start..<next], as: UTF8.self)
    if let int = Int(text) { return .int(int) }
    guard let double = Double(text), double.isFinite else {
      throw fault("this number is too large")
    }
    // 1500.0 is a whole number in JSON's eyes, and in its schemas'.
    if let int = Int(exactly: double) { return .int(int) }
    return .number(double)
  }
}
