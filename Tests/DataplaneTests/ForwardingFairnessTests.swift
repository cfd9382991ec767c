import Linux
import Testing

@testable import Dataplane

/// Who loses an address when there is no room for another one.
@Suite struct ForwardingFairnessTests {
  private let arena = Arena(node: 0, allowHuge: false)
  private let hints: ForwardingTable.Hints
  private let table: ForwardingTable
  /// Addresses that may all lie in the same slots, of which there are 16.
  private let keys: [ForwardingKey]

  private static let victim = 17
  private static let attackers = 1...16

  init() throws {
    hints = try .make(arena)
    table = try .make(arena, entries: 16)
    var keys: [ForwardingKey] = []
    var word: UInt64 = 2
    while keys.count < 4000 {
      word += 1 << 24
      let key = ForwardingKey(word: word)
      let hash = table.hash(key)
      if table.slot(0, hash) == 0, table.slot(8, hash) == 8 { keys.append(key) }
    }
    self.keys = keys
  }

  @discardableResult
  private func learn(_ number: Int, port: Int, now: UInt64 = 0) -> ForwardingTable.Learned {
    table.learn(keys[number], Destination(port: port), now: now, hints)
  }

  private func port(_ number: Int) -> Int { table.destination(of: keys[number], hints) }

  /// Every port's entries are as many as are counted, and the victim's one address is there.
  private func check(_ comment: Comment) {
    #expect(port(0) == Self.victim, comment)
    let entries = table.entries()
    for port in 0...Self.victim {
      #expect(table.count(port: port) == entries.count { $0.port == port }, comment)
    }
  }

  enum Strategy: CaseIterable {
    /// One port alone invents addresses.
    case hog
    /// Each port enters a new address when it is its turn.
    case turns
    /// Each port has one address, keeps it fresh, and enters one more.
    case refreshers
    /// As many of each as there are, one port after the other.
    case waves
    /// Addresses go from port to port, so that some have many at a time and those that enter have none.
    case gatherers
    /// Ports come and go, and with them what was learned on them.
    case comers
    /// Everything, in any order.
    case anything
  }

  @Test(
    "Sixteen ports that work together can't take a seventeenth's only address",
    arguments: Strategy.allCases)
  func collusion(_ strategy: Strategy) {
    learn(0, port: Self.victim)
    var random = SplitMix(state: 1)
    var next = 1
    /// A number that was not used for long.
    func fresh() -> Int {
      next = next == keys.count - 1 ? 1 : next + 1
      return next
    }
    for round in 0..<600 {
      // The victim is silent: everybody else is younger from the first round on.
      let now = UInt64(1 + round % 31)
      switch strategy {
      case .hog: learn(fresh(), port: 1, now: now)
      case .turns: for port in Self.attackers { learn(fresh(), port: port, now: now) }
      case .refreshers:
        for port in Self.attackers { learn(port, port: port, now: now) }
        for port in Self.attackers { learn(100 + fresh() % 3000, port: port, now: now) }
      case .waves:
        for _ in 0..<40 { learn(fresh(), port: 1 + round % 16, now: now) }
      case .gatherers:
        let entries = table.entries().filter { $0.port != Self.victim }
        for entry in entries {
          table.learn(entry.key, Destination(port: 1 + round % 3), now: now, hints)
        }
        for port in Self.attackers { learn(fresh(), port: port, now: now) }
      case .comers:
        _ = table.flush(port: 1 + Int(random.next() % 16))
        for port in Self.attackers { learn(fresh(), port: port, now: now) }
      case .anything:
        let port = 1 + Int(random.next() % 16)
        switch random.next() % 8 {
        case 0: _ = table.flush(port: port)
        case 1: for _ in 0..<20 { learn(fresh(), port: port, now: now) }
        case 2, 3: learn(1 + Int(random.next() % 40), port: port, now: now)
        default: for other in Self.attackers { learn(fresh(), port: other, now: now) }
        }
      }
      check("round \(round)")
    }
    #expect(table.entries().count == 16 || strategy == .anything || strategy == .comers)
  }

  @Test(
    "A newcomer finds room against a hog, and so does everybody after him, until they have as many")
  func hog() {
    for number in 0..<100 { learn(number, port: 1) }
    #expect(table.count(port: 1) == 16)
    for port in 2...16 {
      #expect(learn(100 + port, port: port, now: 1) == .learned | .evicted)
      #expect(table.count(port: 1) == 17 - port)
    }
    for port in 2...16 { #expect(self.port(100 + port) == port) }
    // Sixteen have one each: there is none to be given, and nobody loses any. The newcomer is not learned.
    #expect(learn(200, port: 17, now: 2) == .crowded)
    #expect(port(200) == -1)
    // A port that has one may have another one in its place.
    #expect(learn(201, port: 5, now: 2) == .learned | .evicted)
    #expect(port(201) == 5 && port(105) == -1)
    #expect((1...16).allSatisfy { table.count(port: $0) == 1 })
  }

  @Test("Of the ports with most the longest unseen goes, and of a port without more its own")
  func order() {
    for number in 0..<8 { learn(number, port: 1, now: UInt64(number == 3 ? 0 : 1)) }
    for number in 8..<16 { learn(number, port: 2, now: 1) }
    #expect(learn(20, port: 3, now: 2) == .learned | .evicted)
    #expect(port(3) == -1)
    // Port 2 has more now, and port 1 as many when it has lost one too.
    #expect(learn(21, port: 3, now: 2) == .learned | .evicted)
    #expect(table.count(port: 1) == 7 && table.count(port: 2) == 7)
    // With as many or one less than the others a port displaces its own longest unseen.
    learn(9, port: 2, now: 3)
    for number in 30..<40 { learn(number, port: 2, now: 4) }
    #expect(table.count(port: 1) == 7 && table.count(port: 2) == 7 && table.count(port: 3) == 2)
    #expect(port(20) == 3 && port(21) == 3)
  }

  @Test(
    "Workers that enter colliding addresses at the same moment leave a silent port its only one")
  func workers() throws {
    learn(0, port: Self.victim)
    let (table, keys) = (table, keys)
    let threads = try (0..<4).map { worker in
      let hints = try ForwardingTable.Hints.make(arena)
      return try Linux.Thread(name: "attacker") {
        var random = SplitMix(state: UInt64(worker))
        for round in 0..<20_000 {
          // The ports of all of them overlap, and so do the addresses.
          let port = 1 + Int(random.next() % 6)
          let number = 1 + Int(random.next() % 200)
          table.learn(keys[number], Destination(port: port), now: 1, hints)
          if round % 64 == 0 { _ = table.flush(port: port) }
        }
      }
    }
    for thread in threads { thread.join() }
    check("in the end")
  }
}
