/// Reads the fields of a part of a port, whatever language they are written in: JSON (`Control`) or YAML
/// (`Configuration`). So each kind of port says once which fields it has.
///
/// A reader either throws at the first field that is not as it should be, or notes it and goes on so as to find all of
/// them: its `Failure` is `Never` then, it answers an empty string or `nil`, and what was read is thrown away.
public protocol FieldReader {
  /// What it throws.
  associatedtype Failure: Error

  /// A string that must be there.
  mutating func requiredString(_ key: String) throws(Failure) -> String

  /// A string; `nil` when there is none.
  mutating func string(_ key: String) throws(Failure) -> String?

  /// A whole number; `nil` when there is none.
  mutating func integer(_ key: String) throws(Failure) -> Int?

  /// A word, or a list of words; `nil` when there is none.
  mutating func words(_ key: String) throws(Failure) -> [String]?

  /// One of the words of an enumeration; `nil` when there is none.
  mutating func choice<Value: RawRepresentable<String> & CaseIterable>(
    _ key: String, as type: Value.Type
  ) throws(Failure) -> Value?
}

extension FieldReader {
  /// One of the words of an enumeration that follows from where the value goes.
  public mutating func choice<Value: RawRepresentable<String> & CaseIterable>(
    _ key: String
  ) throws(Failure) -> Value? {
    try choice(key, as: Value.self)
  }
}
