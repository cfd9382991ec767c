public import Linux

/// A front-end's connection, from its first message to its end. (Interface; the handlers follow.)
public final class Session {
  let backend: any Backend
  let onEvent: (SessionEvent) -> Void

  /// - Parameters:
  ///   - connection: a connected, non-blocking Unix stream socket, from `UnixSocket`.
  ///   - stop: ends the session as soon as it is signalled; it is not drained.
  ///   - listener: the socket the connection came from, when there is one. While the session lives every
  ///     further front-end that connects there is turned away.
  ///   - onEvent: called on the session's thread.
  public init(
    connection: OwnedFD, backend: any Backend, stop: EventFD, listener: OwnedFD? = nil,
    onEvent: @escaping (SessionEvent) -> Void = { _ in }
  ) {
    self.backend = backend
    self.onEvent = onEvent
  }

  /// Serves the front-end until it goes, `stop` is signalled or the protocol is broken. On return every
  /// ring is stopped, `Backend.reset` has been called and the connection is closed. Call it once.
  public func run() -> SessionEnd { .frontEndClosed }
}
