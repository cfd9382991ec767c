import Foundation
import Glibc
import Linux
import Testing
import VirtioDriver

/// The kernel's own bridge, in a network namespace of its own, with a TAP as each of its ports: a frame written
/// to a TAP comes in there, and what is read from one has gone out there. It neither speaks the spanning tree
/// protocol nor listens to who joins which group, and nothing but the frames given here is sent in it.
final class LinuxBridge {
  private let space: String
  private let taps: [TapDevice]

  /// Whether this process may make one.
  static let isPossible: Bool = {
    guard geteuid() == 0, FileManager.default.fileExists(atPath: "/dev/net/tun") else {
      return false
    }
    let space = "swivel-try-\(getpid())"
    defer { Command.run("ip", "netns", "del", space) }
    return Command.run("ip", "netns", "add", space) == 0
      && Command.run("ip", "-n", space, "link", "add", "bridge0", "type", "bridge") == 0
  }()

  init(ports: Int, mtu: Int) throws {
    let tag = String(UInt32.random(in: 0..<1 << 24), radix: 16)
    let taps = try (0..<ports).map { try TapDevice(name: "sw\(tag)p\($0)", queues: 1) }
    space = "swivel-bridge-\(tag)"
    self.taps = taps
    var script = """
      ip netns add \(space)
      for which in all default; do
        file=/proc/sys/net/ipv6/conf/$which/disable_ipv6
        ip netns exec \(space) sh -c "[ ! -e $file ] || echo 1 >$file"
      done
      ip -n \(space) link add bridge0 type bridge stp_state 0 mcast_snooping 0
      ip -n \(space) link set bridge0 up

      """
    for tap in taps {
      // The descriptors stay where they are; only the interface moves.
      script += "ip link set \(tap.name) netns \(space)\n"
      script += "ip -n \(space) link set \(tap.name) mtu \(mtu) master bridge0 up\n"
    }
    try #require(Command.run("sh", "-ec", script) == 0, "\(script)")
    // What the interfaces sent while they were outside.
    for port in 0..<ports { _ = receive(port) }
  }

  deinit { Command.run("ip", "netns", "del", space) }

  /// Returns whether the interface took the frame.
  @discardableResult
  func send(_ frame: [UInt8], _ port: Int) -> Bool {
    let bytes = [UInt8](repeating: 0, count: TapDevice.headerSize) + frame
    return write(taps[port].queues[0].raw, bytes, bytes.count) == bytes.count
  }

  /// What has gone out of a port, but for what the namespace itself may have sent (IPv6).
  func receive(_ port: Int) -> [[UInt8]] {
    var frames: [[UInt8]] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(taps[port].queues[0].raw, &buffer, buffer.count)
      if count < TapDevice.headerSize { return frames }
      let frame = Array(buffer[TapDevice.headerSize..<count])
      if frame[12..<14] != [0x86, 0xDD] { frames.append(frame) }
    }
  }

  /// Sends `frames` into a port, and returns what came out of each: all of it, as behind them goes a frame that
  /// is waited for at every other port.
  func exchange(_ frames: [[UInt8]], from port: Int) throws -> [[[UInt8]]] {
    for frame in frames { send(frame, port) }
    let last = EthernetFrame.make(
      to: .broadcast, from: .station(0xFF00 + port), etherType: 0x88B6, length: 60)
    try #require(send(last, port))
    var received = [[[UInt8]]](repeating: [], count: taps.count)
    let complete = eventually {
      for index in taps.indices { received[index] += receive(index) }
      return taps.indices.allSatisfy { $0 == port || received[$0].last == last }
    }
    try #require(complete, "the bridge forwards broadcasts")
    for index in taps.indices where index != port { received[index].removeLast() }
    return received
  }
}
