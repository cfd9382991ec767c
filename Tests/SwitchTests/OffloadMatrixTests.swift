import ControlAPI
import Testing
import VirtioDriver

/// Two guests that negotiated differently.
struct OffloadRow: Sendable, CustomTestStringConvertible {
  enum Dimension: Int, CaseIterable {
    case hostCsum, hostTSO4, hostTSO6, hostECN, hostUSO
    case guestCsum, guestTSO4, guestTSO6, guestECN, guestUSO4, guestUSO6
    case senderVersion1, senderMerging, senderPacked, senderEventIndex, senderInOrder
    case receiverVersion1, receiverMerging, receiverPacked, receiverEventIndex, receiverInOrder
    /// How the sender cuts frames up, how the receiver does its buffers.
    case sending, receiving

    var width: Int {
      switch self {
      case .sending, .receiving: 4
      default: 2
      }
    }

    var feature: VirtioFeatures {
      switch self {
      case .hostCsum: .csum
      case .hostTSO4: .hostTSO4
      case .hostTSO6: .hostTSO6
      case .hostECN: .hostECN
      case .hostUSO: .hostUSO
      case .guestCsum: .guestCsum
      case .guestTSO4: .guestTSO4
      case .guestTSO6: .guestTSO6
      case .guestECN: .guestECN
      case .guestUSO4: .guestUSO4
      case .guestUSO6: .guestUSO6
      case .senderVersion1, .receiverVersion1: .version1
      case .senderMerging, .receiverMerging: .mrgRxbuf
      case .senderPacked, .receiverPacked: .ringPacked
      case .senderEventIndex, .receiverEventIndex: .eventIdx
      case .senderInOrder, .receiverInOrder: .inOrder
      case .sending, .receiving: []
      }
    }

    /// What each option needs (5.1.3.1); and a legacy driver sees 32 feature bits only.
    static let rules: [(Dimension, [Dimension])] = [
      (.hostTSO4, [.hostCsum]), (.hostTSO6, [.hostCsum]), (.hostUSO, [.hostCsum]),
      (.hostECN, [.hostTSO4, .hostTSO6]),
      (.guestTSO4, [.guestCsum]), (.guestTSO6, [.guestCsum]), (.guestUSO4, [.guestCsum]),
      (.guestUSO6, [.guestCsum]), (.guestECN, [.guestTSO4, .guestTSO6]),
      (.hostUSO, [.senderVersion1]), (.senderPacked, [.senderVersion1]),
      (.guestUSO4, [.receiverVersion1]), (.guestUSO6, [.receiverVersion1]),
      (.receiverPacked, [.receiverVersion1]), (.senderInOrder, [.senderVersion1]),
      (.receiverInOrder, [.receiverVersion1]),
    ]
  }

  static let layouts: [QueuePair.TransmitLayout] = [
    .init(), .init(pieces: 2), .init(pieces: 7), .init(pieces: 8, indirect: true),
  ]

  let values: [Int]

  func value(_ dimension: Dimension) -> Int { values[dimension.rawValue] }

  private func features(_ dimensions: ClosedRange<Int>) -> VirtioFeatures {
    Dimension.allCases.filter { dimensions.contains($0.rawValue) && value($0) == 1 }
      .reduce([]) { $0.union($1.feature) }
  }

  var sender: VirtioFeatures { features(0...4).union(features(11...15)) }
  var receiver: VirtioFeatures { features(5...10).union(features(16...20)) }

  var senderOptions: GuestPort.Options {
    var options = OffloadBed.options(sender, without: [.version1, .mrgRxbuf, .eventIdx])
    options.transmitLayout = Self.layouts[value(.sending)]
    return options
  }

  var receiverOptions: GuestPort.Options {
    var options = OffloadBed.options(receiver, without: [.version1, .mrgRxbuf, .eventIdx])
    options.receiveLayout =
      [
        .init(), .init(pieces: 4), .init(pieces: 18, indirect: true), .init(),
      ][value(.receiving)]
    // Many small buffers, of an odd length, where they are merged.
    if value(.receiving) == 3, options.features.contains(.mrgRxbuf) {
      options.receiveBufferLength = 305
    }
    return options
  }

  var testDescription: String {
    "\(sender.names); \(Self.layouts[value(.sending)]) -> \(receiver.names); \(value(.receiving))"
  }

  static let rows: [OffloadRow] = Pairwise(
    widths: Dimension.allCases.map(\.width),
    rules: Dimension.rules.map { .init(dimension: $0.0.rawValue, anyOf: $0.1.map(\.rawValue)) }
  ).rows().map(OffloadRow.init)
}

extension SwitchTests {
  /// What was negotiated on one side, and differently on the other, makes no difference to what arrives.
  @Suite struct OffloadMatrixTests {
    @Test("Every pair of options that can be is in the table")
    func table() {
      var pairs: Set<[Int]> = []
      for row in OffloadRow.rows {
        #expect(row.sender.isConsistent && row.receiver.isConsistent)
        for first in row.values.indices {
          for second in (first + 1)..<row.values.count {
            pairs.insert([first, row.values[first], second, row.values[second]])
          }
        }
      }
      // 21 dimensions of two values, two of four; less the pairs that a rule forbids: what
      // needs something, without it; ECN without either TSO is no pair. And what is implied in two steps: no
      // ECN without CSUM, twice; no packed ring, no USO on a legacy device are rules of their own.
      let all = 21 * 20 / 2 * 4 + 21 * 2 * 8 + 16
      let forbidden = OffloadRow.Dimension.rules.count { $0.1.count == 1 } + 2
      #expect(pairs.count == all - forbidden)
      #expect(OffloadRow.rows.count < 30)
    }

    @Test("Offloads are offered with what they need (E03), and no others (E60)")
    func offered() throws {
      let bench = try Bench()
      let guest = try bench.attach("g0")
      let offered = guest.frontEnd.offered
      #expect(offered.isConsistent)
      #expect(offered.isSuperset(of: OffloadBed.hostAll.union(OffloadBed.guestAll)))
      #expect(offered.isDisjoint(with: [.hostUFO, .guestUFO, .rscExt]))
    }

    @Test(
      "Every kind of frame as its receiver can take it (E46, E49, E50, E51, E52, E53, E54, E55, E56, E57, E58, E61)",
      arguments: OffloadRow.rows.prefix(Upheaval.share(of: OffloadRow.rows.count)))
    func pairwise(_ row: OffloadRow) throws {
      let bench = try Bench()
      let bed = OffloadBed(
        sender: try bench.attach("g0", row.senderOptions),
        receivers: [try bench.attach("g1", row.receiverOptions)])
      let protocolBit: VirtioFeatures = .protocolFeatures
      #expect(bed.sender.features.subtracting([.indirectDesc, .mq, protocolBit]) == row.sender)
      #expect(
        bed.receivers[0].features.subtracting([.indirectDesc, .mq, protocolBit]) == row.receiver)
      try introduce([bed.sender] + bed.receivers)
      let shipments = OffloadBed.shipments(seed: row.values.reduce(0) { 2 * $0 + $1 } % 97)
      bed.exchange(shipments)
      bed.exchange(OffloadBed.longest(), burst: 1)

      // What the sender did not negotiate is dropped by name, once each (E48).
      let stray = shipments.filter { !row.sender.isSuperset(of: $0.packet.needs($0.mode)) }
      for shipment in stray {
        bed.send(shipment.packet.frame(shipment.mode), shipment.packet.header(shipment.mode))
      }
      let drops = try bench.port("g0").received.drops
      #expect(drops == (stray.isEmpty ? [:] : ["offload_not_negotiated": UInt64(stray.count)]))
      #expect(bed.receivers[0].collect() == [])
      bench.expectBalance(bed.named)
    }

    @Test("A flood reaches each receiver as that one can take it (E53, E54, E55, E57, E58)")
    func flood() throws {
      let bench = try Bench()
      let all = OffloadBed.guestAll
      let bed = try OffloadBed.attach(
        bench,
        receivers: [
          [], .guestCsum, [.guestCsum, .guestTSO4], all, all.subtracting(.guestECN),
          all.union(.ringPacked), [.guestCsum, .guestUSO6, .guestTSO6, .guestECN],
        ])
      bed.exchange(OffloadBed.shipments(to: .broadcast))
      bed.exchange(OffloadBed.longest(to: .broadcast), burst: 1)
      bench.expectBalance(bed.named)
    }

    @Test("Frames for several receivers in one burst, offloaded and not, stay in order")
    func mixed() throws {
      let bench = try Bench()
      let bed = try OffloadBed.attach(bench, receivers: [[], OffloadBed.guestAll, .guestCsum])
      let pair = bed.sender.pairs[0]
      for round in 0..<6 {
        let lists = (0..<3).map {
          OffloadBed.shipments(to: .station($0 + 1), seed: round).shuffled(round).prefix(8)
        }
        for number in 0..<8 {
          for list in lists {
            let shipment = list[number]
            #expect(
              pair.enqueue(
                shipment.packet.frame(shipment.mode),
                header: shipment.packet.header(shipment.mode)))
          }
        }
        // One publication: the worker finds all of them at once.
        pair.flush()
        bed.sender.settle()
        for (index, receiver) in bed.receivers.enumerated() {
          bed.check(receiver, Array(lists[index]), "round \(round), receiver \(index)")
        }
      }
      bench.expectBalance(bed.named)
    }

    @Test("64 KiB go unsegmented between guests that both can, merged or not (E51, E58)")
    func unsegmented() throws {
      let bench = try Bench()
      let bed = OffloadBed(
        sender: try bench.attach("g0", OffloadBed.options(OffloadBed.hostAll)),
        receivers: [
          try bench.attach("g1", OffloadBed.options(OffloadBed.guestAll)),
          try bench.attach("g2", OffloadBed.options(OffloadBed.guestAll, without: .mrgRxbuf)),
        ])
      try introduce([bed.sender] + bed.receivers)
      let before = try (1...2).map { try bench.port("g\($0)").sent.frames }
      bed.exchange(OffloadBed.longest(to: .broadcast), burst: 2)
      #expect(try (1...2).map { try bench.port("g\($0)").sent.frames } == before.map { $0 + 4 })
      bench.expectBalance(bed.named)
    }
  }
}

extension [OffloadBed.Shipment] {
  /// In another order, the same for the same number.
  func shuffled(_ number: Int) -> [OffloadBed.Shipment] {
    let stride = [5, 7, 11, 13, 17, 19, 23][number % 7]
    return indices.map { self[($0 * stride + number) % count] }
  }
}
