import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// Guests that move to another host while they run.
  @Suite(
    .enabled(if: Machine.hasTAP, "needs root, /dev/net/tun and iproute2"),
    .enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Migrations {
    struct Case: Sendable, CustomTestStringConvertible {
      var number: Int
      var way: Migration.Way
      var layout: String
      var testDescription: String { "\(number): \(way.rawValue), \(layout)" }
    }

    /// CI's few; scripts/migrate-many wants so many, and beside each the same over QEMU's own back-end.
    static let many = ProcessInfo.processInfo.environment["SWIVEL_MIGRATIONS"].flatMap { Int($0) }
    static let layouts = ["packed=off", "packed=on"]
    static let cases = (0..<(many ?? 2)).flatMap { index in
      (many == nil ? [Migration.Way.hosts] : [.hosts, .tap])
        .map { Case(number: index + 1, way: $0, layout: layouts[index % 2]) }
    }

    @Test(
      "A guest moves while streams flow both ways: no byte is lost or garbled, and the network knows where it is at once (E88)",
      arguments: cases)
    func moves(which: Case) throws {
      let migration = try Migration(which.way, layout: which.layout)
      let guest = try migration.boot()
      let streams = [
        try migration.streamToGuest(guest), try migration.streamFromGuest(guest),
      ]
      #expect(try migration.place() == "swmig0")
      #expect(try !migration.isAnnounced())

      let (moved, downtime, gap) = try migration.moveUnderPings(guest)
      print("migration \(which.testDescription): downtime \(downtime) ms, gap \(gap) ms")
      #expect(try migration.place() == "swmig1")
      if let daemon = migration.daemons.last { try expectFound("vm2", daemon) }
      for stream in streams { try stream.finish(moved) }

      if Self.many == nil {
        let (back, sent, read) = try migration.moveWithFramesWaiting(moved)
        #expect(sent == read)
        try back.ping(Migration.peer)
        try expectFound("vm1", migration.daemons[0])
        back.end()
      }
      moved.end()
      try end(migration)
    }

    @Test(
      "A guest moves from one port to another of the same daemon (E88)",
      .enabled(if: many == nil))
    func movesWithin() throws {
      let migration = try Migration(.ports, layout: Self.layouts[1])
      let guest = try migration.boot()
      let streams = [
        try migration.streamToGuest(guest), try migration.streamFromGuest(guest),
      ]
      let (moved, _, _) = try migration.moveUnderPings(guest)
      try expectFound("vm2", migration.daemons[0])
      for stream in streams { try stream.finish(moved) }
      moved.end()
      try end(migration)
    }

    /// The guest's address leads to a port, and nowhere else.
    private func expectFound(_ port: String, _ daemon: Daemon) throws {
      let ports = try daemon.macs().filter { $0.mac == Migration.mac }.map(\.port)
      #expect(ports == [port])
    }

    private func end(_ migration: Migration) throws {
      for daemon in migration.daemons {
        for port in try daemon.ports() {
          #expect(port.faults.filter { $0.key != "slow_interrupts" } == [:], "\(port)")
        }
        try daemon.expectAccounted()
        try daemon.stop()
      }
    }
  }
}
