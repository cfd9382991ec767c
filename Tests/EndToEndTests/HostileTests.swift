import Foundation
import Hostile
import Testing

extension EndToEnd {
  /// Every case of the catalogue, against the daemon that the other tests here have their guests on.
  @Suite(.serialized) struct HostileGuests {
    /// The numbers of the public record: what guests and front-ends have done to virtual switches.
    static let record: [String] =
      (1...20).map { String(format: "HG-%02d", $0) }
      + (1...15).map { String(format: "HP-%02d", $0) }
      + [
        "CVE-2018-1059", "CVE-2019-14818", "CVE-2020-10722", "CVE-2020-10723", "CVE-2020-10724",
        "CVE-2020-10725", "CVE-2020-10726", "CVE-2020-14374", "CVE-2020-14375", "CVE-2020-14376",
        "CVE-2020-14377", "CVE-2020-14378", "CVE-2021-3839", "CVE-2022-0669", "CVE-2022-2132",
        "CVE-2024-11614", "CVE-2016-5403", "CVE-2021-3748", "CVE-2023-6693", "CVE-2021-3544",
        "CVE-2021-3545", "CVE-2021-3546", "CVE-2026-16457", "CVE-2011-2512", "CVE-2010-0741",
        "CVE-2016-6490", "CVE-2019-14835", "CVE-2019-3900", "CVE-2014-0055", "CVE-2014-0077",
        "CVE-2022-26353", "CVE-2023-1838", "CVE-2024-3446", "CVE-2024-6505",
      ]

    @Test("Every number of the public record has a case, and no name is there twice")
    func coverage() {
      let numbers = Set(Catalogue.cases.map(\.number))
      let missing = HostileGuests.record.filter { !numbers.contains($0) }
      #expect(missing == [])
      #expect(Set(Catalogue.cases.map(\.name)).count == Catalogue.cases.count)
    }

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
