internal import Linux

/// The bytes of one connection. Every wait has a limit and ends early when the server stops.
struct ByteStream: Sendable {
  let socket: OwnedFD
  let stop: EventFD

  enum End: Error, Equatable {
    /// The peer has closed, or the connection broke.
    case closed
    case timedOut
    /// The server stops.
    case stopped
  }

  /// Waits for bytes until `deadline` and appends what is there to `buffer`.
  func read(
    into buffer: inout [UInt8], until deadline: ContinuousClock.Instant
  ) throws(End) {
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let received: UnixSocket.Received?
      do {
        // SAFETY: the closure's buffer is used during the call only.
        received = try unsafe chunk.withUnsafeMutableBytes {
          try unsafe UnixSocket.receive(socket, into: $0)
        }
      } catch {
        throw .closed
      }
      if let received {
        if received.count == 0 { throw .closed }
        buffer += chunk.prefix(received.count)
        return
      }
      try wait(.read, until: deadline)
    }
  }

  /// Writes all of `bytes`; `.timedOut` when the peer has not taken them within `limit`.
  func write(_ bytes: [UInt8], within limit: Duration) throws(End) {
    let deadline = ContinuousClock.now + limit
    var sent = 0
    while sent < bytes.count {
      let count: Int
      do {
        // SAFETY: the closure's buffer is used during the call only.
        count = try unsafe bytes.withUnsafeBytes { all in
          try unsafe UnixSocket.send(socket, UnsafeRawBufferPointer(rebasing: all[sent...]))
        }
      } catch {
        throw .closed
      }
      if count == 0 { try wait(.write, until: deadline) }
      sent += count
    }
  }

  private func wait(
    _ interest: Poller.Interest, until deadline: ContinuousClock.Instant
  ) throws(End) {
    let left = deadline - ContinuousClock.now
    if left <= .zero { throw .timedOut }
    let ready: [Bool]
    do {
      ready = try Poller.wait(
        [(socket.raw, interest), (stop.descriptor.raw, .read)],
        // Rounded up: a wait of nothing would spin.
        milliseconds: Int(left / .milliseconds(1)) + 1)
    } catch {
      throw .closed
    }
    if ready[1] { throw .stopped }
  }
}
