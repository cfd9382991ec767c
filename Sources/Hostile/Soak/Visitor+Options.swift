internal import VirtioDriver

/// What a guest is like: every layout of rings and buffers that there is, with and without offloads and an IOMMU.
extension GuestPort.Options {
  /// - Parameter pairs: the port's queue pairs.
  static func drawn(_ dice: inout Dice, pairs: Int, patience: Int) -> GuestPort.Options {
    var options = GuestPort.Options()
    options.timeout = patience
    options.spareMemory = 4096
    options.queuePairs = dice.roll(1...pairs)
    let features = features(&dice)
    options.features = features
    let segments = dice.pick([1, 1, 2, 4])
    options.transmitLayout = .init(pieces: segments, indirect: dice.once(in: 3))
    options.regionAddresses = dice.pick([[0], [0, 1 << 32], [1 << 33, 1 << 34, 1 << 40]])
    options.ringSize =
      features.contains(.ringPacked) ? dice.roll(16...600) : 1 << dice.roll(4...10)
    let largest = dice.pick([2048, 2048, 9216])
    options.transmitBufferLength = largest
    if features.contains(.mrgRxbuf) {
      options.receiveBufferLength = dice.pick([256, 600, 1526, 2048, 4096])
    } else {
      options.receiveBufferLength = dice.pick([1526, 2048, 9216])
      options.receiveLayout = .init(
        pieces: dice.pick([1, 1, 2, 5]), indirect: dice.once(in: 3))
    }
    if !features.isDisjoint(with: [.hostTSO4, .guestTSO4]) {
      // Whoever takes 64 KiB at a time has room for them.
      options.transmitBufferLength = 66_000
      if !features.contains(.mrgRxbuf) { options.receiveBufferLength = 66_000 }
      options.ringSize = min(options.ringSize, 64)
    }
    if dice.once(in: 4) {
      options.features.insert(.accessPlatform)
      options.protocolFeatures.insert(.backendReq)
    }
    return options
  }

  private static func features(_ dice: inout Dice) -> VirtioFeatures {
    var features: VirtioFeatures = .usual
    if dice.once(in: 2) { features.insert(.ringPacked) }
    if dice.once(in: 4) { features.insert(.inOrder) }
    for feature: VirtioFeatures in [.mrgRxbuf, .indirectDesc, .eventIdx] where dice.once(in: 3) {
      features.remove(feature)
    }
    // Packed rings are not for legacy drivers, and neither is all that came with them.
    if dice.once(in: 8), features.isDisjoint(with: [.ringPacked, .inOrder]) {
      features.remove(.version1)
    }
    switch dice.roll(0...3) {
    case 0: features.formUnion(.offloads.subtracting([.hostUFO, .guestUFO]))
    case 1: features.formUnion([.csum, .hostTSO4, .hostTSO6, .hostUSO])
    case 2: features.formUnion([.csum, .guestCsum])
    default: break
    }
    return features
  }

  /// What was drawn, for a note.
  var summary: String {
    let what: [(VirtioFeatures, String)] = [
      (.ringPacked, "packed"), (.inOrder, "in order"), (.mrgRxbuf, "mergeable"),
      (.indirectDesc, "indirect"), (.eventIdx, "event"), (.version1, "modern"),
      (.hostTSO4, "host TSO"), (.guestTSO4, "guest TSO"), (.csum, "csum"),
      (.accessPlatform, "IOMMU"),
    ]
    let names = what.filter { features.contains($0.0) }.map(\.1)
    return "\(queuePairs) pairs of \(ringSize), \(names.joined(separator: " ")), transmit "
      + "\(transmitBufferLength) in \(transmitLayout.pieces)\(transmitLayout.indirect ? " indirect" : ""), "
      + "receive \(receiveBufferLength) in \(receiveLayout.pieces)"
      + "\(receiveLayout.indirect ? " indirect" : ""), \(regionAddresses.count) regions"
  }
}
