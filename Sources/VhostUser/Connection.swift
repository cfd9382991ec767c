internal import Linux
internal import SystemPackage

/// Whole messages over a Unix stream socket: nothing above it sees a part of one.
///
/// It waits for three things at once: the front-end, the stop event, and (when there is a listener) other
/// front-ends, which it turns away, as a port serves one; and for one thing more that its session is to see to
/// meanwhile (`watched`). Before it waits for the front-end its session may do what it had put off (`leftToDo`).
/// What it waits for is bounded, so that a front-end that stalls half-way harms only itself: a message once begun
/// must be complete, and a reply must be taken by the peer, within `Limits`.
final class Connection {
  struct Limits: Sendable {
    /// From a message's first byte to its last.
    var message: Duration = .seconds(10)
    /// For the peer to make room for a whole reply.
    var reply: Duration = .seconds(5)
    /// Between one front-end's being turned away and the next one's.
    var refusal: Duration = .milliseconds(100)
  }

  enum Event {
    case message(Message)
    /// The front-end closed the connection between two messages.
    case closed
    /// The stop event is signalled.
    case stopped
    /// The pause event is, between two messages.
    case paused
  }

  /// Something to see to whenever there is nothing else to do.
  struct Watched {
    /// Its being signalled calls for `action`, which drains it.
    let event: EventFD
    /// So does this time's having come.
    var until: ContinuousClock.Instant?
    /// Returns when it is to be called again, signalled or not.
    let action: () -> ContinuousClock.Instant?
  }

  var watched: Watched?

  /// Called once, when nothing of the front-end's is there to be read.
  var leftToDo: (() -> Void)?

  /// Its being signalled has `receive` return between two messages; it is not drained.
  var pause: EventFD?

  let socket: OwnedFD
  private let stop: EventFD
  private var listener: OwnedFD?
  /// Until then nobody else is turned away: who tries again at once, and again, waits in the listener's queue.
  private var nextRefusal: ContinuousClock.Instant?
  private let limits: Limits
  private let onSecondFrontEnd: () -> Void
  private let clock = ContinuousClock()

  init(
    socket: OwnedFD, stop: EventFD, listener: OwnedFD?, limits: Limits,
    onSecondFrontEnd: @escaping () -> Void
  ) {
    self.socket = socket
    self.stop = stop
    self.listener = listener
    self.limits = limits
    self.onSecondFrontEnd = onSecondFrontEnd
  }

  /// The next message, its header checked. Never reads beyond it: what follows may bring descriptors
  /// of its own.
  func receive() throws(ProtocolError) -> Event {
    var incoming = Incoming()
    if let end = try fill(&incoming, Header.length) { return end }
    let header = Header(incoming.bytes)
    try header.check()
    if let end = try fill(&incoming, Header.length + Int(header.size)) { return end }
    return .message(
      Message(
        header: header, payload: Array(incoming.bytes.dropFirst(Header.length)),
        descriptors: incoming.descriptors))
  }

  /// A message that is under way.
  private struct Incoming {
    var bytes: [UInt8] = []
    var descriptors: [OwnedFD] = []
    var deadline: ContinuousClock.Instant?
  }

  /// Reads until `incoming` has `length` bytes; returns why it has not, if it ended in good order.
  private func fill(_ incoming: inout Incoming, _ length: Int) throws(ProtocolError) -> Event? {
    while incoming.bytes.count < length {
      switch try wait(
        .read, until: incoming.deadline, pause: incoming.bytes.isEmpty ? pause : nil)
      {
      case .ready: break
      case .stopped: return .stopped
      case .paused: return .paused
      case .timedOut:
        throw ProtocolError(
          .connection, "the front-end left a message incomplete for \(limits.message)")
      }
      guard let received = try read(length - incoming.bytes.count) else { continue }
      let isFirst = incoming.bytes.isEmpty
      if received.bytes.isEmpty {
        if isFirst { return .closed }
        throw ProtocolError(
          .malformed, "the front-end closed the connection in the middle of a message")
      }
      if received.truncated {
        throw ProtocolError(.malformed, "more descriptors attached to a message than can be taken")
      }
      if isFirst {
        incoming.deadline = clock.now + limits.message
        incoming.descriptors = received.descriptors
      } else if !received.descriptors.isEmpty {
        throw ProtocolError(.malformed, "descriptors attached to the middle of a message")
      }
      incoming.bytes += received.bytes
    }
    return nil
  }

  /// What is there, at most `count` bytes; no bytes: the peer has closed; `nil`: nothing yet.
  private func read(
    _ count: Int
  ) throws(ProtocolError) -> (bytes: [UInt8], descriptors: [OwnedFD], truncated: Bool)? {
    var buffer = [UInt8](repeating: 0, count: count)
    do throws(SystemError) {
      // SAFETY: receives into the array's own storage, for the length of the call.
      let received = try unsafe buffer.withUnsafeMutableBufferPointer {
        storage throws(SystemError) in
        try unsafe UnixSocket.receive(socket, into: UnsafeMutableRawBufferPointer(storage))
      }
      guard let received else { return nil }
      return (Array(buffer.prefix(received.count)), received.descriptors, received.truncated)
    } catch {
      // A front-end that dies with a reply unread resets the connection: that, too, is its end.
      if error.errno == .connectionReset { return ([], [], false) }
      throw ProtocolError(.connection, "\(error)")
    }
  }

  /// Sends all of `bytes`, in one piece when the peer has room: DPDK reads a reply's header and payload
  /// with one call each and takes a short one for an error. Gives up silently when the stop event is
  /// signalled, as `receive` will report that.
  func send(_ bytes: [UInt8]) throws(ProtocolError) {
    let deadline = clock.now + limits.reply
    var sent = 0
    while sent < bytes.count {
      do throws(SystemError) {
        // SAFETY: reads the array's own storage, for the length of the call.
        sent += try unsafe bytes[sent...].withUnsafeBufferPointer {
          storage throws(SystemError) in
          try unsafe UnixSocket.send(socket, UnsafeRawBufferPointer(storage))
        }
      } catch {
        throw ProtocolError(.connection, "the front-end can't be answered: \(error)")
      }
      if sent == bytes.count { return }
      switch try wait(.write, until: deadline) {
      case .ready, .paused: continue
      case .stopped: return
      case .timedOut:
        throw ProtocolError(
          .connection, "the front-end has not read a reply for \(limits.reply)")
      }
    }
  }

  private enum Wait { case ready, stopped, paused, timedOut }

  private func wait(
    _ interest: Poller.Interest, until deadline: ContinuousClock.Instant?,
    pause pausing: EventFD? = nil
  ) throws(ProtocolError) -> Wait {
    while true {
      let now = clock.now
      let left = deadline.map { max(.zero, $0 - now) }
      if let due = nextRefusal, due <= now { nextRefusal = nil }
      let isListening = listener != nil && nextRefusal == nil
      let pause = [deadline, watched?.until, listener == nil ? nil : nextRefusal].compactMap(\.self)
        .min().map { max(.zero, $0 - now) }
      var entries = [(socket.raw, interest), (stop.descriptor.raw, Poller.Interest.read)]
      if let watched { entries.append((watched.event.descriptor.raw, .read)) }
      if isListening, let listener { entries.append((listener.raw, .read)) }
      // Behind the others, whose places are counted.
      if let pausing { entries.append((pausing.descriptor.raw, .read)) }
      let ready: [Bool]
      do throws(SystemError) {
        // A millisecond more than what is left, rounded down: never a turn without waiting. But with something left to
        // do this is only a look.
        ready = try Poller.wait(
          entries.map { (descriptor: $0.0, interest: $0.1) },
          milliseconds: leftToDo == nil ? pause.map { Int($0 / .milliseconds(1)) + 1 } : 0)
      } catch {
        throw ProtocolError(.connection, "\(error)")
      }
      if ready[1] { return .stopped }
      if pausing != nil, ready[ready.count - 1] { return .paused }
      if let watched, ready[2] || watched.until.map({ $0 <= clock.now }) ?? false {
        self.watched?.until = watched.action()
      }
      // Nobody is turned away for a front-end that has gone. A VMM that restarts hangs up, then connects: the
      // one shows here once the other does, but the poll above may have looked in between.
      if isListening, ready[ready.count - (pausing == nil ? 1 : 2)], try !hasHungUp() { turnAway() }
      if ready[0] { return .ready }
      if let action = leftToDo {
        leftToDo = nil
        action()
        continue
      }
      if left == .zero { return .timedOut }
    }
  }

  private func hasHungUp() throws(ProtocolError) -> Bool {
    do throws(SystemError) {
      return try Poller.wait([(descriptor: socket.raw, interest: [])], milliseconds: 0)[0]
    } catch {
      throw ProtocolError(.connection, "\(error)")
    }
  }

  /// Accepts and closes one connection (HP-14).
  private func turnAway() {
    guard let listener else { return }
    do throws(SystemError) {
      if try UnixSocket.accept(listener) != nil {
        nextRefusal = clock.now + limits.refusal
        onSecondFrontEnd()
      }
    } catch {
      // Out of descriptors, most likely. The listener would stay ready: leave it alone from here on, and
      // whoever waits there is served when this session ends.
      self.listener = nil
    }
  }
}
