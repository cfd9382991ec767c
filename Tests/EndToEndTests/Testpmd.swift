import Foundation

/// DPDK's testpmd as one or more guests: its virtio-user ports are front-ends with a driver of their own.
final class Testpmd {
  /// What testpmd counted on one of its ports, in its own words.
  struct Counts: Equatable {
    var received: UInt64 = 0
    var transmitted: UInt64 = 0
  }

  private let command: Command
  private let input = Pipe()
  private let ports: Int
  private var read = 0

  /// Port `i` of testpmd is the front-end of `sockets[i]`, with `devices[i]` as further options; it has
  /// `addresses[i]`, and sends what it receives to `peers[i]`.
  init(
    _ name: String, sockets: [String], addresses: [String], peers: [String], mode: String,
    devices: [String], in scratch: Scratch
  ) throws {
    ports = sockets.count
    var arguments = [
      "-l", "0,1", "--no-pci", "--no-huge", "-m", "256", "--no-telemetry",
      "--force-max-simd-bitwidth=512", "--log-level=pmd.net.virtio.init:info",
      "--file-prefix", "swivel-\(name)-\(ProcessInfo.processInfo.processIdentifier)",
    ]
    for (index, socket) in sockets.enumerated() {
      let size = devices[index].contains("queue_size=") ? "" : ",queue_size=1024"
      arguments += [
        "--vdev",
        "net_virtio_user\(index),path=\(socket),mac=\(addresses[index]),queues=1\(size)"
          + devices[index],
      ]
    }
    arguments += [
      "--", "-i", "--nb-cores=1", "--total-num-mbufs=32768", "--port-topology=loop",
      "--forward-mode=\(mode)",
    ]
    for (index, peer) in peers.enumerated() { arguments += ["--eth-peer=\(index),\(peer)"] }
    // Its prompt bypasses stdio: without line buffering it would come in the midst of what precedes it.
    command = try Command(
      "stdbuf", ["-oL", "dpdk-testpmd"] + arguments, log: scratch.file("testpmd-\(name).log"),
      input: input)
    try awaitPrompt(upTo: 30)
  }

  deinit {
    command.end()
  }

  /// Types a line and returns what testpmd printed before it asks again.
  @discardableResult
  func type(_ line: String, within seconds: Double = 20) throws -> String {
    try input.fileHandleForWriting.write(contentsOf: Data((line + "\n").utf8))
    return try awaitPrompt(upTo: seconds)
  }

  @discardableResult
  private func awaitPrompt(upTo seconds: Double) throws -> String {
    var fresh = ""
    try wait(upTo: seconds, for: "testpmd's prompt:\n\(command.tail)") {
      guard command.process.isRunning else { throw Failure("testpmd ended:\n\(command.tail)") }
      fresh = String(decoding: Data(command.output.utf8).dropFirst(read), as: UTF8.self)
      return fresh.hasSuffix("testpmd> ")
    }
    read += fresh.utf8.count
    return fresh
  }

  /// `show port stats all`, by port.
  func counts() throws -> [Counts] {
    let text = try type("show port stats all")
    func numbers(_ key: String) -> [UInt64] {
      text.split(whereSeparator: \.isNewline).compactMap { line in
        guard let at = line.range(of: key) else { return nil }
        return line[at.upperBound...].split(separator: " ").first.flatMap { UInt64($0) }
      }
    }
    let received = numbers("RX-packets:")
    let transmitted = numbers("TX-packets:")
    guard received.count == ports, transmitted.count == ports else {
      throw Failure("testpmd shows no statistics of \(ports) ports:\n\(text)")
    }
    return zip(received, transmitted).map { Counts(received: $0, transmitted: $1) }
  }

  /// Whether it has printed this.
  func said(_ text: String) -> Bool { command.output.contains(text) }

  func quit() throws {
    try input.fileHandleForWriting.write(contentsOf: Data("quit\n".utf8))
    _ = try command.status(within: 20)
  }
}
