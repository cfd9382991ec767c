/// What a port of one kind shows of itself, beside what every port shows: a member of `Port`.
public protocol AttachmentStatus: Codable, Sendable, Equatable {
  static var kind: PortKind { get }

  /// The key of it in the JSON of a `Port`.
  static var key: String { get }

  /// Where the port leads to, in a word: the last column of `swivel ports`.
  var place: String { get }

  /// The front-end's socket to which the port connects, where it is the one that does.
  var connectsTo: String? { get }

  /// Lines of `swivel port show`, in their order.
  var facts: [Fact] { get }

  /// What follows there below the rings.
  var paragraphs: [Paragraph] { get }
}

extension AttachmentStatus {
  public var connectsTo: String? { nil }
  public var paragraphs: [Paragraph] { [] }
}

/// A name and a value, for a person.
public struct Fact: Sendable, Equatable {
  public var name: String
  public var value: String

  public init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

/// A paragraph for a person. How lines are broken and columns set is for whoever prints it.
public enum Paragraph: Sendable, Equatable {
  /// One line behind a title.
  case line(String, String)
  /// Names behind a title; it says so when there are none.
  case list(String, [String])
  /// Rows of as many cells as there are columns, all set to the right; a line with the title when there are none.
  case table(String, columns: [String], rows: [[String]])
}
