import Testing

@testable import Dataplane

/// Ports of several queue pairs, without threads: every receiveq has buffers posted.
final class SteeringBed {
  static let ringSize = 64
  let plane: Dataplane
  private let workers: Int
  private let eventIndex: Bool
  /// By port, then by ring.
  private var rings: [[RingMemory]] = []
  private var sent: [[Int]] = []
  private var taken: [[Int]] = []

  /// - Parameters:
  ///   - pairs: of each port.
  ///   - enabled: how many of them are enabled at first.
  ///   - filled: how many of their receiveqs have buffers.
  ///   - eventIndex: VIRTIO_F_EVENT_IDX was negotiated.
  init(
    _ pairs: [Int], enabled: Int = 16, workers: Int = 1, filled: Int = 16, eventIndex: Bool = false
  ) throws {
    self.workers = workers
    self.eventIndex = eventIndex
    plane = try Dataplane(
      .init(
        workers: (0..<workers).map { _ in .init(cpu: nil, node: 0) }, hugepages: false,
        threads: false))
    for (port, count) in pairs.enumerated() {
      #expect(try plane.addPort(pairs: count) == port)
      rings.append([])
      sent.append([Int](repeating: 0, count: count))
      taken.append([Int](repeating: 0, count: count))
      for index in 0..<(2 * count) {
        let ring = try RingMemory(size: SteeringBed.ringSize)
        rings[port].append(ring)
        if index % 2 == 0, index / 2 < filled {
          SteeringBed.fill(ring)
        }
        try start(port, index, base: 0, enabled: index / 2 < enabled)
      }
    }
  }

  deinit { plane.stop() }

  private func start(_ port: Int, _ index: Int, base: UInt32, enabled: Bool) throws {
    let ring = rings[port][index]
    try plane.startRing(
      index, of: port, ring.setup(base: base, eventIndex: eventIndex, enabled: enabled),
      memory: ring.memory,
      worker: index / 2 % workers)
  }

  /// Enables or disables a pair, as SET_VRING_ENABLE does.
  func enable(_ pair: Int, of port: Int, _ enabled: Bool = true) throws {
    for index in [2 * pair, 2 * pair + 1] {
      plane.setEnabled(enabled, queue: index, of: port)
    }
  }

  /// Makes a frame available; `turn` lets it go.
  func put(_ bytes: [UInt8], from port: Int, pair: Int = 0) {
    let number = sent[port][pair]
    sent[port][pair] += 1
    let ring = rings[port][2 * pair + 1]
    if number < SteeringBed.ringSize {
      ring.send(bytes, descriptor: number)
    } else {
      // A place that was used long ago.
      let place = ring.buffers + number % SteeringBed.ringSize * 192
      ring.write([UInt8](repeating: 0, count: 12) + bytes, at: place)
      ring.describe(
        number % SteeringBed.ringSize, address: ring.address(place),
        length: UInt32(12 + bytes.count))
      ring.offer(UInt16(number % SteeringBed.ringSize))
    }
  }

  /// Lets ports 0 and 1 know each other.
  func introduce() {
    for port in 0...1 {
      send(SteeringBed.frame(200 + port, from: port, to: 9), from: port)
    }
    _ = take(0)
    _ = take(1)
  }

  func turn() {
    for worker in 0..<workers { _ = plane.turn(worker: worker) }
  }

  func send(_ bytes: [UInt8], from port: Int, pair: Int = 0) {
    put(bytes, from: port, pair: pair)
    turn()
  }

  /// What has come to a port since the last time, by pair.
  func take(_ port: Int) -> [Int: [[UInt8]]] {
    var frames: [Int: [[UInt8]]] = [:]
    for pair in 0..<taken[port].count {
      let came = take(port, pair: pair)
      if !came.isEmpty { frames[pair] = came }
    }
    return frames
  }

  /// What has come on a pair since the last time, at most `most` frames.
  ///
  /// - Parameter reposts: the driver makes the buffers available again.
  func take(_ port: Int, pair: Int, most: Int = .max, reposts: Bool = true) -> [[UInt8]] {
    let ring = rings[port][2 * pair]
    var frames: [[UInt8]] = []
    while taken[port][pair] != Int(ring.usedIndex), frames.count < most {
      let used = ring.usedEntry(taken[port][pair])
      let place = ring.buffers + Int(used.id) * 2048
      frames.append(ring.read(place + 12, Int(used.length) - 12))
      taken[port][pair] += 1
      if reposts { ring.offer(UInt16(used.id)) }
    }
    return frames
  }

  /// The driver waits for the next frame on a pair (event index).
  func await(_ port: Int, pair: Int) {
    rings[port][2 * pair].usedEvent = UInt16(truncatingIfNeeded: taken[port][pair])
  }

  /// The driver fills a receiveq that it had left empty.
  func fill(_ port: Int, pair: Int) {
    SteeringBed.fill(rings[port][2 * pair])
  }

  private static func fill(_ ring: RingMemory) {
    for number in 0..<ringSize {
      ring.describe(number, address: ring.address(ring.allocate(2048)), length: 2048, flags: 2)
      ring.offer(UInt16(number))
    }
  }

  /// The pairs on which something has come to a port.
  func pairs(_ port: Int) -> [Int] { take(port).keys.sorted() }

  /// Lets a frame of each flow go from port to port and returns the pairs it came on.
  func places(_ flows: Range<Int>, from: Int, pair: Int = 0, to: Int) -> [Int] {
    flows.map { flow in
      send(SteeringBed.frame(flow, from: from, to: to), from: from, pair: pair)
      let came = pairs(to)
      #expect(came.count == 1)
      return came.first ?? -1
    }
  }

  func drops(_ port: Int, _ queue: Int) -> [DropReason: UInt64] {
    plane.counters(port: port, queue: queue)?.drops ?? [:]
  }

  /// A frame of UDP flow `flow` between two ports.
  static func frame(_ flow: Int, from: Int, to: Int, number: Int = 0) -> [UInt8] {
    let ports = [[UInt8(1), UInt8(flow)], [2, 0]]
    let ends = from < to ? ports : ports.reversed()
    return [2, 0, 0, 0, 0, UInt8(to), 2, 0, 0, 0, 0, UInt8(from), 8, 0]
      + [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, UInt8(from), 10, 0, 0, UInt8(to)]
      + ends.joined() + [0, 26, 0, 0, UInt8(number >> 8), UInt8(number & 0xFF)]
      + [UInt8](repeating: 7, count: 16)
  }
}
