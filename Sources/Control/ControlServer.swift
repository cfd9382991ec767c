public import ControlAPI
internal import Dispatch
public import Linux
public import Logging
internal import SystemPackage

/// The control interface: HTTP/1.1 with JSON over a Unix socket.
///
/// One thread accepts, one thread serves each connection, and every wait has an end: a client that says
/// nothing, sends half a request or never reads its reply costs one of `Limits.connections` slots for
/// `Limits` seconds and nothing else. The service's calls may block, which is why threads serve them and
/// not Swift's cooperative pool.
public final class ControlServer: Sendable {
  private let socket: ControlSocket
  private let router: Router
  private let logger: Logger
  private let limits: Limits
  private let running = Lock<Running?>(nil)

  private struct Running: Sendable {
    var listener: UnixListener
    var stop: EventFD
    var thread: Linux.Thread
  }

  /// - Parameter readOnly: whoever may connect may look, and change nothing.
  public convenience init(
    socket: ControlSocket, service: any SwitchService, logger: Logger, readOnly: Bool = false
  ) {
    self.init(
      socket: socket, service: service, logger: logger, limits: Limits(), readOnly: readOnly)
  }

  init(
    socket: ControlSocket, service: any SwitchService, logger: Logger, limits: Limits,
    readOnly: Bool = false
  ) {
    self.socket = socket
    router = Router(service: service, logger: logger, readOnly: readOnly)
    self.logger = logger
    self.limits = limits
  }

  /// Listens, and returns once clients can connect. Throws a `SystemError` or a `ServiceError` whose
  /// description says why not: another daemon answers there, a file that is no socket is in the way, …
  ///
  /// - Parameter taken: where clients connect already, if another process has listened there until now.
  public func start(on taken: UnixListener? = nil) async throws {
    try running.withLock { running in
      if running != nil {
        throw ServiceError(.conflict, "the control server runs already")
      }
      let listener = try taken ?? socket.listen()
      let peers = try socket.peers()
      let stop = try EventFD()
      // Now, while there are some.
      let spare = SpareDescriptors(8)
      let (router, logger, limits) = (router, logger, limits)
      let thread = try Linux.Thread(name: "control") {
        var acceptor = Acceptor(
          listener: listener, peers: peers, stop: stop, router: router, logger: logger,
          limits: limits, spare: spare)
        acceptor.run()
      }
      running = Running(listener: listener, stop: stop, thread: thread)
    }
    logger.info(
      "the control socket is \(socket.path)\(router.readOnly ? ", for reading alone" : "")")
  }

  public var path: String { socket.path }

  /// Where clients connect; `nil`: nowhere.
  public var listener: UnixListener? { running.withLock { $0?.listener } }

  /// Ends all connections after the request each is serving, and removes the socket file.
  public func stop() async {
    let ending = running.withLock { running in
      defer { running = nil }
      return running
    }
    guard let ending else { return }
    ending.stop.signal()
    await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        ending.thread.join()
        continuation.resume()
      }
    }
  }
}

/// What a client may take of the daemon.
struct Limits: Sendable {
  /// Connections served at once; further ones get a 503.
  var connections = 64
  /// Bytes of a request's line and headers.
  var head = 16 * 1024
  /// Bytes of a request's body.
  var body = 64 * 1024
  /// From a connection's start, or its last reply, to the first byte of the next request.
  var idle = Duration.seconds(15)
  /// From the first byte of a request to its last.
  var request = Duration.seconds(5)
  /// Until the client has taken the reply.
  var reply = Duration.seconds(10)
}

/// Accepts connections until told to stop, and owns their threads.
private struct Acceptor {
  let listener: UnixListener
  let peers: ControlPeers
  let stop: EventFD
  let router: Router
  let logger: Logger
  let limits: Limits
  private var refusals = Refusals()
  private var failures = Refusals()
  private let spare: SpareDescriptors
  private let finished = Finished()
  private var threads: [Int: Linux.Thread] = [:]
  private var next = 0

  init(
    listener: UnixListener, peers: ControlPeers, stop: EventFD, router: Router, logger: Logger,
    limits: Limits, spare: SpareDescriptors
  ) {
    self.listener = listener
    self.peers = peers
    self.stop = stop
    self.router = router
    self.logger = logger
    self.limits = limits
    self.spare = spare
  }

  /// Connections that ended, whose threads wait to be joined.
  private final class Finished: Sendable {
    let ids = Lock<[Int]>([])
  }

  mutating func run() {
    while true {
      do throws(SystemError) {
        let ready = try Poller.wait([
          (listener.descriptor.raw, .read), (stop.descriptor.raw, .read),
        ])
        if ready[1] { break }
        // Those that have ended since count no more.
        reap()
        if ready[0], let connection = try accept() { serve(connection) }
      } catch {
        // Out of descriptors or memory: the next connections wait in the backlog until there are some.
        if let unsaid = failures.next(at: .now) {
          let more = unsaid == 0 ? "" : "; \(unsaid) times more since the last such line"
          logger.error("the control socket could not accept a connection: \(error)\(more)")
        }
        if Poller.pause(milliseconds: 200, unless: stop) { break }
      }
    }
    for thread in threads.values { thread.join() }
  }

  /// The next connection. When front-ends have used all descriptors up, one of those that were kept for this goes to it.
  private func accept() throws(SystemError) -> OwnedFD? {
    do throws(SystemError) {
      return try UnixSocket.accept(listener.descriptor)
    } catch {
      guard error.errno == .tooManyOpenFiles, spare.giveOne() else { throw error }
      return try UnixSocket.accept(listener.descriptor)
    }
  }

  private mutating func serve(_ socket: OwnedFD) {
    let stream = ByteStream(socket: socket, stop: stop)
    // The mode of the file says the same, unless somebody has changed it, or a directory was shared.
    let peer = try? Identity.peer(of: socket)
    guard let peer, peers.allow(peer.identity) else {
      refuse(peer, on: stream)
      return
    }
    if threads.count >= limits.connections {
      let reply = HTTPReply.error(
        503, "the daemon serves \(limits.connections) connections already")
      try? stream.write(reply.encoded(keepAlive: false), within: .zero)
      return
    }
    let id = next
    next += 1
    let (router, limits, finished) = (router, limits, finished)
    do {
      threads[id] = try Linux.Thread(name: "control-\(id)") {
        var connection = HTTPConnection(stream: stream, limits: limits, router: router)
        connection.serve()
        finished.ids.withLock { $0.append(id) }
      }
    } catch {
      logger.error("the control socket dropped a connection: \(error)")
    }
  }

  private mutating func refuse(_ peer: (pid: Int, identity: Identity)?, on stream: ByteStream) {
    let user = peer.map { "user \($0.identity.user)" } ?? "an unknown user"
    let reply = HTTPReply.error(403, "\(user) may not use the control interface")
    try? stream.write(reply.encoded(keepAlive: false), within: .zero)
    guard let unsaid = refusals.next(at: .now) else { return }
    let process = peer.map { " (process \($0.pid))" } ?? ""
    let more = unsaid == 0 ? "" : "; \(unsaid) others were refused since the last such line"
    logger.warning("the control socket refused \(user)\(process)\(more)")
  }

  private mutating func reap() {
    let ended = finished.ids.withLock { ids in
      defer { ids = [] }
      return ids
    }
    for id in ended { threads.removeValue(forKey: id)?.join() }
    spare.refill()
  }
}

/// Says which refusals are to be logged: one in ten seconds, so that nobody can fill the log.
struct Refusals {
  private var last: ContinuousClock.Instant?
  private var unsaid = 0

  /// Counts one. The number of those before it that were not logged; `nil`: nor is this one to be.
  mutating func next(at now: ContinuousClock.Instant) -> Int? {
    if let last, now - last < .seconds(10) {
      unsaid += 1
      return nil
    }
    defer { unsaid = 0 }
    last = now
    return unsaid
  }
}
