internal import ControlAPI
public import Foundation
internal import Linux
internal import SystemPackage

/// Why a command got no answer, in one line.
public struct ClientError: Error, Equatable, CustomStringConvertible {
  public var description: String

  public init(_ description: String) {
    self.description = description
  }
}

/// Asks the daemon: HTTP/1.1 over a Unix socket, one request a connection.
public struct ControlClient: Sendable {
  let path: String
  /// From the request to the last byte of its reply.
  let timeout: Duration

  /// - Parameter path: the daemon's control socket.
  public init(path: String, timeout: Duration = .seconds(10)) {
    self.path = path
    self.timeout = timeout
  }

  /// The body of the reply to GET `target`.
  public func get(_ target: String) throws(ClientError) -> Data { try ask("GET", target) }

  public func post(_ target: String, _ value: some Encodable) throws(ClientError) -> Data {
    try send("POST", target, value)
  }

  /// Asks for something that needs no more said.
  public func post(_ target: String) throws(ClientError) -> Data { try ask("POST", target) }

  public func put(_ target: String, _ value: some Encodable) throws(ClientError) -> Data {
    try send("PUT", target, value)
  }

  public func patch(_ target: String, _ value: some Encodable) throws(ClientError) -> Data {
    try send("PATCH", target, value)
  }

  public func delete(_ target: String) throws(ClientError) { _ = try ask("DELETE", target) }

  /// The body of the reply to GET `target`, whether it is a success or not: what is asked of whoever may be ill.
  public func look(_ target: String) throws(ClientError) -> (status: Int, body: Data) {
    try exchange("GET", target, Data())
  }

  /// The process that listens at the control socket; `nil`: there is none, or it is of another PID namespace.
  public var daemon: Int? {
    guard let socket = try? connect(), let peer = UnixSocket.peer(socket), peer.pid > 0 else {
      return nil
    }
    return peer.pid
  }

  private func send(
    _ method: String, _ target: String, _ value: some Encodable
  ) throws(ClientError) -> Data {
    let body: Data
    do {
      body = try JSONEncoder().encode(value)
    } catch {
      throw ClientError("the request can't be written as JSON: \(error)")
    }
    return try ask(method, target, body)
  }

  /// A target with a query of those parameters that have a value.
  public static func target(_ path: String, _ query: [(name: String, value: String?)]) -> String {
    let parts = query.compactMap { name, value in value.map { "\(name)=\(segment($0))" } }
    return parts.isEmpty ? path : "\(path)?\(parts.joined(separator: "&"))"
  }

  /// A name as a segment of a path.
  public static func segment(_ name: String) -> String {
    let plain = CharacterSet(
      charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    return name.addingPercentEncoding(withAllowedCharacters: plain) ?? ""
  }

  public static func decode<Value: Decodable>(
    _ type: Value.Type, from data: Data
  ) throws(ClientError) -> Value {
    do {
      return try JSONDecoder().decode(type, from: data)
    } catch {
      throw ClientError(
        "the daemon's reply is not what swivel \(swivelVersion) expects; are both of one version?")
    }
  }

  private func ask(
    _ method: String, _ target: String, _ body: Data = Data()
  ) throws(ClientError) -> Data {
    let reply = try exchange(method, target, body)
    if (200..<300).contains(reply.status) { return reply.body }
    let error = try? JSONDecoder().decode(ErrorReply.self, from: reply.body)
    throw ClientError(error?.error ?? "the daemon replied with HTTP status \(reply.status)")
  }

  private func exchange(
    _ method: String, _ target: String, _ body: Data
  ) throws(ClientError) -> (status: Int, body: Data) {
    var request = "\(method) \(target) HTTP/1.1\r\nHost: swivel\r\nConnection: close\r\n"
    if ["POST", "PUT", "PATCH"].contains(method) {
      request += "Content-Type: application/json\r\nContent-Length: \(body.count)\r\n"
    }
    let socket = try connect()
    let deadline = ContinuousClock.now + timeout
    var parser = HTTPReplyParser()
    do {
      do {
        try send(Array((request + "\r\n").utf8) + body, to: socket, until: deadline)
      } catch let error as SystemError
        where error.errno == .brokenPipe || error.errno == .connectionReset
      {
        // The daemon has closed already, for it serves too many: its reply, which says so, may be here.
      }
      while !parser.isComplete {
        try parser.take(try receive(from: socket, until: deadline))
      }
    } catch let error as ClientError {
      throw error
    } catch {
      throw ClientError("the connection to the daemon at \(path) broke: \(error)")
    }
    return (parser.status, parser.body)
  }

  private func connect() throws(ClientError) -> OwnedFD {
    do {
      return try UnixSocket.connect(path: path)
    } catch {
      switch error.errno {
      case .noSuchFileOrDirectory, .connectionRefused:
        throw ClientError("no daemon at \(path): is swiveld running?")
      case .permissionDenied:
        throw ClientError(
          "no permission to talk to the daemon at \(path): try as root or its group")
      default:
        throw ClientError("\(error)")
      }
    }
  }

  private func send(_ bytes: [UInt8], to socket: OwnedFD, until deadline: ContinuousClock.Instant)
    throws
  {
    var sent = 0
    while sent < bytes.count {
      // SAFETY: the closure's buffer is used during the call only.
      let count = try unsafe bytes.withUnsafeBytes {
        try unsafe UnixSocket.send(socket, UnsafeRawBufferPointer(rebasing: $0[sent...]))
      }
      if count == 0 { try wait(socket, .write, until: deadline) }
      sent += count
    }
  }

  /// The next bytes; empty at the end of the stream.
  private func receive(
    from socket: OwnedFD, until deadline: ContinuousClock.Instant
  ) throws -> Data {
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      // SAFETY: the closure's buffer is used during the call only.
      let received = try unsafe chunk.withUnsafeMutableBytes {
        try unsafe UnixSocket.receive(socket, into: $0)
      }
      if let received { return Data(chunk.prefix(received.count)) }
      try wait(socket, .read, until: deadline)
    }
  }

  private func wait(
    _ socket: OwnedFD, _ interest: Poller.Interest, until deadline: ContinuousClock.Instant
  ) throws {
    let left = deadline - ContinuousClock.now
    if left <= .zero {
      throw ClientError("the daemon at \(path) did not answer within \(timeout)")
    }
    _ = try Poller.wait(
      [(socket.raw, interest)], milliseconds: Int(left / .milliseconds(1)) + 1)
  }
}
