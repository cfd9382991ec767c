import ControlAPI
import Dataplane
import Glibc
import Linux
import Logging
import VhostUser

@testable import Switch

/// As `session`, with a port of the switch behind it: what the front-end shares is mapped, rings on it run, and a worker
/// turns whenever something has changed.
///
/// An input is: how much is written into the memory that the front-end shares (2 bytes), place (2 bytes) and bytes; then
/// the messages. What is held: no ring is left running, every descriptor is closed, the books balance; memory that was
/// unmapped is not touched, as that ends the process.
enum PortTarget {
  nonisolated(unsafe) private static let bench = {
    do { return try Bench() } catch { fatalError("\(error)") }
  }()

  static func run(_ input: inout Input) {
    let bench = bench
    let before = SessionTarget.freeDescriptor()
    bench.run(&input)
    hold(SessionTarget.freeDescriptor() == before, "a descriptor is left open")
  }

  private final class Bench {
    let network: Switch
    let port: VhostPort
    let memory: OwnedFD
    let stop: EventFD
    /// Somebody to get frames from and to send them to.
    let fabric: FuzzPlane
    let guest: HonestGuest

    init() throws {
      let logger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
      // Its worker is turned by hand.
      let plane = try Dataplane(
        .init(
          workers: [.init(cpu: nil, node: 0)], macEntries: 16, hugepages: false, threads: false))
      network = try Switch(
        .init(cpus: [0], pinned: false, macEntries: 16, hugepages: false), plane, logger: logger)
      // One that connects makes no socket, and is not started.
      let socket = VhostUserRequest(path: "/nonexistent", mode: .client, queues: 2)
      port = try VhostPort(
        PortRequest(name: "fuzz", vhostUser: socket), socket, in: network, aside: false)
      guard let files = StrangersFiles.shared else { fatalError("no descriptors") }
      memory = files.memory
      stop = try EventFD()
      fabric = FuzzPlane(network.dataplane)
      guest = try HonestGuest.plain(transmit: 2048)
      _ = try fabric.add(guest)
    }

    func run(_ input: inout Input) {
      let count = Int(input.number(UInt16.self)) % 4096
      let place = Int(input.number(UInt16.self))
      ftruncate(memory.raw, 0)
      ftruncate(memory.raw, StrangersFiles.memoryLength)
      let bytes = input.take(min(count, StrangersFiles.memoryLength - place))
      hold(pwrite(memory.raw, bytes, bytes.count, place) == bytes.count, "memory")
      guard let frontEnd = ScriptedFrontEnd(&input) else { return hold(false, "no sockets") }
      let backend = VhostBackend(port, in: network)
      let session = Session(
        connection: frontEnd.takeConnection(), backend: backend, stop: stop
      ) { [self] _ in turn() }
      if case .stopped = session.run() { hold(false, "nobody stopped the session") }
      hold(backend.running.isEmpty, "rings \(backend.running.keys) still run")
      hold(backend.memory == nil && backend.iotlb == nil, "memory is kept")
      turn()
      fabric.holdBalance()
    }

    private func turn() {
      guest.send(
        [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1] + [UInt8](repeating: 7, count: 188))
      _ = network.dataplane.turn()
      _ = guest.receive()
      let offences = guest.takeOffences()
      hold(offences.isEmpty, "\(offences)")
    }
  }
}
