import Linux

@testable import VirtioDriver

/// A back-end on one end of a socket pair that speaks just enough of the protocol, records every message,
/// and, when asked, returns each transmitted frame to the receiveq of its pair.
final class FakeBackend: @unchecked Sendable {
  struct Recorded {
    var request: FrontEndRequest
    var flags: UInt32
    var payload: [UInt8]
    var descriptors: Int
  }

  struct Ring {
    var size = 0
    var base: UInt32 = 0
    var descriptors: UInt64 = 0
    var used: UInt64 = 0
    var avail: UInt64 = 0
    var kick: OwnedFD?
    var call: OwnedFD?
    var enabled = false
    var device: ReferenceDevice?
  }

  struct Region {
    var guest: UInt64
    var length: UInt64
    var user: UInt64
    var mapping: Mapping
  }

  /// Read when the thread has ended.
  private(set) var log: [Recorded] = []
  var offered = VirtioFeatures.usual.union([.ringPacked, .inOrder])
  var offeredProtocol = VhostUserFeatures.usual
  /// Acknowledgements other than zero, and requests that are not answered at all.
  var refuses: [FrontEndRequest: UInt64] = [:]
  var ignores: Set<FrontEndRequest> = []
  var echoes = true

  private let connection: FrontEnd
  private var accepted: VirtioFeatures = []
  private var rings = [Ring](repeating: Ring(), count: 16)
  private var regions: [Region] = []
  private var thread: Thread?

  init(_ socket: OwnedFD) {
    // The front-end's framing serves as well from the other end.
    connection = FrontEnd(socket: socket)
    connection.timeout = 1
  }

  func start() throws {
    thread = try Thread(name: "fake") { [self] in run() }
  }

  /// Waits until the front-end has closed the connection.
  func join() { thread?.join() }

  private func run() {
    while true {
      do throws(FrontEndError) {
        let message = try connection.receive()
        try serve(message)
      } catch {
        if case .timeout = error {
          if echoes { echo() }
          continue
        }
        return
      }
    }
  }

  private func serve(_ message: FrontEndMessage) throws(FrontEndError) {
    log.append(
      Recorded(
        request: message.request, flags: message.flags, payload: message.payload,
        descriptors: message.descriptors.count))
    if ignores.contains(message.request) { return }
    var answer: [UInt8]?
    let (index, number) = message.state ?? (0, 0)
    switch message.request {
    case .getFeatures: answer = FrontEndMessage.words(offered.rawValue)
    case .getProtocolFeatures: answer = FrontEndMessage.words(offeredProtocol.rawValue)
    case .getQueueNum: answer = FrontEndMessage.words(8 as UInt64)
    case .getVringBase:
      answer = FrontEndMessage.words(index, rings[Int(index)].device?.base ?? 0)
      rings[Int(index)].device = nil
    case .setFeatures: accepted = VirtioFeatures(rawValue: message.word64!)
    case .setMemTable: map(message)
    case .setVringNum: rings[Int(index)].size = Int(number)
    case .setVringBase: rings[Int(index)].base = number
    case .setVringAddr:
      let ring = Int(FrontEndMessage.load(message.payload, at: 0) as UInt32)
      rings[ring].descriptors = FrontEndMessage.load(message.payload, at: 8)
      rings[ring].used = FrontEndMessage.load(message.payload, at: 16)
      rings[ring].avail = FrontEndMessage.load(message.payload, at: 24)
    case .setVringKick: rings[Int(message.payload[0])].kick = message.descriptors.first
    case .setVringCall: rings[Int(message.payload[0])].call = message.descriptors.first
    case .setVringEnable:
      rings[Int(index)].enabled = number == 1
      if number == 1 { rings[Int(index)].device = device(rings[Int(index)]) }
    default: break
    }
    if answer == nil, message.flags & FrontEndMessage.needReply != 0 {
      answer = FrontEndMessage.words(refuses[message.request] ?? 0)
    }
    if let answer {
      try connection.send(FrontEndMessage(message.request, flags: 5, payload: answer))
    }
  }

  private func map(_ message: FrontEndMessage) {
    regions = message.descriptors.enumerated().map { index, file in
      let at = 8 + 32 * index
      let length: UInt64 = FrontEndMessage.load(message.payload, at: at + 8)
      return Region(
        guest: FrontEndMessage.load(message.payload, at: at), length: length,
        user: FrontEndMessage.load(message.payload, at: at + 16),
        mapping: try! Mapping(
          sharing: file, offset: FrontEndMessage.load(message.payload, at: at + 24),
          length: length))
    }
  }

  private func device(_ ring: Ring) -> ReferenceDevice {
    let regions = regions
    func user(_ address: UInt64) -> UnsafeMutableRawPointer {
      let region = regions.first { address &- $0.user < $0.length }!
      return region.mapping.base + Int(address - region.user)
    }
    let kind =
      accepted.contains(.ringPacked) ? PackedReferenceDevice.self : ReferenceDevice.self
    return kind.init(
      size: ring.size, descriptors: user(ring.descriptors), avail: user(ring.avail),
      used: user(ring.used), eventIndex: accepted.contains(.eventIdx), base: ring.base,
      call: ring.call
    ) { address, length in
      let region = regions.first {
        address &- $0.guest < $0.length && UInt64(length) <= $0.length - (address - $0.guest)
      }!
      return region.mapping.base + Int(address - region.guest)
    }
  }

  /// Returns what is on every transmitq to the receiveq beside it, in as many buffers as it takes.
  private func echo() {
    for pair in stride(from: 0, to: rings.count, by: 2) {
      guard let receiveq = rings[pair].device, let transmitq = rings[pair + 1].device else {
        continue
      }
      while let chain = transmitq.next() {
        var bytes = transmitq.read(chain)
        transmitq.complete(UInt32(chain.head), 0)
        transmitq.publish()
        let merging = accepted.contains(.mrgRxbuf)
        let header = merging || accepted.contains(.version1) ? 12 : 10
        var chains: [(ReferenceDevice.Chain, [UInt8])] = []
        repeat {
          guard let into = receiveq.next() else { break }
          let room = into.writable.reduce(0) { $0 + Int($1.length) }
          chains.append((into, Array(bytes.prefix(room))))
          bytes.removeFirst(min(room, bytes.count))
        } while merging && !bytes.isEmpty
        for index in chains.indices {
          if index == 0, header == 12 {
            chains[0].1.replaceSubrange(10..<12, with: FrontEndMessage.words(UInt16(chains.count)))
          }
          receiveq.complete(
            UInt32(chains[index].0.head), receiveq.write(chains[index].1, to: chains[index].0))
        }
        receiveq.publish()
      }
    }
  }
}
