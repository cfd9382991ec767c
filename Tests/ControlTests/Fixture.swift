import ControlAPI
import Foundation
import Linux
import Logging
import SystemPackage
import Testing

@testable import Control

/// A server over a real Unix socket in a directory of its own.
final class Fixture: Sendable {
  let directory: String
  let path: String
  let service: FakeService
  let server: ControlServer

  init(service: FakeService = FakeService(), limits: Limits = Limits()) throws {
    // Not the temporary directory of the environment, whose path may be too long for a socket.
    directory = "/tmp/swivel-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
    path = directory + "/control.sock"
    self.service = service
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    server = ControlServer(
      socket: ControlSocket(path: path), service: service, logger: logger, limits: limits)
  }

  deinit {
    try? FileManager.default.removeItem(atPath: directory)
  }

  /// Runs `body` between start and stop.
  static func run(
    service: FakeService = FakeService(), limits: Limits = Limits(),
    _ body: @Sendable (Fixture) async throws -> Void
  ) async throws {
    let fixture = try Fixture(service: service, limits: limits)
    try await fixture.server.start()
    do {
      try await body(fixture)
    } catch {
      await fixture.server.stop()
      throw error
    }
    await fixture.server.stop()
  }

  func client() throws -> RawClient { try RawClient(path: path) }

  /// One request on a connection of its own.
  func ask(_ method: String, _ path: String, _ body: String = "") throws -> RawReply {
    let client = try client()
    try client.send(
      "\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
    return try client.reply(bodyless: method == "HEAD")
  }
}

struct RawReply {
  var status: Int
  var headers: [String: String]
  var body: Data

  var text: String { String(decoding: body, as: UTF8.self) }

  func decoded<Value: Decodable>(as type: Value.Type = Value.self) throws -> Value {
    try JSONDecoder().decode(Value.self, from: body)
  }

  /// The message of an `ErrorReply`.
  func error() throws -> String { try decoded(as: ErrorReply.self).error }
}

struct ClientFailure: Error, CustomStringConvertible {
  var description: String
}

/// Bytes to and from the server, with no opinion about what they should be.
final class RawClient {
  private let socket: OwnedFD
  private var buffer = Data()

  init(path: String) throws {
    socket = try UnixSocket.connect(path: path)
  }

  func send(_ text: String) throws {
    try send(Array(text.utf8))
  }

  func send(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      let count = try bytes.withUnsafeBytes {
        try UnixSocket.send(socket, UnsafeRawBufferPointer(rebasing: $0[sent...]))
      }
      if count == 0 { _ = try Poller.wait([(socket.raw, .write)], milliseconds: 1000) }
      sent += count
    }
  }

  /// Reads more; `false` at the end of the stream.
  func more(seconds: Double = 60) throws -> Bool {
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      guard try Poller.wait([(socket.raw, .read)], milliseconds: Int(seconds * 1000))[0] else {
        throw ClientFailure(description: "no answer within \(seconds) s")
      }
      let received = try chunk.withUnsafeMutableBytes { try UnixSocket.receive(socket, into: $0) }
      guard let received else { continue }
      buffer += chunk.prefix(received.count)
      return received.count > 0
    }
  }

  /// Whether the server closes without another byte.
  func isClosed() throws -> Bool {
    do {
      return try !more() && buffer.isEmpty
    } catch let error as SystemError where error.errno == .connectionReset {
      return true
    }
  }

  func reply(bodyless: Bool = false) throws -> RawReply {
    let separator = Data("\r\n\r\n".utf8)
    while buffer.range(of: separator) == nil {
      guard try more() else {
        throw ClientFailure(
          description: "closed after \(String(decoding: buffer, as: UTF8.self))")
      }
    }
    guard let end = buffer.range(of: separator) else { throw ClientFailure(description: "?") }
    let lines = String(decoding: buffer[..<end.lowerBound], as: UTF8.self)
      .components(separatedBy: "\r\n")
    buffer = Data(buffer[end.upperBound...])
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
    }
    let length = bodyless ? 0 : Int(headers["content-length"] ?? "0") ?? 0
    while buffer.count < length {
      guard try more() else { throw ClientFailure(description: "the body ended early") }
    }
    let body = Data(buffer.prefix(length))
    buffer = Data(buffer.dropFirst(length))
    let status = try #require(Int(lines[0].split(separator: " ")[1]))
    return RawReply(status: status, headers: headers, body: body)
  }
}
