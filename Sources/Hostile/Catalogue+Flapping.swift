internal import Linux
internal import VirtioDriver

/// Rings, memory and connections that come and go under traffic: HP-09.
extension Catalogue {
  static var flapping: [Case] {
    [
      flapped("HP-09", "rings that stop and start again and again") { _, guest, _ in
        try guest.stop()
        try guest.restart()
      },
      flapped("HP-09 enabled", "rings that are enabled and disabled again and again") {
        _, guest, round in
        for index in 0..<2 { try guest.frontEnd.enableRing(index, round % 2 == 1) }
      },
      flapped("HP-09 status", "a device that is reset and started again and again") {
        _, guest, _ in
        guard guest.frontEnd.protocolFeatures.contains(.status) else {
          throw AttackError.notOffered("STATUS")
        }
        try guest.stop()
        for status: UInt8 in [0, 1, 3, 11] { try guest.frontEnd.setStatus(status) }
        try guest.restart()
      },
      flapped("HP-09 memory", "a memory table that is sent again and again") { _, guest, _ in
        try guest.frontEnd.shareMemory(guest.memory)
      },
      flapped("HP-09 kicks", "eventfds that are replaced again and again") { _, guest, _ in
        for (index, event) in [
          guest.pairs[0].receiveq.kickEvent, guest.pairs[0].transmitq.kickEvent,
        ].enumerated() {
          try guest.frontEnd.setRingKick(index, nil)
          try guest.frontEnd.setRingKick(index, event.descriptor)
          try guest.frontEnd.setRingCall(index, try EventFD().descriptor)
        }
      },
      Case(
        "HP-09 reset", "RESET_DEVICE and RESET_OWNER while the rings run", .nothing
      ) { site in
        for round in 0..<10 {
          let guest = try site.guest()
          site.announce(guest)
          guard round % 2 == 1 || guest.frontEnd.protocolFeatures.contains(.resetDevice) else {
            throw AttackError.notOffered("RESET_DEVICE")
          }
          for _ in 0..<5 {
            try guest.frontEnd.set(round % 2 == 0 ? .resetDevice : .resetOwner)
            site.sendFromWitness(4)
          }
          guest.disconnect()
        }
      },
      Case(
        "DPDK 21d9fb6bad", "front-ends that hang up under traffic, without a word", .nothing
      ) { site in
        let traffic = try Traffic(site)
        defer { traffic.stop() }
        for _ in 0..<30 {
          let guest = try site.guest()
          for sequence in 0..<64 { _ = guest.send(site.frame(UInt64(sequence))) }
          guest.disconnect()
        }
        try site.visit(silently: true)
      },
      Case(
        "DPDK 73ea44370d", "front-ends that hang up while they set up their rings", .nothing
      ) { site in
        for messages in 0..<24 {
          let guest = try site.guest()
          let ring = guest.pairs[0].transmitq.kickEvent.descriptor
          let frontEnd = guest.frontEnd
          frontEnd.acknowledged = false
          // As far as it gets, and not to the end of it.
          for number in 0..<messages {
            switch number % 4 {
            case 0: try frontEnd.setRingSize(1, 32)
            case 1: try frontEnd.setRingKick(1, ring)
            case 2: try frontEnd.shareMemory(guest.memory)
            default: try frontEnd.enableRing(1, number % 8 == 3)
            }
          }
          guest.disconnect()
        }
      },
      Case(
        "DPDK 966027b4b3", "a front-end of old, which does not say that its rings are enabled",
        .nothing
      ) { site in
        let guest = try site.guest { $0.features.remove(.protocolFeatures) }
        try site.expectDelivery(by: guest)
      },
    ]
  }

  /// A case that does something to a guest sixty times, while it sends frames and gets some.
  private static func flapped(
    _ name: String, _ summary: String,
    _ change: @escaping @Sendable (Site, GuestPort, _ round: Int) throws -> Void
  ) -> Case {
    Case(name, summary, .nothing) { site in
      let guest = try site.guest()
      site.announce(guest)
      let traffic = try Traffic(site)
      do {
        defer { traffic.stop() }
        for round in 0..<60 {
          for sequence in 0..<4 { _ = guest.send(site.frame(UInt64(sequence))) }
          while guest.receive() != nil {}
          try change(site, guest, round)
          if round == 30 { try site.visit(silently: true) }
        }
      }
      while guest.receive() != nil {}
      try site.expectDelivery(by: guest)
    }
  }
}

/// Frames from the witness to the attacker, on a thread of its own: nobody else may use the witness meanwhile.
final class Traffic: Sendable {
  private let thread: Linux.Thread
  private let finish: EventFD

  init(_ site: Site) throws(SystemError) {
    let finish = try EventFD()
    let witness = site.witness
    thread = try Linux.Thread(name: "traffic") {
      var sequence: UInt64 = 0
      while finish.drain() == 0 {
        let frame = TestFrame.make(
          to: Site.attacker, from: Site.witness, stream: Site.witnessStream, sequence: sequence)
        sequence += 1
        _ = try? witness.pairs[0].send(frame, milliseconds: 10)
        // What the attacker sends must not fill its receiveq; and while the attacker is gone, what is for it goes to
        // everybody, who must have the time to take it.
        while witness.receive() != nil {}
        Deadline.pause()
      }
    }
    self.finish = finish
  }

  func stop() {
    finish.signal()
    thread.join()
  }
}

extension Site {
  /// A frame that the guest sends arrives.
  func expectDelivery(by guest: GuestPort) throws {
    let frame = frame(1 << 33)
    let isSent = try guest.send(frame, milliseconds: isStrict ? patience : 300)
    if isStrict, !isSent { throw AttackError.hurt("a guest that does no wrong can't send") }
    try expectArrival(frame)
  }
}
