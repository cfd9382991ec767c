import ControlAPI
import Yams

/// A mapping whose keys are all known.
struct YAMLMapping {
  /// How messages call it.
  let place: String
  let mark: Mark?
  fileprivate(set) var values: [String: Node] = [:]

  subscript(key: String) -> Node? { values[key] }

  /// Where the value is that the keys lead to, or what is left of the way to it.
  func mark(_ keys: [String]) -> Mark? {
    var mark = mark
    var node: Node?
    for key in keys {
      node = node == nil ? self[key] : node?.mapping?[key]
      mark = node?.mark ?? mark
    }
    return mark
  }
}

/// A mapping as a kind of port reads its fields. What is wrong is noted, and nothing thrown, so that all of it is found.
struct YAMLFields: FieldReader {
  typealias Failure = Never

  var reader: ConfigurationReader
  let mapping: YAMLMapping

  mutating func requiredString(_ key: String) -> String { reader.required(mapping, key) ?? "" }

  mutating func string(_ key: String) -> String? { reader.string(mapping, key) }

  mutating func integer(_ key: String) -> Int? { reader.integer(mapping, key, in: nil) }

  mutating func words(_ key: String) -> [String]? { reader.words(mapping, key) }

  mutating func choice<Value: RawRepresentable<String> & CaseIterable>(
    _ key: String, as type: Value.Type
  ) -> Value? {
    reader.choice(mapping, key, as: type)
  }
}

/// One kind of value each: the value, or `nil` and a problem noted.
extension ConfigurationReader {
  mutating func mapping(_ node: Node, _ place: String, keys: [String]) -> YAMLMapping? {
    guard case .mapping(let pairs) = node else {
      note(node.mark, "\(place) must be a mapping, not \(described(node))")
      return nil
    }
    var mapping = YAMLMapping(place: place, mark: node.mark)
    for (key, value) in pairs {
      guard let name = key.scalar?.string, keys.contains(name) else {
        note(
          key.mark,
          key.scalar.map { unknownKey($0.string, in: place, expected: keys) }
            ?? "a key must be a word, not \(described(key))")
        continue
      }
      mapping.values[name] = value
    }
    return mapping
  }

  mutating func sequence(_ node: Node, _ place: String, of what: String) -> [Node]? {
    guard case .sequence(let sequence) = node else {
      note(node.mark, "\(place) must be a list of \(what), not \(described(node))")
      return nil
    }
    return Array(sequence)
  }

  /// A string; a number or a word such as `on` that stands where one is expected is taken as written, so
  /// that `permissions: 0660` and `owner: 107` mean what they say.
  mutating func string(_ mapping: YAMLMapping, _ key: String) -> String? {
    guard let node = mapping[key] else { return nil }
    guard let scalar = node.scalar, !isNull(node) else {
      note(node.mark, "\(mapping.place).\(key) must be a string, not \(described(node))")
      return nil
    }
    return scalar.string
  }

  /// A word, or a list of words.
  mutating func words(_ mapping: YAMLMapping, _ key: String) -> [String]? {
    guard let node = mapping[key] else { return nil }
    let place = "\(mapping.place).\(key)"
    guard case .sequence(let sequence) = node else { return string(mapping, key).map { [$0] } }
    return sequence.compactMap { element in
      if let scalar = element.scalar, !isNull(element) { return scalar.string }
      note(element.mark, "\(place) must be a list of words, not of \(described(element))")
      return nil
    }
  }

  mutating func required(_ mapping: YAMLMapping, _ key: String) -> String? {
    if mapping[key] == nil {
      note(mapping.mark, "the key '\(key)' is missing in \(mapping.place)")
    }
    return string(mapping, key)
  }

  mutating func integer(
    _ mapping: YAMLMapping, _ key: String, in range: ClosedRange<Int>?
  ) -> Int? {
    guard let node = mapping[key] else { return nil }
    return integer(node, "\(mapping.place).\(key)", in: range)
  }

  /// A decimal number. `010` is refused: YAML 1.1 reads an 8 there and YAML 1.2 a 10.
  mutating func integer(_ node: Node, _ place: String, in range: ClosedRange<Int>?) -> Int? {
    guard let scalar = node.scalar, scalar.style == .plain, let value = Int(scalar.string),
      String(value) == scalar.string
    else {
      note(node.mark, "\(place) must be a whole number, not \(described(node))")
      return nil
    }
    if let range, !range.contains(value) {
      note(
        node.mark, "\(place) must be \(range.lowerBound) to \(range.upperBound), not \(value)")
      return nil
    }
    return value
  }

  /// One of an enumeration's words.
  mutating func choice<Value: RawRepresentable<String> & CaseIterable>(
    _ mapping: YAMLMapping, _ key: String, as type: Value.Type = Value.self
  ) -> Value? {
    guard let node = mapping[key] else { return nil }
    if let text = node.scalar?.string, let value = Value(rawValue: text) { return value }
    let words = Value.allCases.map(\.rawValue).joined(separator: " or ")
    note(node.mark, "\(mapping.place).\(key) must be \(words), not \(described(node))")
    return nil
  }

  /// The value in a message's words.
  func described(_ node: Node) -> String {
    switch node {
    case .mapping: "a mapping"
    case .sequence: "a list"
    case .alias: "an alias"
    case .scalar(let scalar): isNull(node) ? "nothing" : quoted(scalar.string)
    }
  }

  func isNull(_ node: Node) -> Bool {
    guard let scalar = node.scalar, scalar.style == .plain else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
  }
}
