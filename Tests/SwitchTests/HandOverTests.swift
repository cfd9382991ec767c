import ControlAPI
import Foundation
import Linux
import Logging
import Testing
import VirtioDriver

@testable import Switch

extension SwitchTests {
  /// A switch goes on where another is, while frames move.
  @Suite struct HandOverTests {
    let directory = "/dev/shm/swivel-hand-\(UUID().uuidString.prefix(13))"
    struct Failure: Error {}

    private func make() throws -> Switch {
      try Switch(
        .init(cpus: [0], pinned: false, macEntries: 1024, hugepages: false),
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func first(
      _ names: [String] = ["a", "b"], mode: SocketMode = .server, offloads: [String]? = nil
    ) throws -> Switch {
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true)
      let fabric = try make()
      for name in names {
        _ = try fabric.addPort(
          PortRequest(
            name: name,
            vhostUser: VhostUserRequest(
              path: "\(directory)/\(name).sock", mode: mode, offloads: offloads)))
      }
      return fabric
    }

    private func guest(
      _ name: String, packed: Bool = false, inOrder: Bool = false
    ) throws -> GuestPort {
      var options = GuestPort.Options()
      if packed { options.features.insert(.ringPacked) }
      if inOrder { options.features.insert(.inOrder) }
      options.timeout = 60_000
      return try GuestPort(path: "\(directory)/\(name).sock", options: options)
    }

    /// What another process would get.
    private func copy(
      _ state: HandedState, _ descriptors: HandedDescriptors
    ) throws -> (HandedState, HandedDescriptors) {
      (
        try HandedState(decoding: try state.encoded()),
        HandedDescriptors(try descriptors.all.map { try $0.duplicate() })
      )
    }

    /// Another switch, which goes on; `old` has nothing more.
    private func successor(of old: Switch) throws -> Switch {
      let next = try make()
      // As daemons do it: ports that are another's forget what was learned on them.
      let saved = old.presentState()
      var names: Set<String> = []
      try old.handOver { state, descriptors in
        let (state, descriptors) = try copy(state, descriptors)
        names = Set(state.ports.map(\.request.name))
        try next.take(state, descriptors, only: names)
        return true
      }
      next.goOn(names)
      _ = next.recall(saved)
      old.stop()
      return next
    }

    @Test(
      "Again and again a switch goes on where another was: no frame is lost, no front-end hangs up, no count falls",
      arguments: [false, true], [false, true])
    func goesOn(packed: Bool, inOrder: Bool) throws {
      defer { try? FileManager.default.removeItem(atPath: directory) }
      var fabric = try first()
      let guests = try ["a", "b"].map { try guest($0, packed: packed, inOrder: inOrder) }
      let traffic = try SteadyTraffic(guests)
      #expect(traffic.advance(by: 100))
      var before: UInt64 = 0
      for _ in 0..<Upheaval.share(of: 6) {
        fabric = try successor(of: fabric)
        #expect(traffic.advance(by: 50))
        let frames = fabric.stats().received.frames
        #expect(frames > before)
        before = frames
        #expect(fabric.ports().map(\.vhostUser?.connections) == [1, 1])
        #expect(fabric.ports().map(\.state) == [.running, .running])
      }
      try traffic.expectNothingLost()
      let stats = fabric.stats()
      #expect(stats.received.drops == [:] && stats.sent.drops == [:])
      for (name, guest) in zip(["a", "b"], guests) {
        let port = try #require(fabric.port(named: name))
        #expect(port.received.frames == guest.statistics.sentFrames)
        #expect(port.sent.frames == guest.statistics.receivedFrames)
      }
      // A front-end that comes later finds the socket, which is the last switch's.
      guests[0].disconnect()
      #expect(eventually { fabric.port(named: "a")?.state == .waiting })
      _ = try guest("a")
      fabric.stop()
      #expect(!FileManager.default.fileExists(atPath: "\(directory)/a.sock"))
    }

    @Test(
      "When the other fails before it goes on, at whatever step, the switch does, and nothing is lost",
      arguments: [false, true], ["at once", "half-way", "made"])
    func fails(packed: Bool, step: String) throws {
      defer { try? FileManager.default.removeItem(atPath: directory) }
      let fabric = try first()
      let guests = try ["a", "b"].map { try guest($0, packed: packed) }
      let traffic = try SteadyTraffic(guests)
      #expect(traffic.advance(by: 100))
      for _ in 0..<Upheaval.share(of: 3) {
        #expect(throws: Failure.self) {
          try fabric.handOver { state, descriptors in
            if step != "at once" {
              let other = try make()
              let (state, descriptors) = try copy(state, descriptors)
              try other.take(state, descriptors, only: step == "made" ? ["a", "b"] : ["a"])
              other.stop()
            }
            throw Failure()
          }
        }
        #expect(traffic.advance(by: 50))
      }
      try traffic.expectNothingLost()
      #expect(fabric.ports().map(\.vhostUser?.connections) == [1, 1])
      // The sockets' files are still there.
      guests[0].disconnect()
      #expect(eventually { fabric.port(named: "a")?.state == .waiting })
      _ = try guest("a")
      fabric.stop()
    }

    @Test("A port without a front-end goes on listening, and one in client mode goes on trying")
    func empty() throws {
      defer { try? FileManager.default.removeItem(atPath: directory) }
      var fabric = try first(["a"])
      _ = try fabric.addPort(
        PortRequest(
          name: "c", vhostUser: VhostUserRequest(path: "\(directory)/c.sock", mode: .client)))
      fabric = try successor(of: fabric)
      #expect(fabric.ports().map(\.state) == [.waiting, .waiting])
      let attached = try guest("a")
      #expect(eventually { fabric.port(named: "a")?.state == .running })
      fabric = try successor(of: fabric)
      #expect(fabric.ports().map(\.state) == [.running, .waiting])
      withExtendedLifetime(attached) {}
      fabric.stop()
    }

    @Test("Entered addresses and learned ones are known afterwards, and not flooded")
    func addresses() throws {
      defer { try? FileManager.default.removeItem(atPath: directory) }
      var fabric = try first()
      _ = try fabric.addMAC("02:00:00:00:00:77", port: "b")
      let guests = try ["a", "b"].map { try guest($0) }
      let traffic = try SteadyTraffic(guests)
      #expect(traffic.advance(by: 10))
      let before = fabric.macs().map { "\($0.mac) \($0.port) \($0.pinned)" }
      fabric = try successor(of: fabric)
      #expect(before.count == 3)
      #expect(fabric.macs().map { "\($0.mac) \($0.port) \($0.pinned)" } == before)
      try traffic.expectNothingLost()
      fabric.stop()
    }

    @Test(
      "A front-end in the middle of a message is waited for, then named, and nobody loses anything")
    func middle() throws {
      defer { try? FileManager.default.removeItem(atPath: directory) }
      let fabric = try first(["a", "b", "slow"])
      let guests = try ["a", "b"].map { try guest($0) }
      let traffic = try SteadyTraffic(guests)
      let slow = try UnixSocket.connect(path: "\(directory)/slow.sock")
      _ = try [UInt8](repeating: 1, count: 4).withUnsafeBytes { try UnixSocket.send(slow, $0) }
      #expect(eventually { fabric.port(named: "slow")?.state == .connected })
      Pause.milliseconds(50)
      let error = #expect(throws: ServiceError.self) {
        try fabric.handOver(within: .milliseconds(300)) { _, _ in true }
      }
      #expect(error?.message.contains("'slow'") == true)
      #expect(traffic.advance(by: 50))
      try traffic.expectNothingLost()
      fabric.stop()
    }

    @Test("What is damaged, or lacks descriptors, is refused, and leaves nothing behind")
    func damaged() throws {
      defer { try? FileManager.default.removeItem(atPath: directory) }
      let fabric = try first(["a"])
      let holder = try guest("a")
      #expect(eventually { fabric.port(named: "a")?.state == .running })
      #expect(throws: (any Error).self) { try HandedState(decoding: Array("{}".utf8)) }
      for missing in [1, 2, 100] {
        #expect(throws: ServiceError.self) {
          try fabric.handOver { state, descriptors in
            let (state, all) = try copy(state, descriptors)
            let other = try make()
            defer { other.stop() }
            try other.take(state, HandedDescriptors(Array(all.all.dropLast(missing))), only: ["a"])
            return true
          }
        }
      }
      #expect(fabric.port(named: "a")?.state == .running)
      #expect(holder.offences == [])
      fabric.stop()
    }
  }
}
