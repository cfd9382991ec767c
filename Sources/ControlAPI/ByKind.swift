/// At most one value for each kind of port: what requests and ports hold of the kinds, so that neither names any.
struct ByKind<Value: Sendable>: Sendable {
  private var values: [PortKind: Value] = [:]

  subscript(kind: PortKind) -> Value? {
    get { values[kind] }
    set { values[kind] = newValue }
  }

  /// In the order of the kinds.
  var all: [Value] { PortKind.allCases.compactMap { values[$0] } }
}

/// The values are of types that are only known at run time (`any Attachment`), and such have no `==` of their own.
extension ByKind: Equatable {
  static func == (left: ByKind, right: ByKind) -> Bool {
    PortKind.allCases.allSatisfy { kind in
      switch (left.values[kind], right.values[kind]) {
      case (nil, nil): true
      case (let one?, let other?): isSame(one, other)
      default: false
      }
    }
  }

  private static func isSame(_ one: Any, _ other: Any) -> Bool {
    func compare<Known: Equatable>(_ one: Known) -> Bool { one == other as? Known }
    guard let one = one as? any Equatable else { return false }
    return compare(one)
  }
}

/// A key that a kind of port brings along.
struct TextKey: CodingKey {
  var stringValue: String
  var intValue: Int? { nil }

  init(_ text: String) { stringValue = text }
  init?(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}
