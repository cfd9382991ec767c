import Glibc
import Linux
import Logging

@testable import Control

/// A client of the control socket: all that it says, through a whole connection and the router, to a service that
/// keeps a list of ports.
///
/// What is held: the answer is a sequence of well-formed replies, no more than there were requests, and nothing
/// that a client says becomes a header of its own.
enum HTTPTarget {
  private static let stop = try? EventFD()
  private static let logger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }

  static func run(_ input: inout Input) {
    let bytes = input.rest()
    guard let stop, let (ours, theirs) = try? UnixSocket.pair() else {
      return hold(false, "no sockets")
    }
    let sent = bytes.withUnsafeBytes { try? UnixSocket.send(ours, $0) }
    guard sent == bytes.count else { return }
    shutdown(ours.raw, CInt(SHUT_WR))
    var limits = Limits()
    // Small ones, which small inputs reach; and a client that reads nothing need not be waited for.
    limits.head = 1024
    limits.body = 1024
    limits.reply = .zero
    var connection = HTTPConnection(
      stream: ByteStream(socket: theirs, stop: stop), limits: limits,
      router: Router(service: FakeService(), logger: logger))
    connection.serve()
    shutdown(theirs.raw, CInt(SHUT_WR))
    judge(received(ours), lines: bytes.count { $0 == 0x0A })
  }

  private static func received(_ socket: OwnedFD) -> [UInt8] {
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while let part = buffer.withUnsafeMutableBytes({ try? UnixSocket.receive(socket, into: $0) }),
      part.count > 0
    {
      all += buffer.prefix(part.count)
    }
    return all
  }

  /// - Parameter lines: of the requests; each has two at least.
  private static func judge(_ bytes: [UInt8], lines: Int) {
    var rest = bytes[...]
    var count = 0
    while !rest.isEmpty {
      guard let end = rest.indices.first(where: { rest[$0...].starts(with: [13, 10, 13, 10]) })
      else {
        // A reply that the socket had no room for.
        hold(bytes.count > 1 << 15, "a reply without an end of its head")
        return
      }
      let head = Array(rest[..<end])
      rest = rest[(end + 4)...]
      hold(
        head.allSatisfy { (0x20..<0x7F).contains($0) || $0 == 13 || $0 == 10 }, "control characters"
      )
      let lines = String(decoding: head, as: UTF8.self).split(
        separator: "\r\n", omittingEmptySubsequences: false)
      hold(lines.allSatisfy { !$0.contains("\r") && !$0.contains("\n") }, "a lone end of a line")
      let words = lines[0].split(separator: " ", maxSplits: 2)
      hold(words.count == 3 && words[0] == "HTTP/1.1", "\(lines[0])")
      guard let status = words.dropFirst().first.flatMap({ Int($0) }), (100..<600).contains(status)
      else { return hold(false, "\(lines[0])") }
      count += status == 100 ? 0 : 1
      let known: Set = [
        "Content-Type", "Content-Length", "Connection", "Cache-Control", "Location", "Allow",
      ]
      var length = 0
      for line in lines.dropFirst() {
        let parts = line.split(separator: ":", maxSplits: 1)
        hold(parts.count == 2 && known.contains(String(parts[0])), "the header \(line)")
        if parts[0] == "Content-Length" { length = Int(parts[1].dropFirst()) ?? -1 }
      }
      hold(length >= 0, "\(lines)")
      // A HEAD's reply has no body: the next one begins, or nothing does.
      if rest.isEmpty || rest.starts(with: Array("HTTP/1.1 ".utf8)) { continue }
      if rest.count < length {
        hold(bytes.count > 1 << 15, "a body of \(rest.count) bytes of \(length)")
        return
      }
      rest = rest.dropFirst(length)
    }
    hold(count <= lines / 2 + 1, "\(count) replies to \(lines) lines")
  }
}
