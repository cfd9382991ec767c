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
  private var frontEnds: [FrontEnd] = []
  private var guests: [GuestPort] = []

  /// The attacker's address and stream of test frames, and the witness's.
  public static let attacker = EthernetAddress.station(2)
  public static let attackerStream: UInt32 = 2
  public static let witness = EthernetAddress.station(3)
  public static let witnessStream: UInt32 = 3

  init(socket: String, witness: GuestPort, patience: Int) {
    self.socket = socket
    self.witness = witness
    self.patience = patience
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
  ///   - required: features (beyond those of `options`) without which there is no attack.
  ///   - change: what is different from a plain guest with small rings.
  public func guest(
    _ required: VirtioFeatures = [], _ change: (inout GuestPort.Options) -> Void = { _ in }
  ) throws -> GuestPort {
    var options = GuestPort.Options()
    options.ringSize = 64
    options.spareMemory = 1 << 18
    options.timeout = patience
    options.features.formUnion(required)
    change(&options)
    let frontEnd = try FrontEnd.connect(path: socket, milliseconds: patience)
    frontEnds.append(frontEnd)
    let guest = try GuestPort(frontEnd: frontEnd, options: options)
    guests.append(guest)
    let missing = required.subtracting(guest.features)
    if !missing.isEmpty { throw AttackError.notOffered(missing.names) }
    return guest
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
    for sequence in 0..<count {
      let frame = TestFrame.make(
        to: Site.attacker, from: Site.witness, stream: Site.witnessStream,
        sequence: UInt64(sequence), length: length)
      guard (try? witness.pairs[0].send(frame, milliseconds: patience)) == true else { return }
    }
    _ = Deadline.wait(milliseconds: patience) {
      witness.pairs[0].reclaim()
      return witness.pairs[0].transmitq.outstanding == 0
    }
  }

  /// Takes what has come to the witness.
  @discardableResult
  public func collect() -> [[UInt8]] {
    var frames: [[UInt8]] = []
    while let frame = witness.receive() { frames.append(frame) }
    return frames
  }

  /// Waits for a frame at the witness.
  public func arrives(_ frame: [UInt8]) -> Bool {
    Deadline.wait(milliseconds: patience) { collect().contains(frame) }
  }

  /// Hangs up, without a word.
  func close() {
    for guest in guests { guest.disconnect() }
    for frontEnd in frontEnds { frontEnd.close() }
    guests = []
    frontEnds = []
  }
}
