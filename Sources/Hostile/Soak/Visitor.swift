internal import ControlAPI
internal import Linux
internal import Synchronization
internal import VirtioDriver

/// One place of a soak to which guests come and from which they go, and its port, which comes and goes too. One
/// thread's.
///
/// Everything that its guests send is remembered until it has arrived or was dropped by name.
final class Visitor {
  let bed: Bed
  let stage: Stage
  /// The port's name.
  let name: String
  let number: Int
  var address: EthernetAddress { .station(number) }
  /// What packets with offloads come from: no test frames do.
  var packetAddress: EthernetAddress { .station(number + 1000) }

  /// What the port is like.
  struct Shape {
    var queues: Int
    var mode: SocketMode
    var mtu: Int?
  }

  var shape: Shape?
  private var hasPort = false
  /// In client mode it is the guest that listens.
  private var listener: UnixListener?
  private var current: GuestPort?
  /// What the port had counted when the guest came.
  private var before = (received: Counters(), sent: Counters())

  private var next: UInt64 = 0
  /// Sequence numbers of frames that have neither arrived nor were given up.
  private(set) var pending: Set<UInt64> = []
  /// Of those whose fate is not asked for any more. They may still come: behind an IOMMU frames wait for their translations, for
  /// seconds (decision 21).
  private var forgiven: Set<UInt64> = []
  /// Of those that were given up as dropped by name while the peer sits behind an IOMMU. What was dropped may have been somebody
  /// else's frame, and these may still wait for their translations; each of them may come once.
  private var doubted: Set<UInt64> = []
  /// Highest sequence number that arrived.
  private var highest: UInt64?
  /// Frames of this guest's that were given up as dropped by name.
  private var lost: UInt64 = 0
  /// Packets with offloads that have come and were not looked at yet.
  var packets: [QueuePair.Received] = []

  init(_ name: String, number: Int, bed: Bed, stage: Stage) {
    self.name = name
    self.number = number
    self.bed = bed
    self.stage = stage
  }

  var guest: GuestPort {
    get throws {
      guard let current else { throw SoakError("\(name) has no guest") }
      return current
    }
  }

  // ---- The port ----

  /// Makes the port, of its shape, unless it is there: it may have been taken away for a count.
  func addPort() throws {
    guard !hasPort, let shape else { return }
    let path = bed.path(of: name)
    if shape.mode == .client { listener = try UnixListener(path: path, permissions: 0o666) }
    let socket = VhostUserRequest(path: path, mode: shape.mode, queues: shape.queues)
    try bed.add(PortRequest(name: name, vhostUser: socket, mtu: shape.mtu))
    hasPort = true
    stage.ports.add(1, ordering: .relaxed)
  }

  /// With whatever guest is on it.
  func removePort() throws {
    guard hasPort else { return }
    hasPort = false
    try bed.remove(name)
    listener = nil
    current?.disconnect()
    forget()
  }

  private func forget() {
    current = nil
    forgiven.formUnion(pending)
    forgiveDoubted()
    pending = []
    highest = nil
    lost = 0
    packets = []
  }

  // ---- The guest ----

  /// A guest comes.
  func attach(_ options: GuestPort.Options) throws {
    let port = try bed.port(name)
    before = (port.received, port.sent)
    current = try stage.retrying {
      () throws(FrontEndError) in
      try GuestPort(frontEnd: try connect(), options: options)
    }
    stage.guests.add(1, ordering: .relaxed)
  }

  private func connect() throws(FrontEndError) -> FrontEnd {
    if let listener { return try .accept(on: listener, milliseconds: stage.patience) }
    return try .connect(path: bed.path(of: name), milliseconds: stage.patience)
  }

  /// Another guest has come to the peer, and its port's drops count from then on.
  func meetAnother() {
    lost = 0
    forgiveDoubted()
  }

  private func forgiveDoubted() {
    forgiven.formUnion(doubted)
    doubted = []
  }

  /// Hangs up without a word, and comes back with the rings as they are, as QEMU does.
  func reconnect() throws {
    let guest = try guest
    guest.disconnect()
    try stage.retrying { () throws(FrontEndError) in try guest.reconnect(try connect()) }
  }

  /// Waits until its rings run: behind an IOMMU they ask first where they are, and what floods then goes by.
  func awaitRings() throws {
    let guest = try guest
    try bed.wait(for: "\(name)'s rings to run") {
      try bed.port(name).queues.prefix(2 * guest.enabledPairs).allSatisfy { $0.state == .running }
    }
  }

  /// The guest goes, and what it has counted must be what the port has.
  ///
  /// - Parameter politely: its rings are stopped first.
  func detach(politely: Bool) throws {
    let guest = try guest
    if politely { try guest.stop() }
    guest.disconnect()
    try bed.wait(for: "\(name) to notice that its guest has gone") {
      try bed.port(name).queues.allSatisfy { $0.state == .stopped }
    }
    try account()
    if let offence = guest.offences.first { throw SoakError("\(name): \(offence)") }
    forget()
  }

  // ---- Frames ----

  /// Sends test frames to a peer, or to everybody.
  func send(_ count: Int, to peer: EthernetAddress, lengths: ClosedRange<Int>, _ dice: inout Dice)
    throws
  {
    let guest = try guest
    for _ in 0..<count {
      let pair = guest.pairs[dice.roll(0...guest.enabledPairs - 1)]
      let frame = TestFrame.make(
        to: peer, from: address, stream: UInt32(number), sequence: next,
        length: dice.roll(lengths))
      pending.insert(next)
      next += 1
      if !pair.enqueue(frame), try !pair.send(frame, milliseconds: stage.patience) {
        throw SoakError("\(name): the transmitq stays full")
      }
    }
    for pair in guest.pairs { pair.flush() }
  }

  /// Chains that the device has not returned yet.
  func outstanding() throws -> Int {
    try guest.pairs.reduce(0) { sum, pair in
      pair.reclaim()
      return sum + pair.transmitq.outstanding
    }
  }

  /// Takes what has come; a frame of the peer's must be one that was sent and has not arrived yet.
  func collect(from peer: Visitor) throws {
    let guest = try guest
    for pair in guest.pairs {
      while let received = pair.receiveWithHeader() {
        let frame = received.frame
        guard let content = TestFrame.verify(frame) else {
          // Those of others may be anything.
          guard frame.count >= 12 else { continue }
          let source = Array(frame[6..<12])
          if source == peer.packetAddress.bytes { packets.append(received) }
          if source == peer.address.bytes {
            throw SoakError("\(name) got a frame that is not whole")
          }
          continue
        }
        if content.stream == UInt32(peer.number) {
          try peer.arrived(content.sequence, isOrdered: guest.pairs.count == 1)
        }
      }
    }
  }

  private func arrived(_ sequence: UInt64, isOrdered: Bool) throws {
    guard pending.remove(sequence) != nil else {
      if forgiven.remove(sequence) != nil { return }
      if doubted.remove(sequence) != nil {
        lost -= 1
        return
      }
      throw SoakError("frame \(sequence) of \(name) came twice, or after it was counted as dropped")
    }
    let guest = try guest
    if isOrdered, guest.pairs.count == 1, let highest, sequence < highest {
      throw SoakError("frame \(sequence) of \(name) came after frame \(highest)")
    }
    highest = max(sequence, highest ?? 0)
  }

  // ---- Accounts ----

  /// What the guest and its port say of the transmitqs, for a message.
  private var standing: String {
    let own =
      (try? guest.pairs.map { pair in
        "\(pair.transmitq.outstanding) of \(pair.statistics.sentFrames), "
          + "avail \(pair.transmitq.availIndex), used \(pair.transmitq.usedIndex)"
      }) ?? []
    let port = try? bed.port(name)
    let queues = (port?.queues ?? []).filter { $0.direction == .transmitq }.map {
      "\($0.index) \($0.state), \($0.counters.frames) frames \($0.error ?? "")"
    }
    let workers = ((try? bed.workers()) ?? []).map { "\($0.state), polls \($0.queues)" }
    return
      "\(own) chains are out; \(port?.explanation ?? ""), \(port?.lastError ?? ""); \(queues); \(workers)"
  }

  /// Waits until all that was sent was taken; what has not arrived then was dropped by name, here or at the peer,
  /// unless it is forgiven.
  func settle(with peer: Visitor, forgiving: Bool = false) throws {
    try bed.wait(for: "\(name)'s frames to be taken: \(standing)") {
      try peer.collect(from: self)
      try collect(from: peer)
      return try outstanding() == 0
    }
    try peer.collect(from: self)
    if !pending.isEmpty, !forgiving {
      var drops = (own: UInt64(0), theirs: UInt64(0))
      try bed.wait(for: "\(lost) and more frames of \(name) to be dropped by name, not \(drops)") {
        try peer.collect(from: self)
        drops = (try dropped().received, try peer.dropped().sent)
        return lost + UInt64(pending.count) <= drops.own + drops.theirs
      }
      lost += UInt64(pending.count)
      if try peer.guest.iommu != nil { doubted.formUnion(pending) }
    } else {
      forgiven.formUnion(pending)
    }
    pending = []
  }

  /// Frames that the port has dropped since the guest came.
  func dropped() throws -> (received: UInt64, sent: UInt64) {
    let port = try bed.port(name)
    return (
      port.received.dropped - before.received.dropped, port.sent.dropped - before.sent.dropped
    )
  }

  /// The guest's own counts must be the port's.
  func account() throws {
    let guest = try guest
    var counts = ""
    try bed.wait(for: "the counts of \(name) to be its guest's: \(counts)") {
      while try receive() {}
      let sent = guest.statistics.sentFrames - (try outstanding())
      let received = guest.statistics.receivedFrames
      let port = try bed.port(name)
      let taken = port.received.frames - before.received.frames
      let given = port.sent.frames - before.sent.frames
      counts = "sent \(sent), taken \(taken); given \(given), received \(received)"
      return sent == Int(taken) && received == Int(given)
    }
  }

  private func receive() throws -> Bool {
    try guest.pairs.contains { $0.receive() != nil }
  }
}
