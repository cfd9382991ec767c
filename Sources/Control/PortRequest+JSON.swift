internal import ControlAPI

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

  /// `nil` when the key is absent.
  func value(_ key: String) -> JSONValue? { members[key] }

  /// What is to become of `key`: a value as `read` has it, or, as `null`, what holds where nothing is said.
  func setting<Value>(
    _ key: String, _ read: (String) throws(ServiceError) -> Value?
  ) throws(ServiceError) -> PortChange.Setting<Value>? {
    if members[key] == .null { return .standard }
    return try read(key).map { .value($0) }
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

extension JSONValue {
  /// The body of a request. `what` is how messages call what it is to be.
  init(body: [UInt8], as what: String) throws(ServiceError) {
    if body.isEmpty {
      throw ServiceError(.invalid, "the body is empty; expected \(what) as a JSON object")
    }
    do throws(JSONFault) {
      self = try JSONValue(parsing: body)
    } catch {
      throw ServiceError(.invalid, "the body is not JSON: \(error)")
    }
  }
}

extension PortRequest {
  /// Reads the body of `POST /v1/ports`. Throws `.invalid` that names the key that is unknown, missing or
  /// of the wrong type. What the values say is for `validate()`.
  init(json body: [UInt8]) throws(ServiceError) {
    let value = try JSONValue(body: body, as: "a port")
    let top = try JSONObject(value, place: "the port", keys: PortRequest.keys)
    self.init(
      name: try top.requiredString("name"), mtu: try top.integer("mtu"),
      macs: try top.integer("macs"), link: try top.choice("link", as: PortLink.self))
    for kind in PortKind.allCases {
      guard let value = top.value(kind.rawValue) else { continue }
      let type = kind.attachment
      var fields = try JSONObject(value, place: kind.rawValue, keys: type.keys)
      attach(try type.init(from: &fields))
    }
  }
}

extension PortChange {
  /// Reads the body of `PATCH /v1/ports/NAME`.
  init(json body: [UInt8]) throws(ServiceError) {
    let value = try JSONValue(body: body, as: "what is to change")
    let top = try JSONObject(value, place: "the change", keys: PortChange.keys)
    func integer(_ key: String) throws(ServiceError) -> Int? { try top.integer(key) }
    func string(_ key: String) throws(ServiceError) -> String? { try top.string(key) }
    func link(_ key: String) throws(ServiceError) -> PortLink? {
      try top.choice(key, as: PortLink.self)
    }
    self.init(
      mtu: try top.setting("mtu", integer), macs: try top.setting("macs", integer),
      link: try top.setting("link", link), owner: try top.setting("owner", string),
      group: try top.setting("group", string),
      permissions: try top.setting("permissions", string),
      memory: try top.setting("memory", string), regions: try top.setting("regions", integer))
    if isEmpty {
      throw ServiceError(
        .invalid,
        "nothing is to change; expected some of \(PortChange.keys.joined(separator: ", "))")
    }
  }
}

/// A body with one member.
enum SingleMember {
  /// The string under `key`, the only one that may be there.
  static func string(_ key: String, in body: [UInt8]) throws(ServiceError) -> String {
    let value = try JSONValue(body: body, as: "'\(key)'")
    return try JSONObject(value, place: "the body", keys: [key]).requiredString(key)
  }

  /// The whole number under `key`, the only one that may be there.
  static func integer(
    _ key: String, in body: [UInt8], range: ClosedRange<Int>
  ) throws(ServiceError) -> Int {
    let value = try JSONValue(body: body, as: "'\(key)'")
    let object = try JSONObject(value, place: "the body", keys: [key])
    guard let number = try object.integer(key) else {
      throw ServiceError(.invalid, "the key '\(key)' is missing in the body")
    }
    guard range.contains(number) else {
      throw ServiceError(
        .invalid, "\(key) must be \(range.lowerBound) to \(range.upperBound), not \(number)")
    }
    return number
  }
}
