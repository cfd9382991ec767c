internal import Linux
public import VirtioDriver

/// What an attack is given: the socket it is on, and what it takes to reach others. Everything made here is taken
/// away when the attack is over.
public final class Site {
  /// The attacked socket.
  public let socket: String
  /// A guest on another socket, to which the attacker's frames go: to its address in a switch that has addresses,
  /// always in one that only sends on.
  public let witness: GuestPort
  /// Milliseconds that the switch is given to answer or to take a buffer.
  public let patience: Int
  /// Whether the switch is swivel, which is held to more than to harm nobody: what it gives back, what goes on.
  public let isStrict: Bool
  /// Frames whose drop must be counted, where the case's sign is a drop.
  public var offences = 1
  /// What the port must have counted as faults at the end, by name, beyond what it had.
  var faults: [String: UInt64] = [:]
  /// Of swivel: two sockets that nobody uses, for somebody honest and for a second port of the attacker's, and the
  /// control socket.
  let visitor: String?
  let accomplice: String?
  let control: String?
  /// Seconds, the longest that somebody else waited to be served (`visit`).
  var longestVisit = 0.0
  private var frontEnds: [FrontEnd] = []
  private var guests: [GuestPort] = []

  /// The attacker's address and stream of test frames, and the witness's. No part of a frame of theirs, cut off
  /// anywhere, has a bystander's address: a switch that learns would believe it.
  public static let attacker = EthernetAddress.station(2)
  public static let attackerStream: UInt32 = 0xA5A5_A502
  public static let witness = EthernetAddress.station(3)
  public static let witnessStream: UInt32 = 0xA5A5_A503

  init(
    socket: String, witness: GuestPort, patience: Int, isStrict: Bool, visitor: String? = nil,
    accomplice: String? = nil, control: String? = nil
  ) {
    self.socket = socket
    self.visitor = visitor
    self.accomplice = accomplice
    self.control = control
    self.witness = witness
    self.patience = patience
    self.isStrict = isStrict
  }

  /// Connects and says nothing yet.
  public func frontEnd() throws(FrontEndError) -> FrontEnd {
    let frontEnd = try FrontEnd.connect(path: socket, milliseconds: patience)
    frontEnd.timeout = patience
    frontEnds.append(frontEnd)
    return frontEnd
  }

  /// Attaches a guest whose rings run.
  ///
  /// - Parameters:
  ///   - path: the socket; `nil`: the attacked one.
  ///   - required: features (beyond those of `options`) without which there is no attack.
  ///   - change: what is different from a plain guest with small rings.
  public func guest(
    on path: String? = nil, _ required: VirtioFeatures = [],
    _ change: (inout GuestPort.Options) -> Void = { _ in }
  ) throws -> GuestPort {
    var options = GuestPort.Options()
    options.ringSize = 64
    options.spareMemory = 1 << 18
    options.timeout = patience
    options.features.formUnion(required)
    change(&options)
    let guest = try attach(to: path ?? socket, options)
    let missing = required.subtracting(guest.features)
    if !missing.isEmpty { throw AttackError.notOffered(missing.names) }
    return guest
  }

  /// Others' sockets may still be busy with the front-end before: then the switch turns the next one away, and it comes
  /// again.
  private func attach(to path: String, _ options: GuestPort.Options) throws -> GuestPort {
    let deadline = Deadline(milliseconds: patience)
    while true {
      let frontEnd = try FrontEnd.connect(path: path, milliseconds: patience)
      frontEnds.append(frontEnd)
      do throws(FrontEndError) {
        let guest = try GuestPort(frontEnd: frontEnd, options: options)
        guests.append(guest)
        return guest
      } catch {
        if path == socket || error != .closed || deadline.isOver { throw error }
      }
      Deadline.pause()
    }
  }

  /// Attaches a guest with a ring of forged descriptors: its transmitq, or its receiveq.
  public func ring(
    transmitq: Bool = true, packed: Bool, _ required: VirtioFeatures = [],
    _ change: (inout GuestPort.Options) -> Void = { _ in }
  ) throws -> ForgedRing {
    ForgedRing(
      try guest(packed ? required.union(.ringPacked) : required, change), transmitq: transmitq)
  }

  /// A frame from the attacker to the witness.
  public func frame(_ sequence: UInt64 = 0, length: Int = 64) -> [UInt8] {
    TestFrame.make(
      to: Site.witness, from: Site.attacker, stream: Site.attackerStream, sequence: sequence,
      length: length)
  }

  /// A piece of the guest's memory with a virtio-net header and a frame in it, as they would be sent.
  ///
  /// - Parameter length: bytes of the piece; `nil`: as many as header and frame need.
  public func buffer(
    in guest: GuestPort, header: NetHeader = NetHeader(), _ frame: [UInt8]? = nil,
    length: Int? = nil
  ) throws -> GuestBuffer {
    let bytes =
      header.bytes(length: guest.pairs[0].headerLength) + (frame ?? self.frame())
    guard let buffer = guest.memory.allocate(max(length ?? 0, bytes.count)) else {
      throw FrontEndError.memory
    }
    buffer.write(bytes)
    return buffer.slice(0, length ?? bytes.count)
  }

  /// Sends frames from the witness to the attacker, as many as its transmitq takes at a time, until `count` were
  /// taken or the switch takes no more of them.
  public func sendFromWitness(_ count: Int, length: Int = 200) {
    for sequence in 0..<UInt64(count) {
      let sent = Deadline.wait(milliseconds: patience) {
        enqueueFromWitness(sequence, length: length)
      }
      witness.pairs[0].flush()
      if !sent { return }
    }
    _ = Deadline.wait(milliseconds: patience) { reclaimWitness() }
  }

  /// Puts a frame to the attacker into the witness's transmitq; false when it is full.
  func enqueueFromWitness(_ sequence: UInt64, length: Int = 200) -> Bool {
    witness.pairs[0].enqueue(
      TestFrame.make(
        to: Site.attacker, from: Site.witness, stream: Site.witnessStream, sequence: sequence,
        length: length))
  }

  /// Whether the switch has taken all that the witness has sent.
  func reclaimWitness() -> Bool {
    witness.pairs[0].reclaim()
    return witness.pairs[0].transmitq.outstanding == 0
  }

  /// Takes what has come to the witness.
  @discardableResult
  public func collect() -> [[UInt8]] {
    var frames: [[UInt8]] = []
    while let frame = witness.receive() { frames.append(frame) }
    return frames
  }

  // ---- What swivel must do ----

  /// How long to wait for what only swivel must do.
  private var waiting: Int { isStrict ? patience : 300 }

  /// A frame that is legal, however it was sent, arrives at the witness.
  public func expectArrival(_ frame: [UInt8]) throws {
    let arrives = Deadline.wait(milliseconds: waiting) { collect().contains(frame) }
    if isStrict, !arrives { throw AttackError.hurt("a legal frame does not arrive") }
  }

  /// What was offered last comes back.
  public func expectReturn(_ ring: ForgedRing) throws {
    let returns = ring.awaitUsed(milliseconds: waiting)
    if isStrict, !returns { throw AttackError.hurt("the chain does not come back") }
  }

  /// What was offered last comes back, and a good frame from the same transmitq is taken afterwards.
  public func expectRecovery(_ ring: ForgedRing) throws {
    try expectReturn(ring)
    ring.offer([ForgedDescriptor(try buffer(in: ring.guest))])
    try expectArrival(frame())
  }

  /// The condition comes true.
  public func expect(_ what: String, _ condition: () -> Bool) throws {
    let holds = Deadline.wait(milliseconds: waiting, condition)
    if isStrict, !holds { throw AttackError.hurt(what) }
  }

  /// Hangs up, without a word.
  func close() {
    for guest in guests { guest.disconnect() }
    for frontEnd in frontEnds { frontEnd.close() }
    guests = []
    frontEnds = []
  }
}
