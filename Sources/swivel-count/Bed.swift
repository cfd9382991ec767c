import Dataplane
import Linux

/// A data plane without threads, and guests on its ports.
struct Bed {
  private let workload: Workload
  private let plane: Dataplane
  /// By port, one for each of its queue pairs.
  private let guests: [[Guest]]

  init(_ workload: Workload) throws {
    self.workload = workload
    plane = try Dataplane(
      .init(workers: [.init(cpu: nil, node: 0)], hugepages: false, threads: false))
    guests = try (0..<workload.ports).map { port in
      try (0..<workload.pairs(of: port)).map { try Guest(port, pair: $0, workload) }
    }
    for pairs in guests {
      let port = try plane.addPort(pairs: pairs.count)
      for (pair, guest) in pairs.enumerated() { try start(guest, pair, port) }
    }
  }

  private func start(_ guest: Guest, _ pair: Int, _ port: Int) throws {
    let region = try guest.map()
    let memory = GuestMemory([
      MappedRegion(
        guestAddress: region.guest, userAddress: region.user, mapping: region.mapping)
    ])
    for (index, place) in [guest.receiveqPlace, guest.transmitqPlace].enumerated() {
      var setup = RingSetup(
        size: Guest.ringSize, descriptors: place.descriptors, avail: place.avail,
        used: place.used, base: place.base, packed: workload.packed, inOrder: workload.inOrder,
        eventIndex: false, indirect: workload.layout == .indirect,
        mergeable: workload.mergeable, version1: true,
        offloads: offloads(isTransmitq: index == 1), enabled: true, kick: nil, call: nil)
      if workload.packed {
        // As in the daemon, where each packed ring has its record.
        let record = try Mapping.own(RingJournal.byteCount)
        setup.journal = unsafe RingJournal(record.base)
        setup.keepsJournal = record
      }
      if workload.logged {
        let pages = (region.guest + UInt64(region.mapping.length)) / DirtyLog.page + 1
        setup.log = DirtyLog(try Mapping.own(Int(pages / 8 + 1)))
        setup.logAddress = place.used &- region.user &+ region.guest
      }
      let start = QueueStart(2 * pair + index, .ring(setup, memory: memory))
      if let error = plane.startQueues([start], of: port)[0] { throw error }
    }
  }

  private func offloads(isTransmitq: Bool) -> Offloads {
    switch (workload.request, isTransmitq) {
    case (nil, _), (.completed, false): .none
    case (.checksum, false), (.segments, false): .checksum
    case (_, true): .tcp
    }
  }

  /// Frames of a turn, each counted once however many ports it goes to.
  private var framesOfTurn: Int { workload.burst * senders.count }

  private var senders: [Guest] {
    (workload.floods ? guests.prefix(1) : guests[...]).flatMap(\.self)
  }

  /// What the instructions of all rounds are divided by: frames, or turns where there are no frames.
  var units: Int { workload.rounds * max(1, framesOfTurn) }

  /// Lets the guests send and the worker turn, `count` times. Every frame must arrive.
  func run(_ count: Int) throws {
    for _ in 0..<count {
      for guest in senders { guest.send(workload.burst) }
      let taken = plane.turn()
      var received = 0
      for guest in guests.joined() {
        received += try guest.receive(buffersPerFrame: Guest.buffers(workload))
      }
      let expected = framesOfTurn * (workload.floods ? guests.count - 1 : 1)
      guard taken == framesOfTurn, received == expected else {
        throw CountError(
          "\(workload.name): of \(framesOfTurn) frames \(taken) were taken and \(received) received"
        )
      }
    }
  }

  func stop() { plane.stop() }
}
