import Linux

@testable import VirtioDriver

/// A guest that keeps to the rules: one queue pair of `VirtioDriver`'s, which notes whatever the device does against
/// them.
final class HonestGuest {
  static let ringSize = 64

  let memory: GuestMemory
  let pair: QueuePair
  let features: VirtioFeatures

  /// - Parameters:
  ///   - transmit: bytes of a transmit buffer, virtio-net header included.
  ///   - receive: those of a receive buffer.
  init(_ features: VirtioFeatures, transmit: Int, receive: Int = 2048) throws {
    let size = HonestGuest.ringSize
    let features = features.union([.version1, .indirectDesc])
    self.features = features
    memory = try GuestMemory(length: size * (transmit + receive + 16 * 16) + (1 << 16))
    var options = DriverRing.Options(features)
    let receiveq = try HonestGuest.ring(memory, options)
    options.tableEntries = 16
    let transmitq = try HonestGuest.ring(memory, options)
    guard let receiveBuffers = memory.allocate(size * receive),
      let transmitBuffers = memory.allocate(size * transmit)
    else { fatalError("guest memory is too small") }
    pair = QueuePair(
      receiveq: receiveq, transmitq: transmitq, receiveBuffers: receiveBuffers,
      transmitBuffers: transmitBuffers, features: features, layout: .init())
  }

  /// One without offloads, whose receive buffers are merged.
  static func plain(transmit: Int) throws -> HonestGuest {
    try HonestGuest(.mrgRxbuf, transmit: transmit)
  }

  var isPacked: Bool { features.contains(.ringPacked) }
  var isInOrder: Bool { features.contains(.inOrder) }
  var isMergeable: Bool { features.contains(.mrgRxbuf) }

  private static func ring(
    _ memory: GuestMemory, _ options: DriverRing.Options
  ) throws -> DriverRing {
    guard let parts = RingParts(size: ringSize, packed: options.packed, in: memory),
      let ring = try DriverRing(size: ringSize, parts: parts, in: memory, options: options)
    else { fatalError("guest memory is too small") }
    return ring
  }

  // ---- What the device needs ----

  /// The guest's only region: guest address, front-end's address, and the mapping that a back-end would make.
  func map() throws -> (guest: UInt64, user: UInt64, mapping: Mapping) {
    let region = memory.regions[0]
    return (
      region.guestAddress, region.userAddress,
      try Mapping(sharing: region.file, offset: region.fileOffset, length: UInt64(region.length))
    )
  }

  /// Addresses of a ring's parts, as a front-end gives them, and where it begins.
  struct Place {
    var parts: [UInt64]
    var base: UInt32
  }

  var receiveq: Place { place(pair.receiveq) }
  var transmitq: Place { place(pair.transmitq) }

  private func place(_ ring: borrowing DriverRing) -> Place {
    let user = memory.regions[0].userAddress &- memory.regions[0].guestAddress
    return Place(
      parts: [ring.parts.descriptors, ring.parts.avail, ring.parts.used].map {
        user &+ $0.address
      }, base: ring.resumeBase)
  }

  // ---- Frames ----

  func send(_ frame: [UInt8], header: NetHeader = NetHeader()) {
    hold(pair.send(frame, header: header), "transmit buffers do not come back")
  }

  /// Everything that has come. The rules of the rings hold; `offences` are the caller's to judge, as a frame may
  /// have been sent wrong.
  func receive() -> [QueuePair.Received] {
    var all: [QueuePair.Received] = []
    while let one = pair.receiveWithHeader() { all.append(one) }
    pair.reclaim()
    hold(pair.receiveq.violation == nil, "\(String(describing: pair.receiveq.violation))")
    hold(pair.transmitq.violation == nil, "\(String(describing: pair.transmitq.violation))")
    return all
  }

  /// As `receive`, without their headers.
  func receiveFrames() -> [[UInt8]] { receive().map(\.frame) }

  /// What the device did against the rules since the last time.
  func takeOffences() -> [String] {
    defer { pair.offences = [] }
    return pair.offences
  }
}
