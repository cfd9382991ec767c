internal import Linux
internal import VirtioDriver

/// Saying something wrong, and what swivel must answer.
extension Site {
  /// A front-end that has agreed on what it wants and is offered; it has no memory and no rings.
  func negotiated(
    _ wanted: VirtioFeatures = .usual, _ protocolFeatures: VhostUserFeatures = .usual
  ) throws(FrontEndError) -> FrontEnd {
    let frontEnd = try frontEnd()
    try frontEnd.negotiate(wanted, protocolFeatures)
    try frontEnd.setFeatures()
    return frontEnd
  }

  /// Each message asks for what can't be, and for an answer: it must be an error, the session goes on, and the port
  /// counts each.
  ///
  /// - Parameters:
  ///   - frontEnd: who sends them; `nil`: one that has negotiated, and a new one each time that the switch hangs up.
  ///   - name: as what the port counts them.
  func refuse(
    _ messages: [FrontEndMessage], from frontEnd: FrontEnd? = nil, as name: String = .refused,
    _ protocolFeatures: VhostUserFeatures = .usual
  ) throws {
    var current = frontEnd
    for message in messages {
      var message = message
      message.flags |= FrontEndMessage.needReply
      var code: UInt64?
      do throws(FrontEndError) {
        if current == nil { current = try negotiated(.usual, protocolFeatures) }
        code = try current?.call(message).word64
      } catch {
        if isStrict { throw AttackError.hurt("\(message.title) is answered by \(error)") }
        // It need not go on with somebody like this.
        current?.close()
        current = nil
      }
      if isStrict, code == 0 { throw AttackError.hurt("\(message.title) is accepted") }
      faults[name, default: 0] += 1
    }
    if frontEnd == nil { current?.close() }
  }

  /// After each message the switch must hang up: what follows could not be trusted, or nobody asked for an answer.
  ///
  /// - Parameters:
  ///   - name: as what the port counts them.
  ///   - negotiates: whether the front-end has agreed on features before.
  func end(
    _ messages: [FrontEndMessage], as name: String = .malformed, negotiates: Bool = true,
    _ protocolFeatures: VhostUserFeatures = .usual
  ) throws {
    for message in messages {
      try end(message.title, as: name) { () throws(FrontEndError) in
        let frontEnd = negotiates ? try negotiated(.usual, protocolFeatures) : try self.frontEnd()
        try frontEnd.send(message)
        return frontEnd
      }
    }
  }

  /// The switch must hang up on whoever does this.
  func end(
    _ what: String, as name: String = .malformed,
    _ offence: () throws(FrontEndError) -> FrontEnd
  ) throws {
    let frontEnd: FrontEnd
    do throws(FrontEndError) {
      frontEnd = try offence()
    } catch {
      if isStrict { throw AttackError.hurt("\(what): \(error)") }
      return
    }
    let ends = frontEnd.isClosed(within: isStrict ? patience : 20)
    frontEnd.close()
    faults[name, default: 0] += 1
    if isStrict, !ends { throw AttackError.hurt("\(what) does not end the session") }
  }
}

/// How a port counts what a front-end does.
extension String {
  static let refused = "refused_request"
  static let malformed = "malformed_message"
  static let failed = "connection_failed"
  static let notStarted = "ring_not_started"
  static let second = "second_front_end"
}

extension FrontEndMessage {
  /// For a person.
  var title: String {
    "request \(request.rawValue) with \(payload.count) bytes and \(descriptors.count) descriptors"
  }

  /// A vring state: SET_VRING_NUM and the like.
  static func state(
    _ request: FrontEndRequest, _ index: UInt32, _ number: UInt32 = 1
  ) -> FrontEndMessage {
    FrontEndMessage(request, payload: words(index, number))
  }

  /// SET_VRING_ADDR.
  static func addresses(
    _ index: UInt32, flags: UInt32 = 0, descriptors: UInt64 = 0, used: UInt64 = 0,
    avail: UInt64 = 0, log: UInt64 = 0
  ) -> FrontEndMessage {
    FrontEndMessage(
      .setVringAddr, payload: words(index, flags) + words(descriptors, used, avail, log))
  }

  /// SET_VRING_KICK, _CALL or _ERR.
  static func file(
    _ request: FrontEndRequest, _ word: UInt64, _ descriptors: OwnedFD...
  ) -> FrontEndMessage {
    FrontEndMessage(request, payload: words(word), descriptors: descriptors)
  }

  /// SET_MEM_TABLE that says it has `count` regions.
  static func table(
    _ regions: [[UInt8]], count: UInt32? = nil, _ descriptors: [OwnedFD]
  ) -> FrontEndMessage {
    FrontEndMessage(
      .setMemTable, payload: words(count ?? UInt32(regions.count), 0) + regions.flatMap(\.self),
      descriptors: descriptors)
  }

  /// ADD_MEM_REG or REM_MEM_REG.
  static func region(
    _ request: FrontEndRequest, _ region: [UInt8], _ descriptors: OwnedFD...
  ) -> FrontEndMessage {
    FrontEndMessage(request, payload: words(0 as UInt64) + region, descriptors: descriptors)
  }

  /// The 32-byte description of a region that need not be there.
  static func region(
    guest: UInt64 = 0, size: UInt64 = 1 << 16, user: UInt64 = 1 << 40, offset: UInt64 = 0
  ) -> [UInt8] {
    words(guest, size, user, offset)
  }

  /// IOTLB_MSG, an update unless it says otherwise.
  static func translation(
    _ address: UInt64, size: UInt64 = 4096, user: UInt64, access: UInt8 = 3, type: UInt8 = 2
  ) -> FrontEndMessage {
    FrontEndMessage(
      .iotlbMsg,
      payload: iotlb(address: address, size: size, userAddress: user, access: access, type: type))
  }
}
