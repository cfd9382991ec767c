internal import ControlAPI
internal import Glibc
internal import Linux
internal import VirtioDriver

/// Front-ends that stall, flood or come in crowds: HP-14 and HP-15. Meanwhile somebody else attaches to another
/// socket, and the control socket answers.
extension Catalogue {
  static var stalling: [Case] { crowds + silences + storms }

  private static var crowds: [Case] {
    [
      Case(
        "HP-14", "a second client on a socket that is taken", .refusal("a second front-end tried")
      ) { site in
        let guest = try site.guest()
        for _ in 0..<50 {
          try site.end("a second front-end", as: .second, site.frontEnd)
        }
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-14 half-open", "a second client while the first says nothing",
        .refusal("a second front-end tried")
      ) { site in
        let first = try site.frontEnd()
        for _ in 0..<10 { try site.end("a second front-end", as: .second, site.frontEnd) }
        try site.visit()
        // The first goes on where it was.
        try first.negotiate()
      },
      Case(
        "HP-14 own end", "a front-end that hands over its own end of the connection, and is gone",
        .refusal("not one of a pair")
      ) { site in
        for isQueued in [false, true] {
          let frontEnd = try site.lonelyFrontEnd()
          guard frontEnd.protocolFeatures.contains(.backendReq), let socket = frontEnd.socket
          else { throw AttackError.notOffered("BACKEND_REQ") }
          var gift = socket
          if isQueued {
            // On its way to one that nobody reads, and that can't be closed either.
            let (reader, writer) = try UnixSocket.pair()
            try FrontEnd(socket: writer).send([1], descriptors: [socket, writer])
            gift = reader
          }
          try frontEnd.send(FrontEndMessage(.setBackendReqFD, descriptors: [gift]))
        }
        site.faults[.refused] = 1
      },
      Case(
        "HP-14 at once", "a hundred clients at the same moment",
        .refusal("a second front-end tried")
      ) { site in
        var crowd: [FrontEnd] = []
        for _ in 0..<100 {
          // There is room for some only.
          guard let frontEnd = try? FrontEnd.connect(path: site.socket, milliseconds: 50) else {
            break
          }
          crowd.append(frontEnd)
        }
        try site.visit()
        for frontEnd in crowd { frontEnd.close() }
        site.faults[.second] = 1
      },
    ]
  }

  private static var silences: [Case] {
    [
      Case("HP-15 half-open", "a front-end that connects and says nothing", .nothing) { site in
        let frontEnd = try site.frontEnd()
        for _ in 0..<3 { try site.visit() }
        try frontEnd.negotiate()
        for _ in 0..<3 { try site.visit() }
      },
      Case("HP-15 byte by byte", "a front-end that sends a byte at a time", .nothing) { site in
        let frontEnd = try site.frontEnd()
        let messages = [
          FrontEndMessage(.getFeatures), FrontEndMessage(.getProtocolFeatures),
          .init(.setProtocolFeatures, payload: FrontEndMessage.words(0 as UInt64)),
          .init(.setOwner), .state(.setVringNum, 0, 64), .init(.getQueueNum),
        ]
        for message in messages {
          for byte in message.bytes {
            try frontEnd.send([byte])
            Deadline.pause()
          }
        }
        try site.visit()
        for request in [FrontEndRequest.getFeatures, .getProtocolFeatures, .getQueueNum] {
          let reply = try frontEnd.receive()
          if site.isStrict, reply.request != request { throw FrontEndError.badReply(request) }
        }
      },
      Case(
        "HP-15 half a message", "a message whose end does not come, a byte a second",
        .refusal("left a message incomplete")
      ) { site in
        let frontEnd = try site.frontEnd()
        let bytes = FrontEndMessage.addresses(0).bytes
        var ends = false
        for byte in bytes.prefix(site.isStrict ? bytes.count : 5) where !ends {
          do throws(FrontEndError) {
            try frontEnd.send([byte])
          } catch { ends = true }
          try site.visit()
          ends = ends || site.awaitEnd(frontEnd, milliseconds: 1000)
        }
        site.faults[.failed] = 1
        try site.expect("half a message is waited for without end") { ends }
      },
      Case(
        "HP-15", "requests without an end, whose replies nobody reads",
        .refusal("has not read a reply")
      ) { site in
        let frontEnd = try site.flooded()
        for _ in 0..<3 { try site.visit() }
        site.faults[.failed] = 1
        try site.expect("replies that nobody reads are held for ever") {
          site.awaitEnd(frontEnd, milliseconds: 100)
        }
      },
      Case(
        "HP-15 running", "the same of a front-end whose rings run: they go on until the end",
        .nothing
      ) { site in
        let guest = try site.guest()
        try site.flood(guest.frontEnd)
        try site.visit()
        try site.expectDelivery(by: guest)
      },
    ]
  }

  private static var storms: [Case] {
    [
      Case("HP-15 flood", "requests as fast as they are answered", .nothing) { site in
        let frontEnd = try site.negotiated()
        let batch = [UInt8]((0..<50).map { _ in FrontEndMessage(.getFeatures).bytes }.joined())
        try site.besiege(milliseconds: 500) {
          try frontEnd.send(batch)
          for _ in 0..<50 { _ = try frontEnd.receive() }
        }
      },
      Case(
        "HP-15 flood of changes", "rings that are changed as fast as the front-end can say so",
        .nothing
      ) { site in
        let guest = try site.guest()
        try site.besiege(milliseconds: 500) {
          for _ in 0..<10 {
            try guest.frontEnd.shareMemory(guest.memory)
            for index in 0..<2 { try guest.frontEnd.setRingSize(index, 64) }
          }
        }
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-15 reconnects", "a thousand front-ends, one after another as fast as they can",
        .refusal("OWNER: 1 descriptors attached")
      ) { site in
        site.faults[.malformed] = 500
        for round in 0..<1000 {
          let frontEnd = try FrontEnd.connect(path: site.socket, milliseconds: site.patience)
          switch round % 4 {
          case 0: break
          case 1: try? frontEnd.send(FrontEndMessage(.getFeatures))
          case 2: try? frontEnd.send([1, 0, 0])
          default: try? frontEnd.send(FrontEndMessage(.setOwner, descriptors: [try site.file(0)]))
          }
          frontEnd.close()
          if round % 250 == 125 { try site.visit() }
        }
      },
      Case(
        "HP-15 attached", "guests that start their rings and are gone, a thousand in a minute",
        .nothing
      ) { site in
        let start = ContinuousClock.now
        for round in 0..<50 {
          let guest = try site.guest()
          _ = guest.send(site.frame(UInt64(round)))
          guest.disconnect()
          // Not slower than that, but where the switch is.
          while ContinuousClock.now - start < .milliseconds(60 * round) { Deadline.pause() }
        }
        try site.visit()
      },
    ]
  }
}

extension Site {
  /// A front-end that has negotiated, and that nobody hangs up for: that would end the session, whoever else has its
  /// end of the connection.
  fileprivate func lonelyFrontEnd() throws -> FrontEnd {
    var made: FrontEnd?
    // The switch may not be done with the one before.
    _ = Deadline.wait(milliseconds: patience) {
      made = try? FrontEnd.connect(path: socket, milliseconds: patience)
      made?.timeout = patience
      return (try? made?.negotiate(.usual, .usual.union(.backendReq))) != nil
    }
    guard let made else { throw FrontEndError.closed }
    return made
  }

  /// A front-end that has sent requests until the switch takes no more, and has read no reply.
  fileprivate func flooded() throws -> FrontEnd {
    let frontEnd = try frontEnd()
    try flood(frontEnd)
    return frontEnd
  }

  /// Sends requests until the switch takes no more, and reads no reply.
  fileprivate func flood(_ frontEnd: FrontEnd) throws {
    frontEnd.timeout = 200
    let batch = [UInt8]((0..<100).map { _ in FrontEndMessage(.getFeatures).bytes }.joined())
    do throws(FrontEndError) {
      for _ in 0..<10_000 { try frontEnd.send(batch) }
    } catch {
      if case .timeout = error { return }
      throw error
    }
    throw AttackError.hurt("a million requests are taken without a reply being read")
  }

  /// Waits until the switch has hung up, and reads nothing of what it has sent.
  fileprivate func awaitEnd(_ frontEnd: FrontEnd, milliseconds: Int) -> Bool {
    guard let socket = frontEnd.socket else { return true }
    let ready = try? Poller.wait([(socket.raw, [])], milliseconds: milliseconds)
    return ready?[0] ?? true
  }
}
