internal import ControlAPI
internal import Foundation

/// A request as it came in, its body complete.
struct HTTPRequest: Sendable, Equatable {
  var method: String
  /// The path's segments without percent-encoding: `/v1/ports/vm1` is `["v1", "ports", "vm1"]`.
  var path: [String]
  /// What follows the path's "?", by name, without percent-encoding.
  var query: [String: String] = [:]
  /// By lower-case name; repeated ones joined with a comma.
  var headers: [String: String]
  /// The connection stays open after the reply.
  var keepAlive: Bool
  var body: [UInt8] = []

  /// Parses the request line and the headers (RFC 9112, 2 to 6), without the empty line that ends them.
  init(head: some Sequence<UInt8>) throws(HTTPRefusal) {
    // Not `\r\n` as a Character of its own: bytes, as the grammar is one of bytes.
    var lines = Array(head).split(separator: 0x0a, omittingEmptySubsequences: false).map {
      $0.last == 0x0d ? $0.dropLast() : $0
    }
    // RFC 9112, 2.2: empty lines before the request line are skipped.
    while let first = lines.first, first.isEmpty { lines.removeFirst() }
    guard let first = lines.first, let line = String(validating: first, as: UTF8.self) else {
      throw HTTPRefusal(400, "the request line is not UTF-8")
    }
    let words = line.split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 3, let method = words.first, !method.isEmpty,
      method.utf8.allSatisfy({ (0x41...0x5a).contains($0) })
    else { throw HTTPRefusal(400, "the request line must be: METHOD PATH HTTP/1.1") }
    // RFC 9112, 2.3: whatever minor version beyond 1 is read as 1.1.
    guard words[2].hasPrefix("HTTP/1."), words[2].utf8.count == 8,
      let minor = words[2].utf8.last, (0x30...0x39).contains(minor)
    else { throw HTTPRefusal(505, "only HTTP/1.1 is spoken here") }
    self.method = String(method)
    path = try HTTPRequest.segments(of: words[1])
    query = try HTTPRequest.query(of: words[1])
    headers = try HTTPRequest.headers(lines.dropFirst())
    let tokens = (headers["connection"] ?? "").lowercased().split(separator: ",").map {
      $0.trimmingCharacters(in: .whitespaces)
    }
    if minor != 0x30 {
      if headers["host"] == nil { throw HTTPRefusal(400, "the Host header is missing") }
      keepAlive = !tokens.contains("close")
    } else {
      keepAlive = tokens.contains("keep-alive")
    }
  }

  private static func headers(
    _ lines: some Sequence<ArraySlice<UInt8>>
  ) throws(HTTPRefusal) -> [String: String] {
    var headers: [String: String] = [:]
    for line in lines {
      // A space before the colon, or a line that continues the last one, is how requests are smuggled.
      guard let text = String(validating: line, as: UTF8.self),
        let colon = text.firstIndex(of: ":"),
        colon != text.startIndex, !text[..<colon].contains(where: \.isWhitespace)
      else { throw HTTPRefusal(400, "a header line must be: NAME: VALUE") }
      let name = text[..<colon].lowercased()
      let value = text[text.index(after: colon)...].trimmingCharacters(in: .whitespaces)
      // RFC 9112, 3.2: two of them, or one that names several, are how one request is made to look like another.
      if name == "host", headers[name] != nil || !isHost(value) {
        throw HTTPRefusal(400, "there must be one Host header with one host")
      }
      headers[name] = headers[name].map { "\($0), \(value)" } ?? value
    }
    return headers
  }

  /// A host and perhaps a port, in the characters that RFC 3986 has for them; empty is allowed.
  private static func isHost(_ value: String) -> Bool {
    value.utf8.allSatisfy { byte in
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
      default: "-._~!$&'()*+;=:[]%".utf8.contains(byte)
      }
    }
  }

  private static func query(of target: Substring) throws(HTTPRefusal) -> [String: String] {
    guard let mark = target.firstIndex(of: "?") else { return [:] }
    var query: [String: String] = [:]
    let text = target[target.index(after: mark)...]
    for part in text.split(separator: "&") {
      let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map {
        $0.replacingOccurrences(of: "+", with: " ").removingPercentEncoding
      }
      guard let name = sides[0], let value = sides.count == 2 ? sides[1] : "" else {
        throw HTTPRefusal(400, "the query's percent-encoding is wrong")
      }
      if query.updateValue(value, forKey: name) != nil {
        throw HTTPRefusal(400, "the query has \(quoted(name)) twice")
      }
    }
    return query
  }

  private static func segments(of target: Substring) throws(HTTPRefusal) -> [String] {
    var path = target.prefix { $0 != "?" }
    // The absolute form, which RFC 9112, 3.2.2 wants accepted: http://anything/v1/ports
    if path.hasPrefix("http://") {
      path = path.dropFirst("http://".count).drop { $0 != "/" }
    }
    guard path.hasPrefix("/") else { throw HTTPRefusal(400, "the path must begin with a /") }
    var segments: [String] = []
    for part in path.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
      guard let segment = String(part).removingPercentEncoding else {
        throw HTTPRefusal(400, "the path's percent-encoding is wrong")
      }
      segments.append(segment)
    }
    return segments
  }

  /// Bytes of the body that follows, from the headers; at most `limit`.
  func contentLength(limit: Int) throws(HTTPRefusal) -> Int {
    if headers["transfer-encoding"] != nil {
      throw HTTPRefusal(411, "send the body with a Content-Length, not a Transfer-Encoding")
    }
    guard let text = headers["content-length"] else { return 0 }
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      throw HTTPRefusal(400, "the Content-Length must be one whole number")
    }
    guard let length = Int(text), length <= limit else {
      throw HTTPRefusal(413, "a request's body may have \(limit) bytes at most")
    }
    return length
  }
}

/// A request that could not be read; the connection ends after the reply.
struct HTTPRefusal: Error, Equatable {
  var status: Int
  var message: String

  init(_ status: Int, _ message: String) {
    self.status = status
    self.message = message
  }
}
