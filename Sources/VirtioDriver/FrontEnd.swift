internal import Glibc
public import Linux
internal import SystemPackage

/// Why a front-end could not do what it was asked to.
public enum FrontEndError: Error, Sendable, Equatable {
  /// The back-end has closed the connection.
  case closed
  /// The back-end has not answered, or not taken our bytes, in time.
  case timeout(FrontEndRequest?)
  /// The back-end answered a request with something other than zero.
  case refused(FrontEndRequest, code: UInt64)
  /// The back-end's reply is not one: the wrong request, version, length, or no reply flag.
  case badReply(FrontEndRequest)
  /// The back-end does not offer what is needed.
  case notOffered(String)
  /// The guest's memory has no room, or an address lies outside of it.
  case memory
  case system(SystemError)
}

/// A vhost-user front-end on a connected socket: what QEMU does, without QEMU.
///
/// Every call sends one message and, where there is a reply, waits for it, at most `timeout`
/// milliseconds. Once REPLY_ACK is negotiated, requests without a reply of their own ask for one and
/// throw `.refused` when it is not zero; set `acknowledged` to false to send them blindly, as old
/// front-ends do. One thread at a time, but that calls with a reply wait for one another: an `IOMMU` answers misses
/// on a thread of its own.
@safe public final class FrontEnd: @unchecked Sendable {
  /// `nil` after `close`.
  public private(set) var socket: OwnedFD?
  /// Milliseconds to wait for the back-end.
  public var timeout = 5000
  /// Whether to ask for acknowledgements when REPLY_ACK is negotiated.
  public var acknowledged = true

  /// What the back-end offered, and what was agreed upon.
  public internal(set) var offered: VirtioFeatures = []
  public internal(set) var features: VirtioFeatures = []
  public internal(set) var offeredProtocol: VhostUserFeatures = []
  public internal(set) var protocolFeatures: VhostUserFeatures = []
  /// GET_QUEUE_NUM's answer; 1 when it was not asked.
  public internal(set) var maxQueuePairs = 1

  /// Held from a request to its reply; what it holds is their number.
  private let exchange = Lock(0)
  private var unread: [UInt8] = []
  private var descriptors: [OwnedFD] = []

  /// Takes over a connected socket: from `accept`, `UnixSocket.pair` or `connect`.
  public init(socket: OwnedFD) {
    self.socket = socket
  }

  /// Connects to a back-end that listens at `path`, trying again for at most `milliseconds` while nobody
  /// listens yet or the backlog is full.
  public static func connect(
    path: String, milliseconds: Int = 5000
  ) throws(FrontEndError) -> FrontEnd {
    let deadline = Deadline(milliseconds: milliseconds)
    while true {
      do throws(SystemError) {
        return FrontEnd(socket: try UnixSocket.connect(path: path))
      } catch {
        let transient: [Errno] = [
          .connectionRefused, .noSuchFileOrDirectory, .resourceTemporarilyUnavailable,
        ]
        guard transient.contains(error.errno), !deadline.isOver else {
          throw .system(error)
        }
        Deadline.pause()
      }
    }
  }

  /// Accepts the connection of a back-end in client mode, waiting at most `milliseconds`.
  public static func accept(
    on listener: UnixListener, milliseconds: Int = 5000
  ) throws(FrontEndError) -> FrontEnd {
    let deadline = Deadline(milliseconds: milliseconds)
    do throws(SystemError) {
      while true {
        if let socket = try UnixSocket.accept(listener.descriptor) {
          return FrontEnd(socket: socket)
        }
        let left = deadline.left
        if left == 0 { break }
        _ = try Poller.wait(
          [(descriptor: listener.descriptor.raw, interest: .read)], milliseconds: left)
      }
    } catch {
      throw .system(error)
    }
    throw .timeout(nil)
  }

  /// Drops the connection without a word, as a killed VMM does.
  public func close() {
    // Not only let go of: somebody else may hold the descriptor too.
    if let socket { _ = shutdown(socket.raw, CInt(SHUT_RDWR)) }
    socket = nil
    unread = []
    descriptors = []
  }

  // ---- Messages ----

  /// Sends bytes and descriptors as they are: for hostile tests, which send half messages and wrong ones.
  public func send(_ bytes: [UInt8], descriptors: [OwnedFD] = []) throws(FrontEndError) {
    let deadline = Deadline(milliseconds: timeout)
    var sent = 0
    while sent < bytes.count {
      guard let socket else { throw .closed }
      do throws(SystemError) {
        // SAFETY: the slice is inside the array, which outlives the call.
        let result: Result<Int, SystemError> = unsafe bytes.withUnsafeBytes { buffer in
          do throws(SystemError) {
            return .success(
              try unsafe UnixSocket.send(
                socket, UnsafeRawBufferPointer(rebasing: buffer[sent...]),
                descriptors: sent == 0 ? descriptors : []))
          } catch {
            return .failure(error)
          }
        }
        let count = try result.get()
        sent += count
        if count == 0 {
          let left = deadline.left
          if left == 0 { throw FrontEnd.timedOut }
          _ = try Poller.wait(
            [(descriptor: socket.raw, interest: .write)], milliseconds: left)
        }
      } catch {
        throw FrontEnd.translate(error, nil)
      }
    }
  }

  public func send(_ message: FrontEndMessage) throws(FrontEndError) {
    try send(message.bytes, descriptors: message.descriptors)
  }

  /// The next message from the back-end, whatever it is.
  public func receive() throws(FrontEndError) -> FrontEndMessage {
    let header = try read(FrontEndMessage.headerLength)
    let request = FrontEndRequest(rawValue: FrontEndMessage.load(header, at: 0))
    let length: UInt32 = FrontEndMessage.load(header, at: 8)
    guard length <= FrontEndMessage.maxPayload else { throw .badReply(request) }
    let payload = try read(Int(length))
    let carried = descriptors
    descriptors = []
    return FrontEndMessage(
      request, flags: FrontEndMessage.load(header, at: 4), payload: payload, descriptors: carried)
  }

  /// Sends a message and returns the reply to it, checked for request, version and the reply flag.
  public func call(_ message: FrontEndMessage) throws(FrontEndError) -> FrontEndMessage {
    try exchange.withLock { (_: inout Int) throws(FrontEndError) in
      try exchangeMessages(message)
    }
  }

  private func exchangeMessages(
    _ message: FrontEndMessage
  ) throws(FrontEndError) -> FrontEndMessage {
    try send(message)
    let reply: FrontEndMessage
    do throws(FrontEndError) {
      reply = try receive()
    } catch {
      if error == .timeout(nil) { throw .timeout(message.request) }
      throw error
    }
    guard reply.request == message.request,
      reply.flags & 7 == FrontEndMessage.version | FrontEndMessage.reply
    else { throw .badReply(message.request) }
    return reply
  }

  /// A request without payload whose reply is a 64-bit word.
  public func get(_ request: FrontEndRequest) throws(FrontEndError) -> UInt64 {
    guard let word = try call(FrontEndMessage(request)).word64 else { throw .badReply(request) }
    return word
  }

  /// A request without a reply of its own; asks for an acknowledgement where that is possible.
  public func set(
    _ request: FrontEndRequest, _ payload: [UInt8] = [], descriptors: [OwnedFD] = []
  ) throws(FrontEndError) {
    var message = FrontEndMessage(request, payload: payload, descriptors: descriptors)
    guard acknowledged, protocolFeatures.contains(.replyAck) else { return try send(message) }
    message.flags |= FrontEndMessage.needReply
    guard let code = try call(message).word64 else { throw .badReply(request) }
    if code != 0 { throw .refused(request, code: code) }
  }

  /// Whether the back-end has closed the connection (unread bytes are discarded), within `milliseconds`.
  public func isClosed(within milliseconds: Int = 0) -> Bool {
    let deadline = Deadline(milliseconds: milliseconds)
    repeat {
      do throws(FrontEndError) {
        try fill(milliseconds: deadline.left)
      } catch {
        if case .timeout = error { continue }
        return true
      }
      unread = []
      descriptors = []
    } while !deadline.isOver
    return false
  }

  // ---- Bytes ----

  private func read(_ count: Int) throws(FrontEndError) -> [UInt8] {
    let deadline = Deadline(milliseconds: timeout)
    while unread.count < count { try fill(milliseconds: deadline.left) }
    let bytes = Array(unread.prefix(count))
    unread.removeFirst(count)
    return bytes
  }

  /// Reads what has come, waiting for it at most `milliseconds`.
  private func fill(milliseconds: Int) throws(FrontEndError) {
    guard let socket else { throw .closed }
    do throws(SystemError) {
      _ = try Poller.wait(
        [(descriptor: socket.raw, interest: .read)], milliseconds: milliseconds)
      var bytes = [UInt8](repeating: 0, count: 4096)
      let result: Result<UnixSocket.Received?, SystemError> = unsafe bytes.withUnsafeMutableBytes {
        buffer in
        do throws(SystemError) {
          return .success(try unsafe UnixSocket.receive(socket, into: buffer))
        } catch {
          return .failure(error)
        }
      }
      guard let received = try result.get() else { throw FrontEnd.timedOut }
      if received.count == 0 { throw FrontEnd.hungUp }
      unread += bytes.prefix(received.count)
      descriptors += received.descriptors
    } catch {
      throw FrontEnd.translate(error, nil)
    }
  }

  private static let timedOut = SystemError("wait", errno: .timedOut)
  private static let hungUp = SystemError("receive", errno: .connectionReset)

  private static func translate(
    _ error: SystemError, _ request: FrontEndRequest?
  ) -> FrontEndError {
    switch error.errno {
    case .timedOut: .timeout(request)
    case .connectionReset, .brokenPipe: .closed
    default: .system(error)
    }
  }
}
