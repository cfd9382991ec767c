import ControlAPI
import Glibc
import Linux
import Logging
import Switch

/// Waits for a daemon that takes over from this one, and hands over to it. One at a time; whoever else tries waits.
final class TakeOverServer: Sendable {
  private let finish: EventFD
  private let thread: Linux.Thread

  /// For the other to start all that it can by itself.
  private static let preparation = Duration.seconds(60)
  /// For a message, and its answer, while nothing moves: after that this daemon goes on.
  private static let exchange = Duration.seconds(2)

  /// - Parameter sockets: listeners that go with the switch.
  init(
    _ listener: UnixListener, network: Switch, readiness: Readiness, logger: Logger,
    sockets: @escaping @Sendable () -> [UnixListener]
  ) throws {
    let finish = try EventFD()
    self.finish = finish
    thread = try Linux.Thread(name: "take-over") {
      while true {
        do {
          let ready = try Poller.wait([
            (finish.descriptor.raw, .read), (listener.descriptor.raw, .read),
          ])
          if ready[0] { return }
          guard let connection = try UnixSocket.accept(listener.descriptor) else { continue }
          let stream = MessageStream(connection)
          do {
            let heir = try TakeOverServer.check(connection)
            logger.notice("process \(heir) wants to take over")
            try TakeOverServer.serve(
              stream, heir, network, readiness, logger, [listener] + sockets())
          } catch {
            logger.warning("was not taken over, and goes on: \(error)")
            var refusal = TakeOverMessage(.refused)
            refusal.reason = (error as? ServiceError)?.message ?? "\(error)"
            try? stream.send(refusal, within: .milliseconds(100))
          }
        } catch {
          logger.error("can't wait for a daemon that takes over: \(error)")
          if Poller.pause(milliseconds: 1000, unless: finish) { return }
        }
      }
    }
  }

  func stop() {
    finish.signal()
    thread.join()
  }

  /// Who may take over: root, and this daemon's own user. Returns the process.
  private static func check(_ connection: OwnedFD) throws -> Int {
    guard let peer = UnixSocket.peer(connection), peer.uid == 0 || peer.uid == geteuid() else {
      throw ServiceError(.refused, "only root and the daemon's own user may take over")
    }
    return peer.pid
  }

  private static func serve(
    _ stream: MessageStream, _ heir: Int, _ network: Switch, _ readiness: Readiness,
    _ logger: Logger, _ listeners: [UnixListener]
  ) throws {
    _ = try stream.receive(.hello, within: .seconds(5))
    var offer = TakeOverMessage(.offer)
    offer.saved = network.presentState()
    var file = HandedDescriptors()
    if let state = network.stateDescriptor {
      offer.stateFile = .init(path: state.path, descriptor: file.add(state.descriptor))
    }
    try stream.send(offer, file, within: .seconds(5))
    _ = try stream.receive(.stop, within: preparation)
    try network.handOver { state, descriptors in
      let began = ContinuousClock.now
      var descriptors = descriptors
      var message = TakeOverMessage(.state)
      message.state = state
      message.sockets = listeners.map { HandedListener($0, &descriptors) }
      try stream.send(message, descriptors, within: exchange)
      _ = try stream.receive(.tookOver, within: exchange)
      // From this on there is no way back: if the other is gone, so is this one.
      try stream.send(TakeOverMessage(.yours), within: exchange)
      readiness.handsOver(to: heir)
      let took = began.duration(to: .now) / .milliseconds(1)
      logger.notice("process \(heir) has taken over, in \(Int(took)) ms; ends")
      // Nothing is to be ended in good order: all of it is the other's.
      _exit(0)
    }
  }
}
