internal import ControlAPI

/// A request's query, of which each name is known.
struct Filter {
  private let query: [String: String]

  init(_ request: HTTPRequest, names: [String]) throws(ServiceError) {
    if let alien = request.query.keys.sorted().first(where: { !names.contains($0) }) {
      let known =
        names.isEmpty ? "none is taken here" : "expected \(names.joined(separator: " or "))"
      throw ServiceError(.invalid, "unknown parameter \(quoted(alien)) in the query; \(known)")
    }
    query = request.query
  }

  subscript(name: String) -> String? { query[name] }

  /// The value as one of an enumeration's words.
  func word<Value: RawRepresentable<String> & CaseIterable>(
    _ name: String
  ) throws(ServiceError) -> Value? {
    guard let text = query[name] else { return nil }
    guard let value = Value(rawValue: text) else {
      let words = Value.allCases.map(\.rawValue).joined(separator: " or ")
      throw ServiceError(.invalid, "\(name) must be \(words), not \(quoted(text))")
    }
    return value
  }
}
