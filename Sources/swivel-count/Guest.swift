import Linux
import VirtioDriver

/// One queue pair of a guest: memory of its own, a receiveq that is kept full, and a transmitq whose frames were written once.
final class Guest {
  static let ringSize = 256
  private static let headerLength = 12
  /// Bytes of a receive buffer, header included.
  private static let receiveRoom = 2048

  let memory: GuestMemory
  let features: VirtioFeatures
  private(set) var receiveq: DriverRing
  private(set) var transmitq: DriverRing
  /// Transmit buffers that the guest holds, the longest idle one first.
  private var idle: [UInt16] = []
  /// Writes a new source address into a transmit buffer; `nil`: they stay as they are.
  private var invent: ((UInt16) -> Void)?

  /// - Parameters:
  ///   - number: of the guest; guests 0 and 1 send to each other, 2 and 3, and so on.
  ///   - pair: of the queue pair.
  init(_ number: Int, pair: Int, _ workload: Workload) throws {
    var features: VirtioFeatures = [.version1]
    if workload.mergeable { features.insert(.mrgRxbuf) }
    if workload.packed { features.insert(.ringPacked) }
    if workload.inOrder { features.insert(.inOrder) }
    if workload.layout == .indirect { features.insert(.indirectDesc) }
    self.features = features

    let frame = Guest.headerLength + workload.length
    let stride = (frame + 63) / 64 * 64
    memory = try GuestMemory(length: Guest.ringSize * (stride + Guest.receiveRoom) + (1 << 20))
    receiveq = try Guest.ring(memory, DriverRing.Options(features))
    var options = DriverRing.Options(features)
    options.tableEntries = workload.layout == .indirect ? 2 : 0
    transmitq = try Guest.ring(memory, options)
    receiveq.disableInterrupts()
    transmitq.disableInterrupts()

    let receive = try Guest.buffer(memory, Guest.ringSize * Guest.receiveRoom)
    receiveq.prime(
      pool: .init(base: receive.address, stride: Guest.receiveRoom),
      length: UInt32(Guest.receiveRoom), writable: true)
    let all = (0..<UInt16(Guest.ringSize)).map { $0 }
    receiveq.repost(all.span, count: all.count)
    receiveq.publish()

    let transmit = try Guest.buffer(memory, Guest.ringSize * stride)
    let step = workload.layout == .chain ? 2 : workload.layout == .parts ? 4 : 1
    for (index, head) in Swift.stride(from: 0, to: Guest.ringSize, by: step).enumerated() {
      let flow = index % workload.addresses
      let udp =
        workload.pairs == [1]
        ? nil : Guest.datagram(number, pair + index * workload.pairs(of: number))
      let bytes = EthernetFrame.make(
        to: workload.floods ? .broadcast : Guest.address(number ^ 1, flow),
        from: Guest.address(number, flow),
        etherType: udp == nil ? EthernetFrame.experimental : 0x0800,
        payload: udp ?? [], length: workload.length)
      let (header, packet) = Guest.packet(number, flow, workload) ?? (NetHeader(), bytes)
      transmit.write(header.bytes() + packet, at: head * stride)
      let buffer = transmit.slice(head * stride, frame)
      var pieces = [buffer]
      if workload.layout != .single {
        pieces = [
          buffer.slice(0, Guest.headerLength), buffer.slice(Guest.headerLength, workload.length),
        ]
      }
      if workload.layout == .parts {
        let (headers, frame) = (66, pieces[1])
        pieces[1] = frame.slice(0, headers)
        pieces.append(frame.slice(headers, workload.length - headers))
      }
      transmitq.prime(
        UInt16(head), pieces.map(\.piece), indirect: workload.layout == .indirect)
      idle.append(UInt16(head))
    }
    if workload.inventsSources, number == 0 {
      var invented = 0
      invent = { head in
        // Of each burst one speaks the truth, so that the guest stays known.
        let address: EthernetAddress =
          invented % workload.burst == 0 ? Guest.address(0, 0) : .station(1 << 20 + invented)
        transmit.write(address.bytes, at: Int(head) * stride + Guest.headerLength + 6)
        invented += 1
      }
    }
  }

  /// A frame that asks for an offload, if those of the workload do.
  private static func packet(
    _ number: Int, _ flow: Int, _ workload: Workload
  ) -> (NetHeader, [UInt8])? {
    guard let request = workload.request else { return nil }
    let packet = TestPacket(
      to: address(number ^ 1, flow), from: address(number, flow), .ipv4(options: 0),
      .tcp(options: 0), length: workload.length - 54)
    var header = NetHeader(flags: NetHeader.needsCsum, csumStart: 34, csumOffset: 16)
    if request == .segments {
      header.gsoType = NetHeader.gsoTCPv4
      header.gsoSize = 1448
      header.hdrLen = 54
    }
    return (header, packet.bytes(.partial))
  }

  /// The headers of UDP over IPv4 from a guest to the other, on the same port at both ends: that of the flow.
  private static func datagram(_ guest: Int, _ flow: Int) -> [UInt8] {
    let port = [4, UInt8(flow % Workload.flows)]
    let ends = [10, 0, 0, UInt8(guest), 10, 0, 0, UInt8(guest ^ 1)]
    return [0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0] + ends + port + port + [0, 30, 0, 0]
  }

  private static func address(_ guest: Int, _ flow: Int) -> EthernetAddress {
    .station(256 * guest + flow)
  }

  private static func ring(
    _ memory: GuestMemory, _ options: DriverRing.Options
  ) throws -> DriverRing {
    guard let parts = RingParts(size: ringSize, packed: options.packed, in: memory),
      let ring = try DriverRing(size: ringSize, parts: parts, in: memory, options: options)
    else { throw CountError("guest memory is too small") }
    return ring
  }

  private static func buffer(_ memory: GuestMemory, _ bytes: Int) throws -> GuestBuffer {
    guard let buffer = memory.allocate(bytes) else {
      throw CountError("guest memory is too small")
    }
    return buffer
  }

  /// Makes `count` frames available.
  func send(_ count: Int) {
    if let invent { idle.prefix(count).forEach(invent) }
    transmitq.repost(idle.span, count: count)
    transmitq.publish()
    idle.removeFirst(count)
  }

  /// Takes back what the device has used. Returns the frames received, which all have the same number of buffers.
  func receive(buffersPerFrame: Int) throws -> Int {
    let received = Guest.take(from: &receiveq)
    receiveq.repost(received.span, count: received.count)
    receiveq.publish()
    idle += Guest.take(from: &transmitq)
    if let violation = receiveq.violation ?? transmitq.violation {
      throw CountError("the device broke a rule: \(violation)")
    }
    return received.count / buffersPerFrame
  }

  private static func take(from ring: inout DriverRing) -> [UInt16] {
    var heads = [UInt16](repeating: 0, count: ringSize)
    var lengths = [UInt32](repeating: 0, count: ringSize)
    var headSpan = heads.mutableSpan
    var lengthSpan = lengths.mutableSpan
    let count = ring.take(&headSpan, lengths: &lengthSpan)
    return Array(heads.prefix(count))
  }

  /// Receive buffers that a frame fills; each of its segments one.
  static func buffers(_ workload: Workload) -> Int {
    if workload.request == .segments { return (workload.length - 54 + 1447) / 1448 }
    return (headerLength + workload.length + receiveRoom - 1) / receiveRoom
  }
}

/// Where a ring's parts are, in the front-end's addresses.
struct RingPlace {
  var descriptors: UInt64
  var avail: UInt64
  var used: UInt64
  var base: UInt32
}

extension Guest {
  /// The guest's only region, mapped once more, as a back-end does: guest address, front-end's address, mapping.
  func map() throws -> (guest: UInt64, user: UInt64, mapping: Mapping) {
    let region = memory.regions[0]
    return (
      region.guestAddress, region.userAddress,
      try Mapping(sharing: region.file, offset: region.fileOffset, length: UInt64(region.length))
    )
  }

  var receiveqPlace: RingPlace { place(receiveq) }
  var transmitqPlace: RingPlace { place(transmitq) }

  private func place(_ ring: borrowing DriverRing) -> RingPlace {
    let user = memory.regions[0].userAddress &- memory.regions[0].guestAddress
    return RingPlace(
      descriptors: user &+ ring.parts.descriptors.address, avail: user &+ ring.parts.avail.address,
      used: user &+ ring.parts.used.address, base: ring.resumeBase)
  }
}
