import ControlAPI
import Foundation
import Linux
import Logging
import Switch
import Testing
import VirtioDriver

/// Every test of a whole switch: one after another, as each has polling threads of its own.
@Suite(.serialized) struct SwitchTests {}

typealias Address = EthernetAddress

/// A switch in this process, with a directory for its sockets.
final class Bench: Sendable {
  let fabric: Switch
  let directory: String

  init(
    workers: Int = 1, busy: Bool = false, macEntries: Int = 1024, macAge: Double = 300,
    macsPerPort: Int = 1024, translationPatience: Int = 4000
  ) throws {
    let directory = "/tmp/swivel-test-\(UUID().uuidString.prefix(13))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    self.directory = directory
    fabric = try Switch(
      .init(
        cpus: [Int](repeating: 0, count: workers), pinned: false, busy: busy,
        macEntries: macEntries, macAge: macAge, macsPerPort: macsPerPort,
        translationPatience: translationPatience, hugepages: false),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  deinit {
    fabric.stop()
    try? FileManager.default.removeItem(atPath: directory)
  }

  func path(_ name: String) -> String { "\(directory)/\(name).sock" }

  @discardableResult
  func addPort(
    _ name: String, queues: Int? = nil, mode: SocketMode? = nil, mtu: Int? = nil
  ) throws -> ControlAPI.Port {
    try fabric.addPort(
      PortRequest(
        name: name, vhostUser: VhostUserRequest(path: path(name), mode: mode, queues: queues),
        mtu: mtu))
  }

  /// A front-end on an existing port, as patient as a busy machine needs it.
  func guest(_ name: String, _ options: GuestPort.Options = .init()) throws -> GuestPort {
    var options = options
    options.timeout = 120_000
    return try GuestPort(path: path(name), options: options)
  }

  /// A port with a guest on it, ready to carry frames.
  func attach(
    _ name: String, _ options: GuestPort.Options = .init(), mtu: Int? = nil
  ) throws -> GuestPort {
    try addPort(name, queues: options.queuePairs, mtu: mtu)
    return try guest(name, options)
  }

  /// Ports g0, g1 … with a guest each.
  func guests(_ count: Int, _ options: GuestPort.Options = .init()) throws -> [GuestPort] {
    try (0..<count).map { try attach("g\($0)", options) }
  }

  // ---- Readings ----

  func port(_ name: String) throws -> ControlAPI.Port {
    try #require(fabric.port(named: name))
  }

  /// Port on which an address is known.
  func place(of address: Address) -> String? {
    fabric.macs().first { $0.mac == address.description }?.port
  }

  /// Drops of both directions of all queues there are or were.
  func drops(_ reason: String) -> UInt64 {
    let stats = fabric.stats()
    return (stats.received.drops[reason] ?? 0) + (stats.sent.drops[reason] ?? 0)
  }

  var isBalanced: Bool {
    let stats = fabric.stats()
    return stats.received.frames + stats.received.replicas == stats.sent.frames
      + stats.received.dropped + stats.sent.dropped
  }

  /// Holds the switch to its books: every frame that came in went out or has a named drop, port by port
  /// what the queues say, and in the end what the guests say. Nobody may be sending.
  func expectBalance(
    _ guests: [(name: String, guest: GuestPort)] = [],
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let balanced = eventually { isBalanced }
    let stats = fabric.stats()
    #expect(balanced, "\(stats.received) \(stats.sent)", sourceLocation: sourceLocation)
    for port in fabric.ports() {
      var received = Counters()
      var sent = Counters()
      for queue in port.queues {
        if queue.direction == .transmitq {
          received += queue.counters
        } else {
          sent += queue.counters
        }
      }
      #expect(port.received == received && port.sent == sent, sourceLocation: sourceLocation)
    }
    for (name, guest) in guests {
      guard let port = fabric.port(named: name) else { continue }
      let statistics = guest.statistics
      #expect(port.received.frames == statistics.sentFrames, sourceLocation: sourceLocation)
      #expect(port.sent.frames == statistics.receivedFrames, sourceLocation: sourceLocation)
      #expect(port.sent.bytes == statistics.receivedBytes, sourceLocation: sourceLocation)
      #expect(guest.offences == [], sourceLocation: sourceLocation)
    }
  }
}

/// Waits for a condition; how long is no matter, as long as it comes.
func eventually(_ condition: () -> Bool) -> Bool {
  Deadline.wait(milliseconds: 120_000, condition)
}

extension GuestPort {
  /// Waits until the switch has returned every transmit buffer: then whatever was sent is counted.
  func settle(sourceLocation: SourceLocation = #_sourceLocation) {
    let settled = eventually {
      pairs.allSatisfy { pair in
        pair.reclaim()
        return pair.transmitq.outstanding == 0
      }
    }
    #expect(settled, "transmit buffers come back", sourceLocation: sourceLocation)
  }

  /// Everything that has come, of all queue pairs.
  func collect() -> [[UInt8]] {
    var frames: [[UInt8]] = []
    for pair in pairs {
      while let frame = pair.receive() { frames.append(frame) }
    }
    return frames
  }

  /// Sends one frame, which the transmitq must have room for within the deadline, and waits for its end.
  func deliver(
    _ frame: [UInt8], queue: Int = 0, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    #expect(
      try send(frame, queue: queue, milliseconds: 120_000), sourceLocation: sourceLocation)
    settle(sourceLocation: sourceLocation)
  }

  /// Sends a broadcast, so that the switch learns `address` here.
  func announce(
    _ address: Address, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try deliver(
      TestFrame.make(to: .broadcast, from: address, stream: 0xFFFF, sequence: 0),
      sourceLocation: sourceLocation)
  }
}

/// Lets every guest be learned as station 0, 1, 2 …, and takes the broadcasts away.
func introduce(_ guests: [GuestPort]) throws {
  for (index, guest) in guests.enumerated() { try guest.announce(.station(index)) }
  for guest in guests { _ = guest.collect() }
}

extension [(name: String, guest: GuestPort)] {
  /// g0, g1 …, as `Bench.guests` names them.
  static func named(_ guests: [GuestPort]) -> Self {
    guests.enumerated().map { ("g\($0.offset)", $0.element) }
  }
}
