import ControlAPI
import Foundation
import Linux
import Logging
import Testing
import VirtioDriver

@testable import Switch

extension SwitchTests {
  /// A switch that goes on where another ended.
  @Suite struct RestartTests {
    let directory = "/dev/shm/swivel-restart-\(UUID().uuidString.prefix(13))"

    private func start(_ options: [String: [String]] = [:]) throws -> (Switch, recalled: Int?) {
      let file = try StateFile(path: "\(directory)/state", milliseconds: 5000) { _ in }
      let before = try file.load()
      let fabric = try Switch(
        .init(
          cpus: [0], pinned: false, macEntries: 1024, hugepages: false),
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, state: file,
        predecessor: before)
      for name in ["a", "b"] {
        _ = try fabric.addPort(
          PortRequest(
            name: name,
            vhostUser: VhostUserRequest(
              path: "\(directory)/\(name).sock", offloads: options[name])))
      }
      fabric.keepState(file: fabric.requests)
      return (fabric, before.map { fabric.recall($0) })
    }

    private func exchange(_ guests: [GuestPort], _ count: Int, _ sequence: inout UInt64) throws {
      for (from, to) in [(0, 1), (1, 0)] {
        for _ in 0..<count {
          let frame = TestFrame.make(
            to: .station(to), from: .station(from), stream: UInt32(from), sequence: sequence,
            length: 60 + Int(sequence % 1400))
          #expect(try guests[from].send(frame, milliseconds: 60_000))
          #expect(try guests[to].receive(milliseconds: 60_000) == frame)
          sequence += 1
        }
      }
    }

    @Test(
      "Front-ends that know nothing but where their rings began go on at a switch's successor, and addresses are known",
      arguments: [false, true], [8, 61])
    func goesOn(packed: Bool, size: Int) throws {
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: directory) }
      var options = GuestPort.Options()
      if packed { options.features.insert(.ringPacked) }
      options.ringSize = packed ? size : 64
      options.timeout = 60_000
      var running: Switch?
      var recalled: Int?
      (running, recalled) = try start()
      #expect(recalled == nil)
      let guests = try ["a", "b"].map {
        try GuestPort(path: "\(directory)/\($0).sock", options: options)
      }
      var sequence: UInt64 = 0
      for round in 0..<5 {
        try exchange(guests, 10 + 7 * round, &sequence)
        #expect(running?.macs().map(\.port) == ["a", "b"])
        running?.stop()
        // The lock on the state goes with it.
        running = nil
        (running, recalled) = try start()
        #expect(recalled == 2)
        #expect(running?.macs().map(\.port) == ["a", "b"])
        for (guest, name) in zip(guests, ["a", "b"]) {
          guest.disconnect()
          let frontEnd = try FrontEnd.connect(
            path: "\(directory)/\(name).sock", milliseconds: 60_000)
          try guest.reconnect(
            frontEnd, bases: [UInt32](repeating: packed ? 0x8000_8000 : 0, count: 2))
        }
      }
      try exchange(guests, 20, &sequence)
      for guest in guests { #expect(guest.offences == []) }
      running?.stop()
    }

    @Test("A front-end is offered what it was, though its port offers less, and another one is not")
    func features() throws {
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: directory) }
      var running: Switch?
      running = try start().0
      var options = GuestPort.Options()
      options.timeout = 60_000
      options.features.insert([.csum, .hostTSO4])
      let guest = try GuestPort(path: "\(directory)/a.sock", options: options)
      #expect(guest.features.isSuperset(of: [.csum, .hostTSO4]))
      #expect(eventually { running?.port(named: "a")?.state == .running })
      running?.stop()
      running = nil
      running = try start(["a": ["none"], "b": ["none"]]).0
      try guest.reconnect(
        try FrontEnd.connect(path: "\(directory)/a.sock", milliseconds: 60_000))
      let other = try GuestPort(path: "\(directory)/b.sock", options: options)
      #expect(other.features.isDisjoint(with: [.csum, .hostTSO4]))
      running?.stop()
    }
  }
}
