internal import ControlAPI
internal import Foundation

/// JSON of any shape: what a body is before it is known to be what was asked for.
private enum JSONValue: Decodable {
  case null
  case bool(Bool)
  case int(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self = .int(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([String: JSONValue].self) {
      self = .object(value)
    } else {
      self = .array(try container.decode([JSONValue].self))
    }
  }

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
}

/// An object of the body whose keys are taken one by one. `place` is how messages call it.
private struct JSONObject: FieldReader {
  typealias Failure = ServiceError

  private let members: [String: JSONValue]
  private let place: String

  init(_ value: JSONValue, place: String, keys: [String]) throws(ServiceError) {
    guard case .object(let members) = value else {
      throw ServiceError(.invalid, "\(place) must be an object, not \(value.kind)")
    }
    for key in members.keys.sorted() where !keys.contains(key) {
      throw ServiceError(.invalid, unknownKey(key, in: place, expected: keys))
    }
    self.members = members
    self.place = place
  }

  /// `nil` when the key is absent or null.
  func value(_ key: String) -> JSONValue? {
    guard let value = members[key] else { return nil }
    if case .null = value { return nil }
    return value
  }

  func string(_ key: String) throws(ServiceError) -> String? {
    guard let value = value(key) else { return nil }
    guard case .string(let string) = value else { throw wrong(key, "a string", value) }
    return string
  }

  func requiredString(_ key: String) throws(ServiceError) -> String {
    guard let string = try string(key) else {
      throw ServiceError(.invalid, "the key '\(key)' is missing in \(place)")
    }
    return string
  }

  func integer(_ key: String) throws(ServiceError) -> Int? {
    guard let value = value(key) else { return nil }
    guard case .int(let int) = value else { throw wrong(key, "a whole number", value) }
    return int
  }

  func words(_ key: String) throws(ServiceError) -> [String]? {
    guard let value = value(key) else { return nil }
    if case .string(let word) = value { return [word] }
    guard case .array(let elements) = value else {
      throw wrong(key, "a string or an array of strings", value)
    }
    var words: [String] = []
    for element in elements {
      guard case .string(let word) = element else {
        throw wrong(key, "a string or an array of strings", element)
      }
      words.append(word)
    }
    return words
  }

  func choice<Value: RawRepresentable<String> & CaseIterable>(
    _ key: String, as type: Value.Type
  ) throws(ServiceError) -> Value? {
    guard let word = try string(key) else { return nil }
    guard let value = Value(rawValue: word) else {
      let words = Value.allCases.map { "'\($0.rawValue)'" }.joined(separator: " or ")
      throw wrong(key, words, .string(word))
    }
    return value
  }

  private func wrong(_ key: String, _ expected: String, _ value: JSONValue) -> ServiceError {
    ServiceError(.invalid, "the key '\(key)' in \(place) must be \(expected), not \(value.kind)")
  }
}

extension PortRequest {
  /// Reads the body of `POST /v1/ports`. Throws `.invalid` that names the key that is unknown, missing or
  /// of the wrong type. What the values say is for `validate()`.
  init(json body: [UInt8]) throws(ServiceError) {
    if body.isEmpty {
      throw ServiceError(.invalid, "the body is empty; expected a port as a JSON object")
    }
    let value: JSONValue
    do {
      value = try JSONDecoder().decode(JSONValue.self, from: Data(body))
    } catch {
      throw ServiceError(.invalid, "the body is not JSON" + PortRequest.detail(of: body))
    }
    let top = try JSONObject(value, place: "the port", keys: PortRequest.keys)
    self.init(
      name: try top.requiredString("name"), mtu: try top.integer("mtu"),
      macs: try top.integer("macs"))
    for kind in PortKind.allCases {
      guard let value = top.value(kind.rawValue) else { continue }
      let type = kind.attachment
      var fields = try JSONObject(value, place: kind.rawValue, keys: type.keys)
      attach(try type.init(from: &fields))
    }
  }

  /// Where the parser gave up, when it says so. JSONDecoder keeps that to itself; the older parser tells.
  private static func detail(of body: [UInt8]) -> String {
    do {
      _ = try JSONSerialization.jsonObject(with: Data(body), options: .fragmentsAllowed)
      return ""
    } catch {
      let detail = (error as NSError).userInfo[NSDebugDescriptionErrorKey] as? String
      return detail.map { ": " + quoted($0) } ?? ""
    }
  }
}
