internal import ControlAPI
internal import Linux
internal import VirtioDriver

/// One port of a crowd, to which one guest after another comes. One thread's.
final class Berth {
  let name: String
  /// The guests' address, and the stream of their frames.
  let number: Int
  private let path: String
  private let queues: Int
  private let stage: Stage
  private let tally: Tally
  private var guest: GuestPort?
  private var next: UInt64 = 0

  var isTaken: Bool { guest != nil }

  init(_ port: Bed.Standing, number: Int, bed: Bed, stage: Stage, tally: Tally) {
    name = port.name
    queues = port.queues
    path = bed.path(of: port.name)
    self.number = number
    self.stage = stage
    self.tally = tally
  }

  // ---- Coming ----

  /// A guest comes, or a front-end that turns round before it has any rings.
  func come(_ dice: inout Dice) throws {
    let options = drawn(&dice)
    if dice.once(in: 10) { return try turnRound(options, &dice) }
    guest = try stage.retrying {
      () throws(FrontEndError) in
      let frontEnd = try FrontEnd.connect(path: path, milliseconds: stage.patience)
      return try GuestPort(frontEnd: frontEnd, options: options)
    }
    tally.come()
  }

  /// Connects, agrees on features, perhaps shares memory, and hangs up.
  private func turnRound(_ options: GuestPort.Options, _ dice: inout Dice) throws {
    let depth = dice.roll(0...2)
    let frontEnd = try stage.retrying {
      () throws(FrontEndError) in
      let frontEnd = try FrontEnd.connect(path: path, milliseconds: stage.patience)
      frontEnd.timeout = stage.patience
      try frontEnd.negotiate(options.features, options.protocolFeatures)
      return frontEnd
    }
    tally.come()
    if depth > 0 { try frontEnd.setFeatures() }
    if depth > 1 { try frontEnd.shareMemory(try GuestMemory(length: 1 << 16)) }
    frontEnd.close()
    tally.turnRound()
    tally.go()
  }

  private func drawn(_ dice: inout Dice) -> GuestPort.Options {
    var options = GuestPort.Options()
    options.timeout = stage.patience
    options.spareMemory = 0
    options.transmitBufferLength = 256
    if dice.once(in: 2) {
      options.features.insert(.ringPacked)
      options.ringSize = dice.roll(16...64)
    } else {
      options.ringSize = 1 << dice.roll(4...6)
    }
    if dice.once(in: 2) { options.protocolFeatures.remove(.status) }
    if dice.once(in: 4) { options.protocolFeatures.remove(.replyAck) }
    if dice.once(in: 4) {
      // A front-end of old, whose rings are enabled as they start, and of which there is one pair.
      options.features.remove(.protocolFeatures)
    } else {
      options.queuePairs = dice.roll(1...queues)
    }
    return options
  }

  // ---- Going ----

  /// The guest goes: politely, its rings stopped first, or without a word.
  func go(politely: Bool) throws {
    guard let guest else { return }
    self.guest = nil
    if politely { try guest.stop() }
    guest.disconnect()
    tally.go()
    if let offence = guest.offences.first { throw SoakError("\(name): \(offence)") }
  }

  // ---- Being there ----

  /// What guests and their front-ends do while their rings run.
  func act(_ dice: inout Dice) throws {
    guard let guest else { return }
    let frontEnd = guest.frontEnd
    let ring = dice.roll(0...2 * guest.pairs.count - 1)
    let deed = dice.roll(0...9)
    switch deed {
    case 0...1:
      // Without the feature nobody may say so.
      guard guest.features.contains(.protocolFeatures) else { return }
      try frontEnd.enableRing(ring, false)
      try frontEnd.enableRing(ring, true)
    case 2...3: try frontEnd.setRingCall(ring, try event(&dice))
    case 4: try frontEnd.setRingError(ring, try event(&dice))
    case 5...6: try frontEnd.shareMemory(guest.memory)
    case 7:
      try guest.stop()
      try guest.restart()
    default: return send(guest, &dice)
    }
    tally.swap()
  }

  /// Another eventfd, or none.
  private func event(_ dice: inout Dice) throws -> OwnedFD? {
    dice.once(in: 4) ? nil : try EventFD().descriptor
  }

  /// A frame or two to one of the pair; seldom one to everybody, for there are many of those.
  private func send(_ guest: GuestPort, _ dice: inout Dice) {
    let isFlood = dice.once(in: 100)
    let peer = isFlood ? EthernetAddress.broadcast : .station(dice.roll(0...1))
    for _ in 0..<(isFlood ? 1 : dice.roll(1...2)) {
      let frame = TestFrame.make(
        to: peer, from: .station(number), stream: UInt32(number), sequence: next)
      if guest.send(frame) {
        next += 1
        tally.send(flood: isFlood)
      }
    }
    for pair in guest.pairs { while pair.receive() != nil {} }
  }
}
