internal import ControlAPI
internal import Glibc
internal import Linux
internal import Synchronization
internal import VirtioDriver

/// Whoever is on the hostile port of a soak: one case of the catalogue after the other, in no order, and nonsense.
final class Attacker {
  private let player: Player
  private let bed: Bed
  private let witness: GuestPort
  private let cases: [Case]
  /// Frames that the witness has sent.
  private var announced: UInt64 = 0

  init(_ player: Player, bed: Bed, witness: GuestPort, cases: [Case] = Catalogue.cases) {
    self.player = player
    self.bed = bed
    self.witness = witness
    self.cases = cases
  }

  /// Attacks until the soak is over.
  func run(_ dice: inout Dice) throws {
    while try player.rest(takeWitnessed) {
      let kind = dice.roll(0...7)
      let entry = cases[dice.roll(0...cases.count - 1)]
      switch kind {
      case 0: try nonsense("random messages", &dice) { try messages($0, &$1) }
      case 1: try nonsense("random words in rings", &dice) { try rings($0, &$1) }
      case 2: try nonsense("random bytes instead of messages", &dice) { try bytes($0, &$1) }
      default: try attack(entry)
      }
      player.stage.attacks.add(1, ordering: .relaxed)
    }
  }

  private func takeWitnessed() { while witness.receive() != nil {} }

  private func site() throws -> Site {
    // Its address may have been forgotten, and what is for it is not to flood everybody.
    _ = witness.send(
      TestFrame.make(
        to: .broadcast, from: Site.witness, stream: Site.witnessStream, sequence: announced))
    announced += 1
    takeWitnessed()
    return Site(
      socket: bed.path(of: "attacked"), witness: witness, patience: player.stage.patience,
      // What the switch owes an attacker the catalogue's own runs show; here others' floods come in between.
      isStrict: false)
  }

  private func attack(_ entry: Case) throws {
    player.note(entry.name)
    // What others flood may have filled the witness's ring at the wrong moment, but not twice.
    for attempt in 0..<2 {
      let site = try site()
      defer { close(site) }
      do {
        return try entry.attack(site)
      } catch AttackError.notOffered {
        return
      } catch is FrontEndError {
        return
      } catch {
        if player.stage.isOver { return }
        player.note("\(entry.name): \(error)")
        if attempt == 1 { throw SoakError("\(entry.name): \(error)") }
      }
    }
  }

  /// Hangs up; the next one finds nobody on the port.
  private func close(_ site: Site) {
    site.close()
    site.collect()
    try? bed.wait(for: "the hostile port to be free") {
      try bed.port("attacked").state == .waiting || player.stage.isOver
    }
  }

  // ---- Nonsense ----

  private func nonsense(
    _ what: String, _ dice: inout Dice, _ body: (Site, inout Dice) throws -> Void
  ) throws {
    player.note(what)
    let site = try site()
    defer { close(site) }
    // How far it comes before it is turned away is not to change what is decided next.
    var own = Dice(seed: dice.next(), of: what)
    do {
      try body(site, &own)
    } catch is FrontEndError {
      // The switch may turn it away at any time; whether it lives, others find out.
    } catch is AttackError {}
  }

  /// Messages of every number, with any payload and any descriptors, in a session that has begun well or has not.
  private func messages(_ site: Site, _ dice: inout Dice) throws {
    let frontEnd: FrontEnd
    if dice.once(in: 2) {
      frontEnd = try site.guest().frontEnd
    } else {
      frontEnd = try site.frontEnd()
    }
    for _ in 0..<dice.roll(1...40) {
      let request = FrontEndRequest(rawValue: UInt32(dice.roll(0...44)))
      let payload = dice.bytes(dice.pick([0, 8, 8, 12, 20, 32, 40, dice.roll(0...400)]))
      var message = FrontEndMessage(request, payload: payload)
      if dice.once(in: 3) { message.flags |= FrontEndMessage.needReply }
      for _ in 0..<dice.pick([0, 0, 1, 1, 2, 9]) {
        message.descriptors.append(try Attacker.descriptor(dice.roll(0...3)))
      }
      try frontEnd.send(message)
    }
  }

  private static func descriptor(_ kind: Int) throws -> OwnedFD {
    switch kind {
    case 0: return try EventFD().descriptor
    case 1: return try GuestMemory(length: 8192).regions[0].file
    default:
      // SAFETY: the path is a literal.
      let raw = unsafe open(kind == 2 ? "/dev/null" : "/", O_RDONLY | O_CLOEXEC)
      return OwnedFD(taking: try SystemError.check(raw, "open something"))
    }
  }

  /// Bytes that are no messages, in pieces, and a hang-up in the middle.
  private func bytes(_ site: Site, _ dice: inout Dice) throws {
    let frontEnd = try site.frontEnd()
    for _ in 0..<dice.roll(1...8) { try frontEnd.send(dice.bytes(dice.roll(1...200))) }
  }

  /// A guest whose rings are overwritten while the switch reads them.
  private func rings(_ site: Site, _ dice: inout Dice) throws {
    let more: [VirtioFeatures] = [[], .ringPacked, .offloads, [.ringPacked, .inOrder]]
    let guest = try site.guest { $0.features.formUnion(dice.pick(more)) }
    let ring = dice.once(in: 2) ? guest.pairs[0].transmitq.parts : guest.pairs[0].receiveq.parts
    for _ in 0..<dice.roll(10...200) {
      let part = dice.pick([ring.descriptors, ring.avail, ring.used])
      let bytes = dice.bytes(min(part.length, dice.pick([2, 2, 4, 8, 16])))
      let offset = dice.roll(0...part.length - bytes.count)
      part.write(bytes, at: dice.once(in: 3) ? 0 : offset)
      guest.pairs[0].transmitq.kick()
    }
  }
}
