internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging

/// What is known of a port that is, or was, part of a loop.
struct LoopNote: Sendable {
  /// Looks, a second apart, that have found it.
  var count: UInt64 = 0
  /// The port at the other end and the moves a second, while it goes on.
  var now: (other: String, rate: Double)?
  /// Until when the port is cut off.
  var cutUntil: ContinuousClock.Instant?
}

/// Loops are named, and cut where that is asked for.
extension Switch {
  /// Between two looks.
  static let loopInterval = Duration.seconds(1)
  /// For how long a port is cut off: then it is tried again, and cut again within two seconds if nothing has changed.
  static let cutTime = Duration.seconds(60)

  /// Looks for loops among the ports there are.
  func findLoops(_ finder: inout LoopGuard, since last: ContinuousClock.Instant) {
    let time = ContinuousClock.now
    let ports = allPorts
    let byNumber = Dictionary(
      ports.map { ($0.number, $0) }, uniquingKeysWith: { first, _ in first })
    let found = finder.look(
      ports.map {
        .init(
          port: $0.number, moved: dataplane.learning(port: $0.number).counts.moved,
          frames: configuration.cutsLoops && $0.canBeCut ? received($0) : 0)
      }, seconds: max(0.001, last.duration(to: time) / .seconds(1)))
    restore(ports, at: time)
    loops.withLock { notes in
      for key in notes.keys { notes[key]?.now = nil }
    }
    for loop in found {
      let both = loop.ports.compactMap { byNumber[$0] }
      if both.count == 2 { note(louder: both[0], both[1], rate: loop.rate, at: time) }
    }
  }

  private func note(
    louder: any SwitchPort, _ other: any SwitchPort, rate: Double, at time: ContinuousClock.Instant
  ) {
    let pairs = [(louder, other), (other, louder)]
    loops.withLock { notes in
      for (port, far) in pairs {
        notes[ObjectIdentifier(port), default: LoopNote()].count += 1
        notes[ObjectIdentifier(port)]?.now = (far.request.name, rate)
      }
    }
    let names = [louder, other].map(\.request.name).sorted()
    if allowsLine("loop \(names)") {
      logger.warning(
        "addresses move between port '\(names[0])' and port '\(names[1])', \(Int(rate)) times a second: a loop, most likely, or somebody who sends in another's name"
      )
    }
    // A guest must not be able to have another port cut by what it sends, so that only two uplinks are judged.
    guard configuration.cutsLoops, louder.canBeCut, other.canBeCut else { return }
    loops.withLock { $0[ObjectIdentifier(louder)]?.cutUntil = time + Switch.cutTime }
    louder.cut(true)
    logger.warning(
      "port '\(louder.request.name)' is cut off for \(Int(Switch.cutTime / .seconds(1))) seconds, as part of a loop with port '\(other.request.name)'"
    )
  }

  /// Frames that came in from a port since it was made.
  private func received(_ port: any SwitchPort) -> UInt64 {
    port.polled.reduce(0) { sum, entry in
      sum + (dataplane.counters(port: port.number, queue: entry.queue)?.frames ?? 0)
    }
  }

  /// Ends cuts whose time is over, and forgets ports that are gone.
  private func restore(_ ports: [any SwitchPort], at time: ContinuousClock.Instant) {
    let ended = loops.withLock { notes in
      let there = Set(ports.map { ObjectIdentifier($0) })
      notes = notes.filter { there.contains($0.key) }
      let ended = Set(notes.filter { $1.cutUntil.map { $0 <= time } ?? false }.keys)
      for key in ended { notes[key]?.cutUntil = nil }
      return ended
    }
    for port in ports where ended.contains(ObjectIdentifier(port)) {
      port.cut(false)
      logger.notice("port '\(port.request.name)' is tried again after it was cut off")
    }
  }

  /// The port as it is shown: what it says of itself, and the loop that it is part of.
  func shown(_ port: any SwitchPort, macs: [Int: Int]) -> Port {
    var shown = port.snapshot(macs: macs)
    guard let note = loops.withLock({ $0[ObjectIdentifier(port)] }) else { return shown }
    shown.faults["loop"] = note.count
    if let (other, rate) = note.now {
      shown.explanation +=
        "; addresses move between it and port '\(other)', \(Int(rate)) times a second: a loop, most likely"
    }
    return shown
  }
}
