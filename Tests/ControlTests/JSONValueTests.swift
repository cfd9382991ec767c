import Foundation
import Testing

@testable import Control

/// The grammar of RFC 8259, and nothing beside it.
@Suite struct JSONValueTests {
  private func value(_ text: String) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8))
  }

  @Test func whatTheGrammarHasIsRead() throws {
    #expect(
      try value(" [1, -0, 2.5, 1e3, 1.50e-2, true, false, null] ")
        == .array([
          .int(1), .int(0), .number(2.5), .int(1000), .number(0.015), .bool(true), .bool(false),
          .null,
        ]))
    #expect(
      try value(#"{"a":{"b":[]},"":"x"}"#)
        == .object(["a": .object(["b": .array([])]), "": .string("x")]))
    #expect(
      try value(#""\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00""#) == .string("\"\\/\u{8}\u{c}\n\r\téé😀"))
    #expect(try value("-9223372036854775808") == .int(.min))
    #expect(try value("9223372036854775808") == .number(9_223_372_036_854_775_808))
  }

  @Test(arguments: [
    "", " ", "[1,]", "[,1]", "{,}", #"{"a":1,}"#, "[1 2]", "{a:1}", "{'a':1}", #"{"a" 1}"#, "01",
    "-",
    "+1", ".5", "1.", "1e", "0x1", "NaN", "Infinity", "1e999", "tru", "nul", "// x\n1", "1 1",
    #""a"#, "\"\t\"", #""\x""#, #""\u12""#, #""\ud800""#, #""\ud800\u0041""#, #""\udc00""#,
    #"{"a":1,"a":2}"#, "[", "]", "\u{feff}1",
    String(repeating: "[", count: 100_000),
  ])
  func whatItLacksIsRefused(text: String) {
    #expect(throws: JSONFault.self) { try value(text) }
  }

  @Test func bytesThatAreNoTextAreRefused() {
    #expect(throws: JSONFault.self) { try JSONValue(parsing: [0x22, 0xff, 0x22]) }
  }

  /// Everything that Foundation writes is read as what it was.
  @Test func whatFoundationWritesIsRead() throws {
    let data = try JSONEncoder().encode(FakeService.everything)
    guard case .array(let ports) = try JSONValue(parsing: Array(data)) else {
      Issue.record("no array")
      return
    }
    #expect(ports.count == FakeService.everything.count)
  }
}
