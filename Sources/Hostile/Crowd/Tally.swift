internal import Synchronization

/// What a crowd has done, counted by all who are part of it.
final class Tally: Sendable {
  /// Front-ends that have connected, and that have gone; of those that came, those that turned round before they had
  /// any rings.
  private let comings = Atomic<Int>(0)
  private let goings = Atomic<Int>(0)
  private let turns = Atomic<Int>(0)
  /// Things that were exchanged under running rings: eventfds, memory, whether a ring is enabled, rings stopped and
  /// started.
  private let swaps = Atomic<Int>(0)
  /// Frames to one of the pair, and to everybody.
  private let frames = Atomic<Int>(0)
  private let floods = Atomic<Int>(0)
  /// Guests that are there, and the most there have been.
  private let present = Atomic<Int>(0)
  let most = Atomic<Int>(0)

  /// A copy, to be subtracted from a later one.
  struct Reading: Sendable {
    var comings = 0
    var goings = 0
    var turns = 0
    var swaps = 0
    var frames = 0
    var floods = 0

    static func - (after: Reading, before: Reading) -> Reading {
      Reading(
        comings: after.comings - before.comings, goings: after.goings - before.goings,
        turns: after.turns - before.turns, swaps: after.swaps - before.swaps,
        frames: after.frames - before.frames, floods: after.floods - before.floods)
    }
  }

  var reading: Reading {
    Reading(
      comings: comings.load(ordering: .relaxed), goings: goings.load(ordering: .relaxed),
      turns: turns.load(ordering: .relaxed), swaps: swaps.load(ordering: .relaxed),
      frames: frames.load(ordering: .relaxed), floods: floods.load(ordering: .relaxed))
  }

  func come() {
    comings.add(1, ordering: .relaxed)
    let now = present.add(1, ordering: .relaxed).newValue
    _ = most.max(now, ordering: .relaxed)
  }

  func go() {
    goings.add(1, ordering: .relaxed)
    present.subtract(1, ordering: .relaxed)
  }

  func turnRound() { turns.add(1, ordering: .relaxed) }

  func swap() { swaps.add(1, ordering: .relaxed) }

  func send(flood: Bool) {
    if flood {
      floods.add(1, ordering: .relaxed)
    } else {
      frames.add(1, ordering: .relaxed)
    }
  }
}
