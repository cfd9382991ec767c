internal import Linux

/// Where a port's thread comes to stand while the switch is handed over, between two messages of its front-end.
final class Gate<Item>: Sendable {
  /// Signalled while the thread is wanted here.
  let event: EventFD
  private let state = Lock(State())

  private struct State {
    var isAsked = false
    var isStanding = false
    var isOver = false
    /// What the thread has in hand.
    var item: Item?
  }

  init() throws(SystemError) { event = try EventFD() }

  // ---- The thread ----

  var isAsked: Bool { state.withLock { $0.isAsked } }

  /// Stands here for as long as that is asked for. Returns whether the thread is to go on: not when what it did is another
  /// process's now.
  func stand(with item: Item?) -> Bool {
    state.withLock { state in
      state.isStanding = state.isAsked
      state.item = item
    }
    while state.withLock({ $0.isAsked }) { Pause.microseconds(200) }
    return state.withLock { state in
      state.isStanding = false
      state.item = nil
      return !state.isOver
    }
  }

  // ---- Who hands over ----

  func ask() {
    state.withLock { $0.isAsked = true }
    event.signal()
  }

  /// Waits for the thread; returns whether it stands here.
  func awaitThread(until deadline: ContinuousClock.Instant) -> Bool {
    while !state.withLock({ $0.isStanding }) {
      if ContinuousClock.now >= deadline { return false }
      Pause.microseconds(100)
    }
    return true
  }

  /// What the thread has in hand; `nil`: nothing, or it does not stand here.
  var item: Item? { state.withLock { $0.isStanding ? $0.item : nil } }

  /// Lets the thread go.
  ///
  /// - Parameter isOver: to its end.
  func release(isOver: Bool = false) {
    event.drain()
    state.withLock { state in
      state.isOver = isOver
      state.isAsked = false
    }
    // The next to ask must not take it for there already.
    while state.withLock({ $0.isStanding }) { Pause.microseconds(100) }
  }
}
