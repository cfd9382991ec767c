import Foundation
import Hostile
import Testing

extension EndToEnd {
  /// Every case of the catalogue, against the daemon that the other tests here have their guests on.
  @Suite(.serialized) struct HostileGuests {
    @Test(
      "The daemon lives, others lose nothing, nothing leaks, the port names it, a new front-end works",
      arguments: Catalogue.cases)
    func attack(_ entry: Case) throws {
      let verdict = try HostileBed.shared().run(entry)
      #expect(verdict.problems == [], "\(entry.summary)")
      #expect(verdict.notOffered == nil)
    }

    @Test("The switch kept to the rules towards those who did")
    func manners() throws {
      let ground = try HostileBed.shared()
      #expect(ground.finish() == [])
      HostileBed.end()
    }
  }
}

/// The daemon of all cases: to start one for each would take most of the time.
private enum HostileBed {
  nonisolated(unsafe) private static var ground: ProvingGround?
  nonisolated(unsafe) private static var scratch: Scratch?

  static func shared() throws -> ProvingGround {
    if let ground { return ground }
    let folder = try Scratch()
    let made = try ProvingGround(
      Subject.swivel(
        program: Place.program("swiveld"), folder: folder.path, patience: 60_000))
    scratch = folder
    ground = made
    // Where only some of the cases run.
    atexit { HostileBed.end() }
    return made
  }

  static func end() {
    ground?.subject.stop()
    ground = nil
    scratch = nil
  }
}
