import Testing

@testable import Dataplane

/// What the hashes of addresses and of flows are made of.
@Suite struct KeyedHashTests {
  /// The multiplier of the key 0, of which other multipliers are made: a key that undoes it would be the worst there is.
  private static let constant: UInt64 = 0x9E37_79B9_7F4A_7C15

  static let secrets: [UInt64] = {
    var random = SplitMix(state: 3)
    return [0, 1, 2, .max, constant, ~constant, constant ^ 2, constant & 0xFFFF, constant << 32]
      + (0..<50).map { _ in random.next() }
  }()

  @Test("The multiplier is odd, whatever the key, and differs with it")
  func odd() {
    var random = SplitMix(state: 5)
    let keys = Self.secrets + (0..<10_000).map { _ in random.next() }
    #expect(keys.allSatisfy { KeyedHash.multiplier($0) & 1 == 1 })
    for bit in 0..<63 {
      #expect(KeyedHash.multiplier(77) != KeyedHash.multiplier(77 ^ 1 << bit))
    }
  }

  @Test("Each bit of the key changes the hash")
  func keyed() {
    for bit in 0..<64 {
      let (one, other) = (UInt64(77), UInt64(77) ^ 1 << bit)
      #expect(
        KeyedHash.hash(5, one, multiplier: KeyedHash.multiplier(one))
          != KeyedHash.hash(5, other, multiplier: KeyedHash.multiplier(other)), "bit \(bit)")
    }
  }

  /// 4096 keys that differ in a few bits.
  enum Few: CaseIterable {
    case firstBytes, lastBytes, middle, scattered, domain, lastByteAndDomain

    func key(_ number: UInt64) -> ForwardingKey {
      let base: UInt64 = 0x0000_5634_1200_5452
      let low = number & 0xFF
      switch self {
      case .firstBytes: return ForwardingKey(word: base ^ number << 1)
      case .lastBytes: return ForwardingKey(word: base ^ low << 40 ^ (number >> 8) << 32)
      case .middle: return ForwardingKey(word: base ^ number << 20)
      case .scattered:
        var word = base
        for bit in 0..<UInt64(12) { word ^= (number >> bit & 1) << (2 * bit) }
        return ForwardingKey(word: word)
      case .domain: return ForwardingKey(MACAddress(word: base), domain: UInt16(number))
      case .lastByteAndDomain:
        let mac = MACAddress(word: base ^ low << 40)
        return ForwardingKey(mac, domain: UInt16(number >> 8))
      }
    }
  }

  @Test(
    "Keys that differ in a few bits spread over the buckets, with every secret",
    arguments: Few.allCases)
  func spread(_ few: Few) throws {
    let arena = Arena(node: 0, allowHuge: false)
    for secret in Self.secrets {
      let table = try ForwardingTable.make(arena, entries: 1024, secret: secret)
      var counts = [[Int]](repeating: [Int](repeating: 0, count: 128), count: 2)
      var together = 0
      var hashes: Set<UInt64> = []
      for number in 0..<4096 {
        let hash = table.hash(few.key(UInt64(number)))
        let buckets = [table.slot(0, hash) / 8, table.slot(8, hash) / 8]
        for (index, bucket) in buckets.enumerated() { counts[index][bucket] += 1 }
        if buckets[0] == buckets[1] { together += 1 }
        hashes.insert(hash)
      }
      // 32 in each, give or take six standard deviations; and both choices the same by chance alone.
      for counts in counts {
        #expect(
          counts.allSatisfy { (1...68).contains($0) },
          "\(secret): \(counts.min()!) to \(counts.max()!)")
      }
      #expect(together < 80, "\(secret)")
      #expect(hashes.count == 4096, "\(secret)")
    }
  }

  @Test("Workers that have no threads have the same hash in every run")
  func repeatable() throws {
    let planes = try (0..<2).map { _ in
      try Dataplane(.init(workers: [.init(cpu: nil, node: 0)], hugepages: false, threads: false))
    }
    #expect(planes[0].table.secret == planes[1].table.secret)
    for plane in planes { plane.stop() }
  }
}
