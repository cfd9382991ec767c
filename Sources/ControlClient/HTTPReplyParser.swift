internal import Foundation

/// Puts a reply together from the pieces in which it arrives (RFC 9112): a body of known length, a chunked
/// one, or one that ends with the connection.
struct HTTPReplyParser {
  private(set) var status = 0
  private(set) var body = Data()
  private(set) var isComplete = false

  private enum Stage {
    case head
    case length(Int)
    case chunkSize
    case chunk(Int)
    case trailer
    case untilEnd
  }
  private var stage = Stage.head
  private var pending = Data()

  /// More than any switch has to say: a guard against a peer that is no daemon.
  private static let limit = 256 << 20

  /// Takes the next bytes; an empty piece is the end of the stream.
  mutating func take(_ piece: Data) throws(ClientError) {
    if piece.isEmpty {
      if case .untilEnd = stage {
        isComplete = true
        return
      }
      throw ClientError(
        status == 0 && pending.isEmpty
          ? "the daemon closed the connection without a reply" : "the daemon's reply ended early")
    }
    pending += piece
    if pending.count + body.count > HTTPReplyParser.limit {
      throw ClientError("the daemon's reply is too long")
    }
    while !isComplete, try advance() {}
  }

  /// Goes on with what is pending; `false` when it takes more bytes.
  private mutating func advance() throws(ClientError) -> Bool {
    switch stage {
    case .head:
      return try head()
    case .length(let length):
      guard pending.count >= length else { return false }
      body += pending.prefix(length)
      isComplete = true
    case .chunkSize:
      guard let line = line() else { return false }
      let digits = line.prefix { $0 != ";" }.trimmingCharacters(in: .whitespaces)
      guard let size = Int(digits, radix: 16), (0...HTTPReplyParser.limit).contains(size) else {
        throw HTTPReplyParser.nonsense
      }
      stage = size == 0 ? .trailer : .chunk(size)
    case .chunk(let size):
      guard pending.count >= size + 2 else { return false }
      body += pending.prefix(size)
      pending = Data(pending.dropFirst(size + 2))
      stage = .chunkSize
    case .trailer:
      guard let line = line() else { return false }
      isComplete = line.isEmpty
    case .untilEnd:
      body += pending
      pending = Data()
      return false
    }
    return true
  }

  private mutating func head() throws(ClientError) -> Bool {
    guard let end = pending.range(of: Data("\r\n\r\n".utf8)) else {
      if pending.count > 65536 { throw HTTPReplyParser.nonsense }
      return false
    }
    let lines = String(decoding: pending[..<end.lowerBound], as: UTF8.self)
      .components(separatedBy: "\r\n")
    pending = Data(pending[end.upperBound...])
    let words = (lines.first ?? "").split(separator: " ")
    guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]),
      (100..<600).contains(status)
    else { throw HTTPReplyParser.nonsense }
    // 100 Continue and its like come before the reply.
    if status < 200 { return true }
    self.status = status
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2 {
        headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
      }
    }
    if status == 204 || status == 304 {
      isComplete = true
    } else if headers["transfer-encoding"]?.lowercased() == "chunked" {
      stage = .chunkSize
    } else if let text = headers["content-length"] {
      guard let length = Int(text), length >= 0 else { throw HTTPReplyParser.nonsense }
      stage = .length(length)
    } else {
      stage = .untilEnd
    }
    return true
  }

  /// Takes a line that has arrived in full, without its end.
  private mutating func line() -> String? {
    guard let end = pending.range(of: Data("\r\n".utf8)) else { return nil }
    let line = String(decoding: pending[..<end.lowerBound], as: UTF8.self)
    pending = Data(pending[end.upperBound...])
    return line
  }

  private static let nonsense = ClientError(
    "the reply is no HTTP: is it swiveld's control socket?")
}
