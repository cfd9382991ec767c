internal import ControlAPI
internal import Foundation

/// A reply before it is sent.
struct HTTPReply: Sendable, Equatable {
  var status: Int
  var headers: [(name: String, value: String)] = []
  var body: [UInt8] = []

  static func == (left: HTTPReply, right: HTTPReply) -> Bool {
    left.status == right.status && left.body == right.body
      && left.headers.elementsEqual(right.headers, by: ==)
  }

  static func json(_ value: some Encodable, status: Int = 200) -> HTTPReply {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      var body = [UInt8](try encoder.encode(value))
      // For the person with curl.
      body.append(0x0a)
      return HTTPReply(
        status: status, headers: [("Content-Type", "application/json")], body: body)
    } catch {
      // A number that JSON lacks, such as an infinite uptime.
      return HTTPReply(status: 500)
    }
  }

  static func text(_ text: String, type: String) -> HTTPReply {
    HTTPReply(status: 200, headers: [("Content-Type", type)], body: Array(text.utf8))
  }

  static func error(_ status: Int, _ message: String) -> HTTPReply {
    json(ErrorReply(error: message), status: status)
  }

  static func error(_ error: ServiceError) -> HTTPReply {
    let status =
      switch error.kind {
      case .invalid: 400
      case .notFound: 404
      case .conflict: 409
      case .refused: 422
      case .failed: 500
      case .exhausted: 503
      }
    return .error(status, error.message)
  }

  /// The reply's bytes. `headOnly` answers a HEAD: the headers of the GET without its body.
  func encoded(keepAlive: Bool, headOnly: Bool = false) -> [UInt8] {
    var head = "HTTP/1.1 \(status) \(HTTPReply.phrases[status] ?? "Unknown")\r\n"
    for (name, value) in headers { head += "\(name): \(value)\r\n" }
    // RFC 9110, 8.6: a 204 has no Content-Length.
    if status != 204 { head += "Content-Length: \(body.count)\r\n" }
    if !keepAlive { head += "Connection: close\r\n" }
    head += "Cache-Control: no-store\r\n\r\n"
    return Array(head.utf8) + (headOnly ? [] : body)
  }

  private static let phrases = [
    200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 411: "Length Required",
    413: "Content Too Large",
    422: "Unprocessable Content", 431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable", 505: "HTTP Version Not Supported",
  ]
}
