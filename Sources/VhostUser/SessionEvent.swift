/// What happened in a session, for a log or a status page. Sentences, for people.
public enum SessionEvent: Equatable, Sendable {
  /// Features or protocol features were accepted; both as they are now.
  case negotiated(Features, ProtocolFeatures)
  /// The memory table was replaced: so many regions, so many bytes.
  case memoryChanged(regions: Int, bytes: UInt64)
  /// The ring is worked on, or, when not enabled, drained.
  case ringStarted(Int, enabled: Bool)
  case ringStopped(Int)
  /// A ring that goes on running is worked on from here on, or only drained.
  case ringEnabled(Int, Bool)
  /// The back-end would not start this ring; it is tried again when anything about it changes.
  case ringFailed(Int, String)
  /// A request was refused; the session goes on.
  case refused(String)
  /// Another front-end connected meanwhile and was turned away (HP-14).
  case refusedSecondFrontEnd
}

/// How a session ended.
public enum SessionEnd: Equatable, Sendable {
  /// The front-end closed the connection between two messages.
  case frontEndClosed
  /// The stop event was signalled.
  case stopped
  /// The front-end broke the protocol, or the connection failed.
  case failed(ProtocolError)
}
