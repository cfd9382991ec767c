public import Linux

/// A front-end's connection, from its first message to its end.
///
/// # Theory of operation
///
/// A session is straight-line code on a thread of its own: take a whole message, check its shape, handle
/// it, answer it, take the next. Nothing else touches its state. The back-end's calls block until they are
/// done, and whatever is left to do is done before a message is answered, so an answer always tells of
/// something finished.
///
/// **Three kinds of trouble** (`ProtocolError.Kind`). *Malformed*: a wrong version, length, number of
/// descriptors, a reply flag; what follows such bytes can't be trusted, so the session ends. *Refused*: a
/// well-formed message that asks for what can't be (a ring that does not exist, a feature that was not
/// offered, an unknown request). With need_reply and REPLY_ACK the front-end is told and the session goes
/// on; otherwise the front-end would go on in the belief that all is well, so the session ends. *A ring
/// that does not start*: the message may be right and the ring wrong, or a later message mends it; the ring
/// stays stopped, its error eventfd is signalled, the answer (if one is awaited) is an error, and the
/// session goes on in any case.
///
/// **A ring runs** when all of this is there: size, addresses, a kick (eventfd, or polling), memory,
/// accepted features and, with STATUS negotiated, DRIVER_OK. The specification starts a ring at the first
/// kick; a back-end that polls need not wait for it (E74). There is one rule for every change to what a ring
/// stands on: `reconfigure` stops the running rings concerned, changes, and has those started that can be
/// started, each where the back-end ended. So a message's place in the sequence does not matter: QEMU enables
/// a ring before it sends its addresses, DPDK after the kick. Only what is around a ring changes while it
/// runs, as the back-end can do that without a frame lost: its eventfds, and whether it is enabled.
///
/// **Due.** To stop or start rings a back-end waits for its workers, so what stops or starts together is one
/// call: all rings of a front-end that comes or goes. One that has no STATUS to start its rings by starts them
/// message by message, though. So a ring that can be started is not, at first, but *due*, and all that are due
/// start together (`startDue`): before anything is answered, and before the session waits for the front-end
/// because nothing more is there to be read. The answer tells of the rings that its message concerned, when these
/// have started or failed. A ring that is stopped while it is due was never started. Where it matters whether a
/// ring that is due will run, as it does to SET_FEATURES, it is started first.
///
/// **Stopping.** GET_VRING_BASE stops a ring and forgets its kick: the next SET_VRING_KICK starts it.
/// Everything else is kept, the call eventfd too, which QEMU sends before it stops to be used after. QEMU
/// 7.2 sends SET_STATUS 0 before GET_VRING_BASE, so a ring stopped by a status keeps its base to be asked
/// for. The end of the connection, whatever its cause, stops every ring and then resets the back-end.
///
/// **An IOMMU** (VIRTIO_F_ACCESS_PLATFORM with BACKEND_REQ): addresses are translated by what the front-end
/// tells with IOTLB_MSG, of itself or because it was asked on the channel that SET_BACKEND_REQ_FD gave. Nobody
/// waits for an answer: a ring that lacks a translation stands still, and goes on when it has come. A front-end that
/// takes nothing back for a while is asked once more for some of what it told (`TranslationChecks`).
///
/// **Protocol features** are served when they are offered, whether or not the front-end accepted them;
/// only REPLY_ACK, LOG_SHMFD's reply and STATUS, which change what other messages mean, wait for it.
public final class Session {
  let backend: any Backend
  let onEvent: (SessionEvent) -> Void
  private(set) var connection: Connection?

  /// What the driver accepted; `nil` before SET_FEATURES.
  var features: Features?
  var protocolFeatures: ProtocolFeatures = []
  var status: DeviceStatus = []
  var rings: [Ring]
  var regions: [GuestRegion] = []
  /// How often a region that is there was added again, by guest address.
  var repeatedRegions: [UInt64: Int] = [:]
  var log: LogRegion?
  var logNotify: OwnedFD?
  /// The way to the front-end for requests of our own, and what was asked there and not answered yet.
  var channel: BackendChannel?
  var asked = AskedMisses()
  var checks = TranslationChecks()
  /// Rings that `hold` has stopped, to be started again by `letGo`, here or in another process.
  var held: Set<Int> = []
  private var onPause: (() -> Bool)?

  /// - Parameters:
  ///   - connection: a connected, non-blocking Unix stream socket, from `UnixSocket`. It is closed when
  ///     the session ends, provided that the caller keeps no reference to it.
  ///   - stop: ends the session as soon as it is signalled; it is not drained.
  ///   - listener: the socket the connection came from, when there is one. While the session lives every
  ///     further front-end that connects there is turned away.
  ///   - onEvent: called on the session's thread.
  public convenience init(
    connection: OwnedFD, backend: any Backend, stop: EventFD, listener: OwnedFD? = nil,
    onEvent: @escaping (SessionEvent) -> Void = { _ in }
  ) {
    self.init(
      connection: connection, backend: backend, stop: stop, listener: listener,
      limits: Connection.Limits(), onEvent: onEvent)
  }

  init(
    connection: OwnedFD, backend: any Backend, stop: EventFD, listener: OwnedFD?,
    limits: Connection.Limits, onEvent: @escaping (SessionEvent) -> Void
  ) {
    precondition((1...128).contains(backend.queuePairs), "a ring's index has eight bits")
    self.backend = backend
    self.onEvent = onEvent
    rings = [Ring](repeating: Ring(), count: 2 * backend.queuePairs)
    self.connection = Connection(
      socket: connection, stop: stop, listener: listener, limits: limits,
      onSecondFrontEnd: { onEvent(.refusedSecondFrontEnd) })
  }

  /// Has `onPause` be called, on the session's thread, whenever `event` is signalled and the front-end is in the middle of
  /// nothing. What it returns says whether the session goes on. It drains the event.
  public func pauses(on event: EventFD, _ onPause: @escaping () -> Bool) {
    connection?.pause = event
    self.onPause = onPause
  }

  /// Serves the front-end until it goes, `stop` is signalled or the protocol is broken. On return every
  /// ring is stopped and `Backend.reset` has been called; only then the connection is closed. Call it once.
  public func run() -> SessionEnd {
    guard let connection else { preconditionFailure("a session runs once") }
    let end: SessionEnd
    do throws(ProtocolError) {
      end = try serve(connection)
    } catch {
      end = .failed(error)
    }
    stop(rings.indices)
    backend.reset()
    rings = []
    regions = []
    log = nil
    logNotify = nil
    channel = nil
    self.connection = nil
    return end
  }

  private func serve(_ connection: Connection) throws(ProtocolError) -> SessionEnd {
    while true {
      connection.watched = backend.missed.map { missed in
        Connection.Watched(event: missed, until: [asked.due, checks.due].compactMap(\.self).min()) {
          [unowned self] in askForMisses()
        }
      }
      connection.leftToDo =
        rings.contains { $0.state == .due } ? { [unowned self] in startDue() } : nil
      switch try connection.receive() {
      case .closed: return .frontEndClosed
      case .stopped: return .stopped
      case .paused:
        startDue()
        if onPause?() == false { return .stopped }
      case .message(let message):
        if let reply = try answer(message) {
          try connection.send(Message.reply(to: message.header.code, reply))
        }
      }
    }
  }

  /// What a handler has to say to the front-end.
  enum Outcome {
    case done
    case reply([UInt8])
    /// All is well when those of these rings that are due have started.
    case changed(Set<Int>)
    /// A ring concerned does not run any more.
    case failed
  }

  /// Handles one message and returns the payload of its reply, if it gets one (E68, E69).
  private func answer(_ message: Message) throws(ProtocolError) -> [UInt8]? {
    // As it was when the front-end sent the message, which may be the one that negotiates it.
    let awaited = message.needsReply && protocolFeatures.contains(.replyAck)
    do throws(ProtocolError) {
      let outcome = try handle(message)
      if case .reply(let payload) = outcome {
        startDue()
        return payload
      }
      return awaited ? acknowledgement(of: outcome) : nil
    } catch {
      let hasOwnReply = Request(rawValue: message.header.code)?.hasOwnReply ?? false
      guard error.kind == .refused, awaited, !hasOwnReply else { throw error }
      onEvent(.refused(error.message))
      startDue()
      return UInt64(1).bytes
    }
  }

  /// Starts what is due, and returns the answer to a message that had no other trouble: 0 for success.
  func acknowledgement(of outcome: Outcome) -> [UInt8] {
    let failures = startDue()
    let isWell =
      switch outcome {
      case .done, .reply: true
      case .changed(let concerned): failures.isDisjoint(with: concerned)
      case .failed: false
      }
    return UInt64(isWell ? 0 : 1).bytes
  }

  private func handle(_ message: Message) throws(ProtocolError) -> Outcome {
    guard let request = Request(rawValue: message.header.code) else {
      throw ProtocolError(.refused, "request \(message.header.code) is unknown")
    }
    try message.checkShape(request)
    let payload = message.payload
    switch request {
    case .getFeatures: return .reply(backend.features.rawValue.bytes)
    case .setFeatures: return try setFeatures(Features(rawValue: UInt64(payload)))
    case .getProtocolFeatures: return try getProtocolFeatures()
    case .setProtocolFeatures:
      return try setProtocolFeatures(ProtocolFeatures(rawValue: UInt64(payload)))
    case .getQueueNum: return try getQueueNum()
    case .setOwner: return .done
    case .resetOwner: return resetOwner()
    case .resetDevice: return try resetDevice()
    case .setStatus: return try setStatus(UInt64(payload))
    case .getStatus: return try getStatus()
    case .netSetMTU: return try setMTU(UInt64(payload))
    case .sendRARP: return try sendRARP(payload)

    case .setMemTable: return try setMemTable(payload, message.descriptors)
    case .getMaxMemSlots: return try getMaxMemSlots()
    case .addMemReg: return try addMemReg(SingleRegion(payload).region, message.descriptors[0])
    case .remMemReg: return try remMemReg(SingleRegion(payload).region)
    case .setLogBase: return try setLogBase(payload, message.descriptors.first)
    case .setLogFD: return try setLogFD(message.descriptors[0])
    case .setBackendReqFD: return try setBackendReqFD(message.descriptors[0])
    case .iotlbMsg: return try changeIOTLB(IOTLBMessage(payload))

    case .setVringNum: return try setVringNum(VringState(payload))
    case .setVringAddr: return try setVringAddr(VringAddress(payload))
    case .setVringBase: return try setVringBase(VringState(payload))
    case .getVringBase: return try getVringBase(VringState(payload))
    case .setVringEnable: return try setVringEnable(VringState(payload))
    case .setVringKick, .setVringCall, .setVringErr:
      return try setVringFile(request, VringFile(UInt64(payload)), message.descriptors.first)

    default: throw .refused(request, "not supported")
    }
  }

  /// What is offered and can be served.
  var offered: ProtocolFeatures { backend.protocolFeatures.intersection(.supported) }

  /// Refuses a request whose protocol feature is not offered.
  func require(_ feature: ProtocolFeatures, for request: Request) throws(ProtocolError) {
    guard offered.contains(feature) else {
      throw .refused(request, "\(feature.names.joined()) is not offered")
    }
  }
}
