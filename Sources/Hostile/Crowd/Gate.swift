internal import VirtioDriver

/// A share of a crowd's ports, at which one thread has guests come and go as fast as it can.
final class Gate {
  private let player: Player
  private let berths: [Berth]

  init(_ player: Player, berths: [Berth]) {
    self.player = player
    self.berths = berths
  }

  /// One guest after another at each port first: what is made at the first use of a port is no leak. Then, until the
  /// crowd is over, at any port: who is there goes, and where nobody is, somebody comes; half of the ports are taken.
  func run(_ dice: inout Dice) throws {
    for berth in berths {
      if player.stage.isOver { return }
      try attempt(berth, "comes first", &dice) { dice in
        try berth.come(&dice)
        try berth.act(&dice)
        try berth.go(politely: dice.once(in: 2))
      }
    }
    while try player.rest({ try clear(&dice) }) {
      let berth = dice.pick(berths)
      let deeds = dice.pick([0, 0, 1, 2, 3, 6])
      if berth.isTaken {
        try attempt(berth, "goes", &dice) { dice in
          for _ in 0..<deeds { try berth.act(&dice) }
          try berth.go(politely: dice.once(in: 2))
        }
      } else {
        try attempt(berth, "comes", &dice) { dice in
          try berth.come(&dice)
          for _ in 0..<deeds { try berth.act(&dice) }
        }
      }
    }
    try clear(&dice)
  }

  private func clear(_ dice: inout Dice) throws {
    for berth in berths { try berth.go(politely: dice.once(in: 2)) }
  }

  private func attempt(
    _ berth: Berth, _ what: String, _ dice: inout Dice, _ body: (inout Dice) throws -> Void
  ) throws {
    player.note("\(berth.name): a guest \(what)")
    do {
      try body(&dice)
    } catch {
      throw SoakError("\(berth.name), where a guest \(what): \(error)")
    }
  }
}
