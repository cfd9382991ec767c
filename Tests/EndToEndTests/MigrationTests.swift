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
    static let cases: [Case] = {
      let layouts = ["packed=off", "packed=on"]
      guard let many = ProcessInfo.processInfo.environment["SWIVEL_MIGRATIONS"].flatMap({ Int($0) })
      else {
        return [
          Case(number: 1, way: .hosts, layout: layouts[0]),
          Case(number: 2, way: .hosts, layout: layouts[1]),
          Case(number: 3, way: .ports, layout: layouts[1]),
        ]
      }
      return (0..<many).flatMap { index in
        [.hosts, .tap].map { Case(number: index + 1, way: $0, layout: layouts[index % 2]) }
      }
    }()

    @Test(
      "A guest moves while streams flow both ways: no byte is lost or garbled, and the network knows where it is at once (E88)",
      arguments: cases)
    func moves(which: Case) throws {
      let migration = try Migration(which.way, layout: which.layout)
      var guest = try migration.boot()
      let streams = [
        try migration.streamToGuest(guest), try migration.streamFromGuest(guest),
      ]
      #expect(try migration.place() == "swmig0")
      #expect(try !migration.isAnnounced())

      let (moved, downtime, gap) = try migration.move(guest)
      guest = moved
      print("migration \(which.testDescription): downtime \(downtime) ms, gap \(gap) ms")
      #expect(try migration.place() == (which.way == .ports ? "swmig0" : "swmig1"))
      if let daemon = migration.daemons.last {
        let ports = try daemon.macs().filter { $0.mac == Migration.mac }.map(\.port)
        #expect(ports == ["vm2"])
      }

      for stream in streams { try stream.finish(guest) }
      for daemon in migration.daemons {
        for port in try daemon.ports() {
          #expect(port.faults.filter { $0.key != "slow_interrupts" } == [:], "\(port)")
        }
      }
      guest.end()
      for daemon in migration.daemons {
        try daemon.expectAccounted()
        try daemon.stop()
      }
    }
  }
}
