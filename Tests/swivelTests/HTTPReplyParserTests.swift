import Foundation
import Testing

@testable import ControlClient

@Suite struct HTTPReplyParserTests {
  /// The reply taken in pieces of `size` bytes.
  private func parse(_ text: String, size: Int = .max, end: Bool = false) throws -> HTTPReplyParser
  {
    var parser = HTTPReplyParser()
    var rest = Data(text.utf8)[...]
    while !rest.isEmpty {
      try parser.take(Data(rest.prefix(size)))
      rest = rest.dropFirst(min(size, rest.count))
    }
    if end { try parser.take(Data()) }
    return parser
  }

  @Test(arguments: [1, 2, 7, Int.max])
  func bodiesOfEveryKind(size: Int) throws {
    let known = try parse("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", size: size)
    #expect(known.isComplete && known.status == 200 && known.body == Data("hello".utf8))
    let chunked = try parse(
      "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n", size: size)
    #expect(chunked.isComplete && chunked.status == 409 && chunked.body == Data("hello".utf8))
    let open = try parse("HTTP/1.0 200 OK\r\n\r\nhello", size: size)
    #expect(!open.isComplete)
    let closed = try parse("HTTP/1.0 200 OK\r\n\r\nhello", size: size, end: true)
    #expect(closed.isComplete && closed.body == Data("hello".utf8))
    let none = try parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", size: size)
    #expect(none.isComplete && none.status == 204 && none.body.isEmpty)
  }

  @Test(arguments: [
    "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 two\r\n\r\n", "HTTP/2 200\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    String(repeating: "x", count: 70000),
  ])
  func nonsenseIsRefused(text: String) {
    #expect(throws: ClientError.self) { try parse(text) }
  }

  @Test(arguments: [
    ("", "without a reply"), ("HTTP/1.1 200 OK\r\n", "ended early"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "ended early"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "ended early"),
  ])
  func anEarlyEndIsAnError(text: String, message: String) {
    #expect {
      try parse(text, end: true)
    } throws: {
      "\($0)".contains(message)
    }
  }

  @Test func hugeChunkSizesDoNotOverflow() {
    #expect(throws: ClientError.self) {
      try parse(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nx", end: true)
    }
  }
}
