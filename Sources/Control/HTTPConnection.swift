internal import Glibc
internal import Linux

/// One client: reads a request, has it answered, writes the reply, and again, until either side ends it.
struct HTTPConnection {
  let stream: ByteStream
  let limits: Limits
  let router: Router
  /// What has come in and is not yet a request: several may arrive at once.
  private var pending: [UInt8] = []

  init(stream: ByteStream, limits: Limits, router: Router) {
    self.stream = stream
    self.limits = limits
    self.router = router
  }

  mutating func serve() {
    let client = UnixSocket.peer(stream.socket)?.pid
    do {
      while true {
        guard let request = try next() else { return }
        let reply = router.reply(to: request, from: client)
        try stream.write(
          reply.encoded(keepAlive: request.keepAlive, headOnly: request.method == "HEAD"),
          within: limits.reply)
        if !request.keepAlive { return }
      }
    } catch let refusal as HTTPRefusal {
      let reply = HTTPReply.error(refusal.status, refusal.message)
      try? stream.write(reply.encoded(keepAlive: false), within: limits.reply)
      drain()
    } catch {
      // The client went away, or the server stops: there is nobody to tell.
    }
  }

  /// The next request, or `nil` when the client is done.
  private mutating func next() throws -> HTTPRequest? {
    if pending.isEmpty {
      do {
        try stream.read(into: &pending, until: .now + limits.idle)
      } catch {
        return nil
      }
    }
    let deadline = ContinuousClock.now + limits.request
    do {
      let head = try readHead(until: deadline)
      var request = try HTTPRequest(head: head)
      let length = try request.contentLength(limit: limits.body)
      if length > pending.count, request.headers["expect"]?.lowercased() == "100-continue" {
        try stream.write(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8), within: limits.reply)
      }
      while pending.count < length { try stream.read(into: &pending, until: deadline) }
      request.body = Array(pending.prefix(length))
      pending.removeFirst(length)
      return request
    } catch ByteStream.End.timedOut {
      throw HTTPRefusal(408, "the request did not arrive within \(limits.request)")
    }
  }

  /// Takes the bytes up to the empty line.
  private mutating func readHead(until deadline: ContinuousClock.Instant) throws -> [UInt8] {
    var searched = 0
    while true {
      if let end = HTTPConnection.headEnd(pending, from: searched) {
        let head = Array(pending.prefix(end.head))
        if end.head > limits.head { break }
        pending.removeFirst(end.next)
        return head
      }
      if pending.count > limits.head { break }
      // The empty line may be half here.
      searched = max(0, pending.count - 3)
      try stream.read(into: &pending, until: deadline)
    }
    throw HTTPRefusal(431, "a request's headers may have \(limits.head) bytes at most")
  }

  /// Where the head ends and where what follows the empty line begins.
  private static func headEnd(_ bytes: [UInt8], from start: Int) -> (head: Int, next: Int)? {
    var index = start
    while index < bytes.count {
      if bytes[index] == 0x0a {
        if index + 1 < bytes.count, bytes[index + 1] == 0x0a { return (index, index + 2) }
        if index + 2 < bytes.count, bytes[index + 1] == 0x0d, bytes[index + 2] == 0x0a {
          return (index, index + 3)
        }
      }
      index += 1
    }
    return nil
  }

  /// Takes what a refused client still sends, for a moment: closing on unread bytes would break its write
  /// before it reads why it was refused.
  private func drain() {
    shutdown(stream.socket.raw, CInt(SHUT_WR))
    let deadline = ContinuousClock.now + .seconds(1)
    var taken: [UInt8] = []
    var total = 0
    while total < 1 << 20 {
      taken.removeAll(keepingCapacity: true)
      do {
        try stream.read(into: &taken, until: deadline)
      } catch {
        return
      }
      total += taken.count
    }
  }
}
