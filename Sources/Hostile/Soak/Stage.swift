internal import Linux
internal import Synchronization
internal import VirtioDriver

/// What all who act in a soak share: when to rest, when it is over, what went wrong, what was done.
final class Stage: Sendable {
  private struct State {
    var isPaused = false
    var isOver = false
    var players: [Player] = []
    var resting: Set<String> = []
    var problems: [String] = []
  }

  private let state = Lock(State())
  let seed: UInt64
  /// Milliseconds without a sign of life after which something counts as hung.
  let patience: Int

  let guests = Atomic<Int>(0)
  let machines = Atomic<Int>(0)
  let attacks = Atomic<Int>(0)
  let ports = Atomic<Int>(0)
  let requests = Atomic<Int>(0)
  let reloads = Atomic<Int>(0)

  /// Where each decision goes at once; `nil`: nowhere.
  let tell: (@Sendable (String) -> Void)?

  init(seed: UInt64, patience: Int, tell: (@Sendable (String) -> Void)?) {
    self.seed = seed
    self.patience = patience
    self.tell = tell
  }

  var isPaused: Bool { state.withLock { $0.isPaused } }
  var isOver: Bool { state.withLock { $0.isOver } }
  var problems: [String] { state.withLock { $0.problems } }

  /// Keeps what went wrong, and ends the soak: what was done last is what one wants to know then.
  func fail(_ what: String) {
    state.withLock { state in
      if state.problems.count < 16 { state.problems.append(what) }
      state.isOver = true
    }
  }

  // ---- Those who act ----

  /// Starts one who acts until the soak is over.
  ///
  /// - Parameters:
  ///   - isSlow: whether pauses are not to wait for it, but for the last one.
  ///   - body: returns when `Player.rest` says so.
  func enter(
    _ name: String, isSlow: Bool = false,
    _ body: @escaping @Sendable (Player, inout Dice) throws -> Void
  ) throws(SystemError) {
    let player = Player(name, isSlow: isSlow, on: self)
    state.withLock { $0.players.append(player) }
    try player.start { [seed] in
      var dice = Dice(seed: seed, of: name)
      do {
        try body(player, &dice)
      } catch {
        // What fails because it is over, or because something else did before, is no news.
        if !self.isOver { self.fail("\(name): \(error)") }
      }
      self.state.withLock { _ = $0.resting.insert(name) }
    }
  }

  /// Waits until all rest; false when one does not come to an end in time, or the soak is over.
  ///
  /// - Parameter isLast: the slow ones are waited for too.
  func pause(isLast: Bool) -> Bool {
    state.withLock { $0.isPaused = true }
    var busy: [String] = []
    let all = Deadline.wait(milliseconds: (isLast ? 10 : 3) * patience) {
      busy = self.busy(slow: isLast)
      return busy.isEmpty || isOver
    }
    if !all { fail("\(busy.joined(separator: " and ")) did not come to an end") }
    return !isOver
  }

  /// Whether somebody slow is at work.
  var isDisturbed: Bool { !busy(slow: true).isEmpty }

  private func busy(slow: Bool) -> [String] {
    state.withLock { state in
      state.players.filter { !state.resting.contains($0.name) && (slow || !$0.isSlow) }
        .map(\.name)
    }
  }

  func resume() { state.withLock { $0.isPaused = false } }

  /// Lets everybody leave, and waits for it.
  func end() {
    let players = state.withLock { state in
      state.isOver = true
      return state.players
    }
    for player in players { player.join() }
  }

  /// Attaches a guest: as long as the switch has not noticed that the front-end before has gone, it turns a second one
  /// away.
  func retrying<Result>(
    _ body: () throws(FrontEndError) -> Result
  ) throws(FrontEndError) -> Result {
    let deadline = Deadline(milliseconds: patience)
    while true {
      do throws(FrontEndError) {
        return try body()
      } catch {
        if error != .closed || deadline.isOver || isOver { throw error }
      }
      Deadline.pause()
    }
  }

  /// What each did last, a line each.
  var diaries: [String] { state.withLock { $0.players }.flatMap(\.diary) }

  fileprivate func park(_ name: String) {
    state.withLock { _ = $0.resting.insert(name) }
    while true {
      let leaves = state.withLock { state in
        if state.isPaused, !state.isOver { return false }
        state.resting.remove(name)
        return true
      }
      if leaves { return }
      Deadline.pause()
    }
  }
}

/// One who acts in a soak, on a thread of its own.
final class Player: Sendable {
  let name: String
  let stage: Stage
  fileprivate let isSlow: Bool
  private let entries = Lock<[String]>([])
  private let thread = Lock<Linux.Thread?>(nil)
  private let begin = ContinuousClock.now

  fileprivate init(_ name: String, isSlow: Bool, on stage: Stage) {
    self.name = name
    self.isSlow = isSlow
    self.stage = stage
  }

  fileprivate func start(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
    let started = try Linux.Thread(name: name, body)
    thread.withLock { $0 = started }
  }

  fileprivate func join() {
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
  }

  /// A place where nothing is under way: waits here while everything is accounted for.
  ///
  /// - Parameter tidy: takes away what is not to be there then.
  /// - Returns: false when the soak is over.
  func rest(_ tidy: () throws -> Void = {}) throws -> Bool {
    if stage.isPaused {
      try tidy()
      stage.park(name)
    }
    return !stage.isOver
  }

  /// Notes a decision.
  func note(_ what: String) {
    let seconds = (ContinuousClock.now - begin) / .seconds(1)
    let line = "\(Double(Int(seconds * 1000)) / 1000) s \(name): \(what)"
    stage.tell?(line)
    entries.withLock { entries in
      if entries.count == 12 { entries.removeFirst() }
      entries.append(line)
    }
  }

  fileprivate var diary: [String] { entries.withLock { $0 } }
}

/// What a switch did that it must not, or did not do; one clause for a person.
struct SoakError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
