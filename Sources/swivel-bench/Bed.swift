import Glibc
import Linux
import VirtioDriver

/// The test bed: a generator with lanes on each port of the switch, whose addresses the switch has learned.
final class Bed {
  let generator: Generator
  private let ports: [GeneratorPort]
  /// Numbers of the lanes that are given frames to send, and of those that get them.
  let senders: [Int]
  let receivers: [Int]
  /// Receivers of a frame.
  let copies: Int
  /// Lanes of the busy ports, and of those with single frames (`Plan.watchedPorts`).
  let busy: Range<Int>
  let watched: [Int]
  /// Guests that are there and silent.
  let idle: IdleGuests
  private let plan: Plan

  /// Attaches to the sockets at `paths` from the CPU of the plan.
  init(paths: [String], plan: Plan) throws {
    self.plan = plan
    if let cpu = plan.cpu { try Affinity.confine(to: [cpu]) }
    busy = 0..<plan.ports * plan.queues
    watched = (0..<plan.watchedPorts).map { [busy] in busy.count + $0 }
    let generator = Generator(capacity: busy.count + watched.count)
    self.generator = generator
    let active = plan.ports + plan.watchedPorts
    ports = try paths.prefix(active).enumerated().map { index, path in
      try Bed.attach(path, index < plan.ports ? plan : plan.watched, generator)
    }
    if !ports.allSatisfy(\.hasHugepages) {
      Output.complain(
        "no 2 MiB hugepages for the guests' memory (sysctl vm.nr_hugepages): ordinary pages, which are slower"
      )
    }
    let lanes = { (ports: Range<Int>) in
      Array(ports.lowerBound * plan.queues..<ports.upperBound * plan.queues)
    }
    switch plan.pattern {
    case .pairs: (senders, receivers) = (lanes(0..<plan.ports), lanes(0..<plan.ports))
    case .manyToOne: (senders, receivers) = (lanes(1..<plan.ports), lanes(0..<1))
    case .flood: (senders, receivers) = (lanes(0..<1), lanes(1..<plan.ports))
    }
    copies = plan.pattern == .flood ? plan.ports - 1 : 1
    idle = IdleGuests()
    try announce()
    // Only now: the busy ports' broadcasts would fill receive buffers that nobody empties.
    try idle.come(paths.dropFirst(active), plan, greeting: address(0, 0)) { try drain() }
    for lane in 0..<generator.count {
      generator[lane].isSending = senders.contains(lane)
      generator[lane].setFlows(senders.contains(lane) ? flows(lane) : [])
    }
    // Told to send one by one.
    if plan.mixed {
      generator[watched[0]].setFlows([
        .init(to: address(watched[1], 0), from: address(watched[0], 0))
      ])
    }
  }

  /// Attaches to the socket at `path` and gives the generator a lane for each queue pair.
  private static func attach(
    _ path: String, _ plan: Plan, _ generator: Generator
  ) throws -> GeneratorPort {
    let longest = plan.sizes.reduce(0) { max($0, $1.longest) }
    let (wanted, needed) = features(plan)
    do {
      let port = try GeneratorPort(path: path, wanted: wanted, needed: needed)
      try port.start(laneOptions(plan, longest: longest), queuePairs: plan.queues) {
        generator.add($0)
      }
      return port
    } catch {
      throw BenchError("\(path): \(BenchError(error))")
    }
  }

  static func features(_ plan: Plan) -> (wanted: VirtioFeatures, needed: VirtioFeatures) {
    var wanted: VirtioFeatures = [.version1, .protocolFeatures]
    var needed: VirtioFeatures = []
    if plan.mergeable { needed.insert(.mrgRxbuf) }
    if plan.indirect { needed.insert(.indirectDesc) }
    if plan.inOrder { needed.insert(.inOrder) }
    if plan.ring == .packed { needed.formUnion([.ringPacked, .version1]) }
    if plan.segmented {
      needed.formUnion([.csum, .hostTSO4, .guestCsum, .guestTSO4])
    }
    if plan.queues > 1 { needed.formUnion([.mq, .protocolFeatures]) }
    wanted.formUnion(needed)
    return (wanted, needed)
  }

  static func laneOptions(_ plan: Plan, longest: Int) -> Lane.Options {
    // Longer frames lie in pieces of a page, as guests have them.
    let room = min(4096, max(2048, longest))
    let whole = plan.mergeable ? plan.bufferSize : max(2048, longest)
    return Lane.Options(
      features: features(plan).needed, ringSize: plan.ringSize, receiveRoom: whole,
      transmitRoom: room, pieces: (longest + room - 1) / room, indirect: plan.indirect,
      segmented: plan.segmented)
  }

  /// Address `number` of a lane's port. Lanes of a port have addresses of their own.
  func address(_ lane: Int, _ number: Int) -> EthernetAddress {
    .station((lane + 1) << 16 | number)
  }

  /// The lane that one of a pair sends to.
  func peer(_ lane: Int) -> Int {
    (lane / plan.queues ^ 1) * plan.queues + lane % plan.queues
  }

  private func flows(_ lane: Int) -> [Lane.Flow] {
    (0..<plan.macs).map { number in
      let source = address(lane, number)
      switch plan.pattern {
      case .pairs:
        return .init(to: address(peer(lane), number), from: source)
      case .manyToOne: return .init(to: address(0, number), from: source)
      case .flood: return .init(to: .broadcast, from: source)
      }
    }
  }

  /// Lets the switch learn every address, by a broadcast each.
  private func announce() throws {
    for lane in 0..<generator.count {
      for first in stride(from: 0, to: plan.macs, by: 32) {
        let numbers = first..<min(first + 32, plan.macs)
        generator[lane].setFlows(
          numbers.map { .init(to: .broadcast, from: address(lane, $0)) })
        generator.send(numbers.count, lane: lane)
        try drain()
      }
    }
  }

  /// Makes every frame of the busy ports from now on one of `sizes`.
  func prepare(_ sizes: Sizes) {
    for lane in busy { generator[lane].prepare(sizes.lengths) }
  }

  /// Takes what is under way until nothing moves any more.
  func drain(verified: Bool = false) throws {
    if !generator.drain(.init(verified: verified)) {
      try check()
      throw BenchError("the switch does not return transmit buffers")
    }
  }

  /// Fails when a back-end has hung up or broken its ring's rules.
  func check() throws {
    for port in ports where port.frontEnd.isClosed() {
      throw BenchError("\(port.path): the switch has closed the connection")
    }
    try idle.check()
    if let violation = generator.violations.first {
      throw BenchError("the switch broke a rule of virtio: \(violation)")
    }
  }
}
