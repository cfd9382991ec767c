import ControlAPI
import Foundation
import Linux
import Switch
import Testing
import VirtioDriver

extension SwitchTests {
  @Suite struct SocketTests {
    @Test("Client mode: connects when a front-end listens, and again when it comes back")
    func client() throws {
      let bench = try Bench()
      try bench.addPort("vm", mode: .client)
      let other = try bench.attach("other")
      #expect(
        eventually {
          bench.fabric.port(named: "vm")?.explanation.contains("the last attempt") == true
        })
      #expect(try bench.port("vm").state == .waiting)
      for round in 1...3 {
        let listener = try UnixListener(path: bench.path("vm"))
        let guest = try GuestPort(listener: listener)
        #expect(try bench.port("vm").vhostUser?.connections == round)
        let frame = TestFrame.make(to: .broadcast, from: .station(1), sequence: UInt64(round))
        try guest.deliver(frame)
        #expect(other.collect() == [frame])
        guest.disconnect()
        #expect(eventually { bench.fabric.port(named: "vm")?.state == .waiting })
      }
      bench.expectBalance()
    }

    @Test("Server mode: guests come one after another on one socket")
    func server() throws {
      let bench = try Bench()
      try bench.addPort("vm")
      let other = try bench.attach("other")
      for round in 1...10 as ClosedRange<UInt64> {
        let guest = try bench.guest("vm")
        let frame = TestFrame.make(to: .broadcast, from: .station(1), sequence: round)
        try guest.deliver(frame)
        #expect(other.collect() == [frame])
        guest.disconnect()
      }
      #expect(eventually { bench.fabric.port(named: "vm")?.state == .waiting })
      #expect(try bench.port("vm").vhostUser?.connections == 10)
      bench.expectBalance()
    }

    @Test("A second front-end is turned away while the first lives (HP-14)")
    func second() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let other = try bench.attach("other")
      let intruder = try FrontEnd.connect(path: bench.path("vm"))
      #expect(intruder.isClosed(within: 20_000))
      #expect(eventually { bench.fabric.port(named: "vm")?.lastError?.contains("second") == true })
      let frame = TestFrame.make(to: .broadcast, from: .station(1), sequence: 1)
      try guest.deliver(frame)
      #expect(other.collect() == [frame])
      #expect(try bench.port("vm").vhostUser?.connections == 1)
      guest.disconnect()
      _ = try bench.guest("vm")
    }

    @Test(
      "Whoever is turned away and tries again at once is turned away ten times a second, no more")
    func refusalsArePaced() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      let start = ContinuousClock.now
      // As a domain without `reconnect`'s pause does; each try waits until it is turned away.
      for _ in 0..<8 {
        let intruder = try FrontEnd.connect(path: bench.path("vm"))
        #expect(intruder.isClosed(within: 120_000))
      }
      let refused = try #require(try bench.port("vm").faults["second_front_end"])
      #expect(refused == 8)
      #expect(ContinuousClock.now - start >= .milliseconds(700))
      #expect(!guest.frontEnd.isClosed())
    }

    @Test("A front-end's own end of the connection is no channel, whoever connected (HP-14)")
    func ownEnd() throws {
      let bench = try Bench()
      try bench.addPort("server")
      try bench.addPort("client", mode: .client)
      let listener = try UnixListener(path: bench.path("client"))
      for frontEnd in [
        try FrontEnd.connect(path: bench.path("server")),
        try FrontEnd.accept(on: listener, milliseconds: 120_000),
      ] {
        try frontEnd.negotiate(.usual, .usual.union(.backendReq))
        let own = try #require(frontEnd.socket)
        #expect(throws: FrontEndError.refused(.setBackendReqFD, code: 1)) {
          try frontEnd.set(.setBackendReqFD, descriptors: [own])
        }
        try frontEnd.set(.setBackendReqFD, descriptors: [try UnixSocket.pair().0])
      }
    }

    @Test("Half a message, then silence or the end: only this front-end is lost (HP-05, HP-09)")
    func halfMessage() throws {
      let bench = try Bench()
      let other = try bench.attach("other")
      try bench.addPort("vm")
      let whole = FrontEndMessage(
        .setMemTable,
        payload: FrontEndMessage.words(UInt32(1), 0) + [UInt8](repeating: 0, count: 32))
      for length in [1, 11, 12, 13, 30] {
        let frontEnd = try FrontEnd.connect(path: bench.path("vm"))
        try frontEnd.negotiate()
        try frontEnd.send(Array(whole.bytes.prefix(length)))
        frontEnd.close()
        let guest = try bench.guest("vm")
        let frame = TestFrame.make(to: .broadcast, from: .station(1), sequence: UInt64(length))
        try guest.deliver(frame)
        #expect(other.collect() == [frame])
        guest.disconnect()
      }
      bench.expectBalance()
    }

    @Test("A stale socket is replaced, the file is removed at the end")
    func stale() throws {
      let bench = try Bench()
      // A listener of another life: its file stays when only the descriptor is closed.
      let path = bench.path("vm")
      do {
        let old = try UnixListener(path: bench.path("old"))
        try FileManager.default.moveItem(atPath: old.path, toPath: path)
      }
      #expect(FileManager.default.fileExists(atPath: path))
      let guest = try bench.attach("vm")
      #expect(try bench.port("vm").state == .running)
      guest.disconnect()
      try bench.fabric.removePort(named: "vm")
      #expect(!FileManager.default.fileExists(atPath: path))
      // The name and the path are free again at once.
      _ = try bench.attach("vm")
    }

    @Test("A file that is no socket is never touched, nor a socket that answers")
    func foreign() throws {
      let bench = try Bench()
      let path = bench.path("vm")
      try "precious".write(toFile: path, atomically: true, encoding: .utf8)
      let error = #expect(throws: ServiceError.self) { try bench.addPort("vm") }
      #expect(error?.kind == .conflict && error?.message.contains("no socket") == true)
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
      try FileManager.default.removeItem(atPath: path)

      let listener = try UnixListener(path: path)
      let busy = #expect(throws: ServiceError.self) { try bench.addPort("vm") }
      #expect(busy?.message.contains("another process listens") == true)
      #expect(FileManager.default.fileExists(atPath: listener.path))
      #expect(bench.fabric.ports().isEmpty)
    }

    @Test("Names and paths are unique, and a port must be there to be removed")
    func conflicts() throws {
      let bench = try Bench()
      try bench.addPort("vm")
      let name = #expect(throws: ServiceError.self) { try bench.addPort("vm") }
      #expect(name?.kind == .conflict)
      let path = #expect(throws: ServiceError.self) {
        try bench.fabric.addPort(
          PortRequest(name: "other", vhostUser: VhostUserRequest(path: bench.path("vm"))))
      }
      #expect(path?.kind == .conflict && path?.message.contains("'vm'") == true)
      let missing = #expect(throws: ServiceError.self) {
        try bench.fabric.removePort(named: "nobody")
      }
      #expect(missing?.kind == .notFound)
      let invalid = #expect(throws: ServiceError.self) {
        try bench.fabric.addPort(PortRequest(name: "neither"))
      }
      #expect(invalid?.kind == .invalid)
      #expect(bench.fabric.ports().map(\.name) == ["vm"])
    }

    @Test("The socket has the permissions that were asked for")
    func permissions() throws {
      let bench = try Bench()
      for (text, bits) in [("0600", 0o600), ("0666", 0o666), ("640", 0o640)] {
        _ = try bench.fabric.addPort(
          PortRequest(
            name: "p\(text)",
            vhostUser: VhostUserRequest(path: bench.path("p\(text)"), permissions: text)))
        let attributes = try FileManager.default.attributesOfItem(atPath: bench.path("p\(text)"))
        #expect(attributes[.posixPermissions] as? Int == bits)
      }
    }

    @Test("Stopping the switch ends its ports and removes their sockets")
    func stop() throws {
      let bench = try Bench()
      let guests = try bench.guests(3)
      bench.fabric.stop()
      for guest in guests { #expect(guest.frontEnd.isClosed(within: 20_000)) }
      #expect(try FileManager.default.contentsOfDirectory(atPath: bench.directory) == [])
    }
  }
}
