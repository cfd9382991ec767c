import Linux

@testable import VhostUser

/// The protocol's codec: one header, one payload, and a number of descriptors with them.
///
/// What is held: the codec gives back the bytes it was given; whatever passes `checkShape` can be decoded
/// without looking again; what does not is refused in words.
enum MessageTarget {
  private static let descriptor = try? EventFD().descriptor

  static func run(_ input: inout Input) {
    let count = Int(input.byte() % 40)
    let head = input.take(Header.length)
    guard head.count == Header.length, let descriptor else { return }
    let header = Header(head)
    hold(header.bytes == head, "the header changes on its way")
    let payload = input.rest()
    do throws(ProtocolError) {
      try header.check()
      hold(header.size <= Message.maximumPayload, "a payload of \(header.size) bytes")
      guard let request = Request(rawValue: header.code) else { return }
      let message = Message(
        header: header, payload: payload,
        descriptors: [OwnedFD](repeating: descriptor, count: count))
      try message.checkShape(request)
      decode(request, payload, count)
    } catch {
      hold(error.kind == .malformed && !error.message.isEmpty, "\(error)")
    }
  }

  /// As the session's handlers do.
  private static func decode(_ request: Request, _ payload: [UInt8], _ descriptors: Int) {
    switch request {
    case .setFeatures, .setProtocolFeatures, .sendRARP, .netSetMTU, .setStatus:
      same(UInt64(payload).bytes, payload)
    case .setVringNum, .setVringBase, .getVringBase, .setVringEnable:
      same(VringState(payload).bytes, payload)
    case .setVringAddr: same(VringAddress(payload).bytes, payload)
    case .iotlbMsg: same(IOTLBMessage(payload).bytes, payload, without: 26..<32)
    case .setVringKick, .setVringCall, .setVringErr:
      let file = VringFile(UInt64(payload))
      hold(file.hasDescriptor == (descriptors == 1), "\(descriptors) descriptors")
      same(
        (UInt64(file.index) | file.value & VringFile.noDescriptor | file.strayBits).bytes, payload)
    case .setMemTable:
      guard let table = MemoryTable(payload) else { return hold(false, "no table") }
      hold(table.regions.count == descriptors, "\(descriptors) descriptors")
      same(table.bytes, payload, without: 4..<8)
    case .addMemReg, .remMemReg: same(SingleRegion(payload).bytes, payload, without: 0..<8)
    case .setLogBase:
      if payload.count == LogDescription.length { same(LogDescription(payload).bytes, payload) }
    default: break
    }
  }

  /// - Parameter padding: bytes that mean nothing.
  private static func same(
    _ encoded: [UInt8], _ payload: [UInt8], without padding: Range<Int> = 0..<0
  ) {
    var encoded = encoded
    var payload = payload
    hold(encoded.count == payload.count, "\(encoded.count) bytes of \(payload.count)")
    encoded.removeSubrange(padding)
    payload.removeSubrange(padding)
    hold(encoded == payload, "the payload changes on its way")
  }
}
