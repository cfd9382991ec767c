import Foundation
import Testing

/// An OpenAPI document, and enough of JSON Schema to judge values by it. A keyword that it does not know is
/// a fault, so that the document can't promise what nobody checks.
struct Document: @unchecked Sendable {
  let root: [String: Any]

  func object(_ keys: String...) throws -> [String: Any] {
    var value = root
    for key in keys {
      value = try #require(value[key] as? [String: Any], "no \(key) in \(keys)")
    }
    return value
  }

  /// Follows `$ref`.
  func resolved(_ value: Any) throws -> [String: Any] {
    let object = try #require(value as? [String: Any])
    guard let reference = object["$ref"] as? String else { return object }
    var target: Any = root
    for key in reference.split(separator: "/").dropFirst() {
      target = try #require((target as? [String: Any])?[String(key)], "\(reference) leads nowhere")
    }
    return try resolved(target)
  }

  private static let known: Set<String> = [
    "type", "description", "additionalProperties", "required", "properties", "items", "enum",
    "pattern", "minimum", "maximum", "minLength", "maxLength", "oneOf", "anyOf", "allOf", "not",
    "nullable", "minProperties",
  ]

  /// What is wrong with `value`; empty when it fits.
  func faults(of value: Any, _ schema: Any, at place: String) throws -> [String] {
    let schema = try resolved(schema)
    var faults = schema.keys.filter { !Document.known.contains($0) }.map {
      "\(place): unknown keyword \($0)"
    }
    if value is NSNull, schema["nullable"] as? Bool == true { return faults }
    faults += try combinations(of: value, schema, place)
    // A schema that only combines others says nothing of the type itself.
    guard let type = schema["type"] as? String else {
      if let object = value as? [String: Any] { faults += try parts(object, schema, place) }
      return faults
    }
    switch type {
    case "object":
      guard let object = value as? [String: Any] else { return ["\(place) is no object"] }
      faults += try members(object, schema, place)
    case "array":
      guard let array = value as? [Any] else { return ["\(place) is no array"] }
      let items = try #require(schema["items"])
      for (index, element) in array.enumerated() {
        faults += try self.faults(of: element, items, at: "\(place)[\(index)]")
      }
    case "string":
      guard let string = value as? String else { return ["\(place) is no string"] }
      // Of OpenAPI, in Unicode's characters.
      let length = string.unicodeScalars.count
      if let least = schema["minLength"] as? Int, length < least {
        faults.append("\(place) is too short")
      }
      if let most = schema["maxLength"] as? Int, length > most {
        faults.append("\(place) is too long")
      }
      if let values = schema["enum"] as? [String], !values.contains(string) {
        faults.append("\(place) is none of \(values)")
      }
      if let pattern = schema["pattern"] as? String,
        string.range(of: pattern, options: .regularExpression) == nil
      {
        faults.append("\(place) does not match \(pattern)")
      }
    case "boolean":
      if !(value is Bool) { faults.append("\(place) is no boolean") }
    case let type:
      guard let number = value as? NSNumber, !(value is String) else {
        return ["\(place) is no number"]
      }
      let double = number.doubleValue
      if type == "integer", double.rounded() != double { faults.append("\(place) is no integer") }
      if let least = schema["minimum"] as? Int, double < Double(least) {
        faults.append("\(place) is less than \(least)")
      }
      if let most = schema["maximum"] as? Int, double > Double(most) {
        faults.append("\(place) is more than \(most)")
      }
    }
    return faults
  }

  private func combinations(
    of value: Any, _ schema: [String: Any], _ place: String
  ) throws -> [String] {
    func fitting(_ key: String) throws -> Int? {
      try (schema[key] as? [Any])?.count { part in
        try self.faults(of: value, part, at: place).isEmpty
      }
    }
    var faults: [String] = []
    if let count = try fitting("oneOf"), count != 1 {
      faults.append("\(place) fits \(count) of oneOf")
    }
    if let count = try fitting("anyOf"), count == 0 { faults.append("\(place) fits none of anyOf") }
    for part in schema["allOf"] as? [Any] ?? [] {
      faults += try self.faults(of: value, part, at: place)
    }
    if let other = schema["not"], try self.faults(of: value, other, at: place).isEmpty {
      faults.append("\(place) fits what it must not")
    }
    return faults
  }

  /// The members and properties of a schema that allows others.
  private func parts(
    _ object: [String: Any], _ schema: [String: Any], _ place: String
  ) throws -> [String] {
    var faults = (schema["required"] as? [String] ?? []).filter { object[$0] == nil }.map {
      "\(place).\($0) is missing"
    }
    for (key, property) in schema["properties"] as? [String: Any] ?? [:] {
      if let value = object[key] {
        faults += try self.faults(of: value, property, at: "\(place).\(key)")
      }
    }
    return faults
  }

  private func members(
    _ object: [String: Any], _ schema: [String: Any], _ place: String
  ) throws -> [String] {
    let properties = schema["properties"] as? [String: Any] ?? [:]
    var faults = (schema["required"] as? [String] ?? []).filter { object[$0] == nil }.map {
      "\(place).\($0) is missing"
    }
    if let least = schema["minProperties"] as? Int, object.count < least {
      faults.append("\(place) has too few members")
    }
    for (key, value) in object {
      if let property = properties[key] {
        faults += try self.faults(of: value, property, at: "\(place).\(key)")
      } else if let rest = schema["additionalProperties"] as? [String: Any] {
        faults += try self.faults(of: value, rest, at: "\(place).\(key)")
      } else {
        faults.append("\(place).\(key) is not in the schema")
      }
    }
    return faults
  }
}
