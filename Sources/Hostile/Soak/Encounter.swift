internal import ControlAPI
internal import VirtioDriver

/// Two visitors that meet: guests come to two ports, exchange frames while rings stop and start, options change and
/// cables are pulled, and go again, in good order or not. Nobody else is meant to be hurt, and what they send must
/// arrive or be dropped by name.
final class Encounter {
  private let player: Player
  private let visitors: [Visitor]
  private var patience: Int { player.stage.patience }

  init(_ player: Player, bed: Bed, number: Int) {
    self.player = player
    visitors = (0..<2).map { end in
      Visitor(
        "guest\(2 * number + end)", number: 100 + 2 * number + end, bed: bed, stage: player.stage)
    }
  }

  /// Meets again and again, until the soak is over.
  func run(_ dice: inout Dice) throws {
    while try player.rest({ for visitor in visitors { try visitor.removePort() } }) {
      try meet(&dice)
    }
  }

  private func meet(_ dice: inout Dice) throws {
    for visitor in visitors {
      let queues = dice.pick([1, 1, 2, 4])
      let mode: SocketMode = dice.once(in: 4) ? .client : .server
      let mtu = dice.pick([nil, nil, nil, 1500, 9000])
      let isNew = dice.once(in: 3)
      if isNew || visitor.shape == nil {
        player.note("\(visitor.name) is made anew: \(queues) queues, \(mode), MTU \(mtu ?? 0)")
        visitor.shape = .init(queues: queues, mode: mode, mtu: mtu)
        try visitor.removePort()
      }
      try visitor.addPort()
      try attach(visitor, &dice)
    }
    try introduce(&dice)
    for _ in 0..<dice.roll(2...10) {
      if player.stage.isOver { return }
      try act(&dice)
    }
    try part(&dice)
  }

  private func attach(_ visitor: Visitor, _ dice: inout Dice) throws {
    let pairs = visitor.shape?.queues ?? 1
    let drawn = GuestPort.Options.drawn(&dice, pairs: pairs, patience: patience)
    player.note("\(visitor.name): \(drawn.summary)")
    try visitor.attach(drawn)
    for other in visitors where other !== visitor { other.meetAnother() }
  }

  /// Each says where it is, so that nobody else gets what is for it.
  private func introduce(_ dice: inout Dice) throws {
    for visitor in visitors { try visitor.awaitRings() }
    for (sender, receiver) in [(0, 1), (1, 0)] {
      try visitors[sender].send(1, to: .broadcast, lengths: 60...60, &dice)
      try visitors[sender].settle(with: visitors[receiver])
    }
  }

  // ---- What they do ----

  private func act(_ dice: inout Dice) throws {
    let end = dice.roll(0...1)
    let (one, other) = (visitors[end], visitors[1 - end])
    let action = dice.roll(0...15)
    switch action {
    case 0:
      player.note("\(one.name) broadcasts")
      try other.awaitRings()
      try one.send(dice.roll(1...3), to: .broadcast, lengths: 60...400, &dice)
      try one.settle(with: other)
    case 1...2:
      player.note("\(one.name) sends packets with offloads")
      for _ in 0..<dice.roll(1...8) { try sendPacket(one, other, &dice) }
    case 3:
      player.note("\(one.name) stops and restarts")
      try one.guest.stop()
      try one.account()
      try one.guest.restart()
    case 4:
      player.note("\(one.name) stops under traffic")
      try burst(&dice)
      try one.guest.stop()
      try one.guest.restart()
      try settle(forgiving: false)
    case 5:
      player.note("\(one.name)'s connection breaks under traffic")
      try burst(&dice)
      try one.reconnect()
      try settle(forgiving: true)
      try introduce(&dice)
    case 6:
      let pairs = dice.roll(1...4)
      player.note("\(one.name) uses \(pairs) pairs")
      if try one.guest.features.contains(.protocolFeatures) {
        try one.guest.enablePairs(min(pairs, one.guest.pairs.count))
      }
    case 7:
      player.note("\(one.name) is reset")
      try one.guest.stop()
      if try one.guest.frontEnd.protocolFeatures.contains(.resetDevice) {
        try one.guest.frontEnd.set(.resetDevice)
      }
      try one.guest.restart()
      try introduce(&dice)
    case 8:
      player.note("\(one.name)'s IOMMU forgets everything under traffic")
      try burst(&dice)
      try one.guest.iommu?.invalidate(0, size: .max)
      try settle(forgiving: false)
    case 9:
      player.note("another guest comes to \(one.name)")
      try one.detach(politely: dice.once(in: 2))
      try attach(one, &dice)
      try introduce(&dice)
    default:
      player.note("they exchange frames")
      for _ in 0..<dice.roll(1...12) {
        try burst(&dice)
        try settle(forgiving: false)
      }
      try one.account()
    }
  }

  /// Frames both ways, no more than fit the receiver's ring, and none waited for.
  private func burst(_ dice: inout Dice) throws {
    for (sender, receiver) in [(0, 1), (1, 0)] {
      let (from, to) = (try visitors[sender].guest, try visitors[receiver].guest)
      let longest = min(from.pairs[0].maxFrameLength, dice.pick([300, 1514, 1514, 9000]))
      let fitting = Encounter.room(to, frame: longest)
      let count = min(max(1, fitting / 2), dice.roll(1...64))
      let peer = visitors[receiver].address
      try visitors[sender].send(count, to: peer, lengths: 60...max(60, longest), &dice)
    }
  }

  /// Frames of `length` bytes that one receiveq of a guest has room for.
  private static func room(_ guest: GuestPort, frame length: Int) -> Int {
    let options = guest.options
    let buffers =
      options.ringSize / (options.receiveLayout.indirect ? 1 : options.receiveLayout.pieces)
    guard guest.features.contains(.mrgRxbuf) else { return buffers }
    return buffers / ((length + 12) / options.receiveBufferLength + 1)
  }

  private func settle(forgiving: Bool) throws {
    try visitors[0].settle(with: visitors[1], forgiving: forgiving)
    try visitors[1].settle(with: visitors[0], forgiving: forgiving)
  }

  /// A packet whose checksum or segments are left to whoever is next, held against what must arrive.
  private func sendPacket(_ one: Visitor, _ other: Visitor, _ dice: inout Dice) throws {
    var packet = TestPacket(
      to: other.address, from: one.packetAddress,
      dice.once(in: 2) ? .ipv4(options: 0) : .ipv6([]),
      dice.once(in: 2) ? .udp : .tcp(options: 12), length: dice.roll(1...16_000),
      seed: dice.next())
    let mode = dice.pick([
      TestPacket.Mode.segmented(size: 1448), .segmented(size: 1000), .partial, .full,
    ])
    if case .segmented = mode {} else { packet.payload = Array(packet.payload.prefix(1400)) }
    let (from, to) = (try one.guest, try other.guest)
    guard packet.needs(mode).isSubset(of: from.features),
      packet.length <= from.pairs[0].maxFrameLength
    else { return }
    other.packets = []
    let dropped = (try one.dropped().received, try other.dropped().sent)
    let sent = try from.pairs[0].send(
      packet.frame(mode), header: packet.header(mode), milliseconds: patience)
    if !sent { throw SoakError("\(one.name): the transmitq stays full") }
    try one.settle(with: other)
    let expected = packet.arrivals(mode, features: to.features)
    var missing = expected
    try one.bed.wait(
      for: "\(expected) packets of \(one.name) to arrive or to be dropped by name"
    ) {
      // Behind an IOMMU they wait for their translations.
      try other.collect(from: one)
      missing = expected - other.packets.count
      let now = (try one.dropped().received, try other.dropped().sent)
      // One that can't be cut is dropped whole.
      return missing <= 0
        || now.0 - dropped.0 + now.1 - dropped.1
          >= (other.packets.isEmpty ? 1 : UInt64(missing))
    }
    if missing == 0,
      let flaw = packet.judge(other.packets, mode, features: to.features).first
    {
      throw SoakError("\(other.name) got a packet that is not what was sent: \(flaw)")
    }
  }

  // ---- The end ----

  private func part(_ dice: inout Dice) throws {
    let first = dice.roll(0...1)
    let way = dice.roll(0...5)
    if way < 3 { try burst(&dice) }
    player.note("\(visitors[first].name) goes first, in way \(way)")
    for visitor in [visitors[first], visitors[1 - first]] {
      if way == 0 {
        try visitor.removePort()
      } else {
        try visitor.detach(politely: way % 2 == 1)
      }
    }
  }
}
