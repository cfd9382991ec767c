internal import Glibc
internal import Linux
internal import VirtioDriver

/// Descriptors for kicks, calls and errors that are no eventfds, or eventfds that nobody may wait for: HP-08.
extension Catalogue {
  static var notifications: [Case] { impostors + clogged }

  private static var impostors: [Case] {
    [
      Case(
        "HP-08", "files, directories, pipes, closed ones, sockets and devices for eventfds",
        .refusal("is not an eventfd")
      ) { site in
        let messages = try Impostors.all().flatMap { descriptor in
          ringFiles.map { FrontEndMessage.file($0, 1, descriptor) }
        }
        try site.refuse(messages)
        try site.end(messages, as: .refused, [])
      },
      Case(
        "HP-08 running", "the same, while the rings run", .refusal("is not an eventfd")
      ) { site in
        let guest = try site.guest { $0.features.remove(.eventIdx) }
        site.announce(guest)
        for descriptor in try Impostors.all() {
          let messages = (0..<2).flatMap { index in
            ringFiles.map { FrontEndMessage.file($0, index, descriptor) }
          }
          try site.refuse(messages, from: guest.frontEnd)
          // Each is worth an interrupt.
          site.sendFromWitness(2)
        }
        try site.expectDelivery(by: guest)
      },
      Case(
        "DPDK 0445f81883", "no descriptor for calls, said and not said",
        .refusal("descriptors attached")
      ) { site in
        let event = try EventFD().descriptor
        try site.end(
          ringFiles.flatMap { [.file($0, 0x101, event), .file($0, 1), .file($0, 1, event, event)] })
        let guest = try site.guest()
        site.announce(guest)
        for index in 0..<2 {
          try guest.frontEnd.setRingCall(index, nil)
          try guest.frontEnd.setRingKick(index, nil)
          try guest.frontEnd.setRingError(index, nil)
        }
        site.sendFromWitness(16)
        try site.expectDelivery(by: guest)
      },
    ]
  }

  private static var clogged: [Case] {
    [
      Case(
        "HP-08 full call", "an eventfd for calls that is full, and made to block afterwards",
        .nothing
      ) { site in
        let guest = try site.guest { $0.features.remove(.eventIdx) }
        site.announce(guest)
        let calls = [guest.pairs[0].receiveq.callEvent, guest.pairs[0].transmitq.callEvent]
        guest.pairs[0].receiveq.availFlags = 0
        guest.pairs[0].transmitq.availFlags = 0
        for call in calls { call.clog() }
        defer { for call in calls { call.unclog() } }
        for sequence in 0..<(site.isStrict ? 32 : 2) {
          site.sendFromWitness(2)
          _ = guest.send(site.frame(UInt64(sequence)))
        }
        try site.visit()
        // E83: whoever gets a new one is told at once.
        for index in 0..<2 { try guest.frontEnd.setRingCall(index, calls[index].descriptor) }
        try guest.stop()
      },
      Case(
        "HP-08 watched", "eventfds that thousands watch: who signals one goes over all of them",
        .counted("slow_interrupts")
      ) { site in
        let guest = try site.guest { $0.features.remove(.eventIdx) }
        site.announce(guest)
        let kicks = [guest.pairs[0].receiveq.kickEvent, guest.pairs[0].transmitq.kickEvent]
        let calls = [guest.pairs[0].receiveq.callEvent, guest.pairs[0].transmitq.callEvent]
        let (copies, sets) = site.isStrict ? (80, 80) : (50, 5)
        let watched = try (kicks + calls).map {
          try EventWatchers(of: $0.descriptor, copies: copies, sets: sets)
        }
        let error = try EventFD()
        let others = try EventWatchers(of: error.descriptor, copies: 100, sets: 100)
        try guest.frontEnd.setRingError(1, error.descriptor)
        guest.pairs[0].receiveq.availFlags = 0
        guest.pairs[0].transmitq.availFlags = 0
        for sequence in 0..<(site.isStrict ? 64 : 4) {
          site.sendFromWitness(2)
          _ = guest.send(site.frame(UInt64(sequence)))
        }
        try site.visit()
        // Rings come and go: their kicks are watched by a worker, too.
        for _ in 0..<10 {
          for index in 0..<2 { try guest.frontEnd.setRingKick(index, kicks[index].descriptor) }
        }
        try site.expectDelivery(by: guest)
        withExtendedLifetime((watched, others)) {}
      },
      Case(
        "HP-08 full kick", "eventfds for kicks that are full, and made to block", .nothing
      ) { site in
        let guest = try site.guest()
        let kicks = [guest.pairs[0].receiveq.kickEvent, guest.pairs[0].transmitq.kickEvent]
        for kick in kicks { kick.clog() }
        try site.visit()
        for kick in kicks { kick.unclog() }
        try site.expectDelivery(by: guest)
      },
      Case(
        "HP-08 full error", "an eventfd for errors that is full and blocks, of a ring that breaks",
        .fault("avail.idx moved by more")
      ) { site in
        let ring = try site.ring(packed: false)
        let event = try EventFD()
        try ring.guest.frontEnd.setRingError(1, event.descriptor)
        event.clog()
        defer { event.unclog() }
        // A ring that does not start is told there too.
        try site.refuse(
          [.addresses(1, descriptors: 16, used: 32, avail: 64)], from: ring.guest.frontEnd,
          as: .notStarted)
        for _ in 0..<5 {
          try ring.restart()
          ring.moveAvail(by: ring.size + 1)
          try site.visit()
        }
      },
      Case(
        "HP-08 one for all", "one eventfd for every kick, call and error: a call is a kick",
        .nothing
      ) { site in
        let guest = try site.guest { $0.features.remove(.eventIdx) }
        site.announce(guest)
        let event = guest.pairs[0].transmitq.kickEvent.descriptor
        guest.pairs[0].receiveq.availFlags = 0
        guest.pairs[0].transmitq.availFlags = 0
        for index in 0..<2 {
          try guest.frontEnd.setRingKick(index, event)
          try guest.frontEnd.setRingCall(index, event)
          try guest.frontEnd.setRingError(index, event)
        }
        site.sendFromWitness(100)
        try site.expectDelivery(by: guest)
      },
      Case("HP-08 kicks", "kicks without an end, of rings in which there is nothing", .nothing) {
        site in
        let guest = try site.guest()
        try site.besiege(milliseconds: 300) {
          for _ in 0..<1000 {
            guest.pairs[0].transmitq.kickEvent.signal()
            guest.pairs[0].receiveq.kickEvent.signal()
          }
        }
        try site.expectDelivery(by: guest)
      },
    ]
  }
}
