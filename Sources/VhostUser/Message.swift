internal import Linux

/// The twelve bytes before every payload (vhost-user.rst, "Header"): request, flags, size of the payload,
/// each a native-endian 32-bit number.
struct Header: Equatable {
  static let length = 12

  var code: UInt32
  var flags: UInt32
  var size: UInt32

  static let version: UInt32 = 1
  static let versionMask: UInt32 = 3
  static let reply: UInt32 = 1 << 2
  static let needReply: UInt32 = 1 << 3

  init(code: UInt32, flags: UInt32, size: UInt32) {
    self.code = code
    self.flags = flags
    self.size = size
  }

  init(_ bytes: [UInt8]) {
    var reader = PayloadReader(bytes)
    code = reader.next()
    flags = reader.next()
    size = reader.next()
  }

  var bytes: [UInt8] {
    var writer = PayloadWriter()
    writer.append(code)
    writer.append(flags)
    writer.append(size)
    return writer.bytes
  }

  /// Judges what comes from a front-end. `Message.maximumPayload` bounds what is then read.
  func check() throws(ProtocolError) {
    let name = Request.name(of: code)
    guard flags & Header.versionMask == Header.version else {
      throw ProtocolError(
        .malformed, "\(name): protocol version \(flags & Header.versionMask), not 1")
    }
    guard flags & Header.reply == 0 else {
      throw ProtocolError(.malformed, "\(name): a front-end's message has the reply flag set")
    }
    guard size <= Message.maximumPayload else {
      throw ProtocolError(
        .malformed,
        "\(name): a payload of \(size) bytes, at most \(Message.maximumPayload) are taken")
    }
  }
}

/// One whole message from a front-end. Descriptors that no handler takes are closed with it.
struct Message {
  /// More than any request served here needs.
  static let maximumPayload = 4096

  let header: Header
  let payload: [UInt8]
  let descriptors: [OwnedFD]

  var needsReply: Bool { header.flags & Header.needReply != 0 }

  /// The bytes of the back-end's reply to a request.
  static func reply(to code: UInt32, _ payload: [UInt8]) -> [UInt8] {
    Header(
      code: code, flags: Header.version | Header.reply, size: UInt32(payload.count)
    ).bytes + payload
  }
}
