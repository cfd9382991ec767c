import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// The drivers of other systems than Linux, as their sources have them: what they negotiate, how they cut their buffers
/// up, and when they want to be interrupted.
struct ForeignDriver: Sendable, CustomTestStringConvertible {
  let name: String
  let features: VirtioFeatures
  let sends: QueuePair.TransmitLayout
  let receives: QueuePair.TransmitLayout
  let receiveBufferLength: Int

  var testDescription: String { name }

  private static let checksums: VirtioFeatures = [.csum, .guestCsum]
  private static let hostSegments: VirtioFeatures = [.hostTSO4, .hostTSO6]
  private static let guestSegments: VirtioFeatures = [.guestTSO4, .guestTSO6]

  static let all: [ForeignDriver] = [
    // vtnet(4): the header from a pool of its own, in front of the mbuf's clusters; an indirect table for more than one piece.
    ForeignDriver(
      name: "FreeBSD",
      features: checksums.union(hostSegments).union(guestSegments)
        .union([.mrgRxbuf, .version1, .eventIdx, .indirectDesc, .hostECN, .guestECN]),
      sends: .init(pieces: 4, indirect: true), receives: .init(), receiveBufferLength: 2048),
    ForeignDriver(
      name: "FreeBSD, LRO without merging: a chain of clusters a buffer",
      features: checksums.union(hostSegments).union(guestSegments)
        .union([.version1, .eventIdx, .indirectDesc]),
      sends: .init(pieces: 5, indirect: true), receives: .init(pieces: 33, indirect: true),
      receiveBufferLength: OffloadBed.longest),
    ForeignDriver(
      name: "FreeBSD, legacy: the header apart in both directions",
      features: checksums.union(hostSegments),
      sends: .init(pieces: 3), receives: .init(pieces: 2), receiveBufferLength: 10 + 2048),
    // vio(4): the header apart when it sends, direct chains; a cluster a buffer where buffers are merged, else header and cluster.
    ForeignDriver(
      name: "OpenBSD",
      features: checksums.union(hostSegments).union([
        .mrgRxbuf, .version1, .eventIdx, .indirectDesc,
      ]),
      sends: .init(pieces: 3), receives: .init(), receiveBufferLength: 2048),
    ForeignDriver(
      name: "OpenBSD, legacy", features: [.csum, .eventIdx],
      sends: .init(pieces: 2), receives: .init(pieces: 2), receiveBufferLength: 10 + 2048),
    // NetKVM: pages. Each frame goes out by an indirect table whose first entry is the header, the second the headers it has copied.
    ForeignDriver(
      name: "NetKVM",
      features: checksums.union(hostSegments).union(guestSegments)
        .union([.mrgRxbuf, .version1, .eventIdx, .indirectDesc]),
      sends: .init(pieces: 6, indirect: true), receives: .init(), receiveBufferLength: 4096),
    ForeignDriver(
      name: "NetKVM without merging: a page for the header, pages for 64 KiB",
      features: checksums.union(hostSegments).union(guestSegments)
        .union([.version1, .eventIdx, .indirectDesc]),
      sends: .init(pieces: 6, indirect: true), receives: .init(pieces: 18, indirect: true),
      receiveBufferLength: OffloadBed.longest),
    ForeignDriver(
      name: "NetKVM, packed",
      features: checksums.union(hostSegments).union(guestSegments)
        .union([.mrgRxbuf, .version1, .eventIdx, .indirectDesc, .ringPacked]),
      sends: .init(pieces: 6, indirect: true), receives: .init(), receiveBufferLength: 4096),
  ]

  var options: GuestPort.Options {
    var options = GuestPort.Options()
    options.features = features.union(.protocolFeatures)
    options.transmitLayout = sends
    options.receiveLayout = receives
    options.transmitBufferLength = OffloadBed.longest
    options.receiveBufferLength = receiveBufferLength
    return options
  }
}

extension SwitchTests {
  @Suite struct DriverHabitTests {
    @Test(
      "FreeBSD, OpenBSD and Windows exchange every kind of frame with Linux, whole",
      arguments: ForeignDriver.all)
    func everyKind(_ driver: ForeignDriver) throws {
      let bench = try Bench()
      let foreign = try bench.attach("g0", driver.options)
      let linux = try bench.attach(
        "g1", OffloadBed.options(OffloadBed.hostAll.union(OffloadBed.guestAll)))
      #expect(foreign.features == driver.features.union(.protocolFeatures))
      try introduce([foreign, linux])
      OffloadBed(sender: foreign, receivers: [linux]).exchange(OffloadBed.shipments())
      OffloadBed(sender: foreign, receivers: [linux]).exchange(OffloadBed.longest(), burst: 1)
      // The other way round the stations are the other ones.
      try linux.announce(.station(0))
      try foreign.announce(.station(1))
      _ = (foreign.collect(), linux.collect())
      OffloadBed(sender: linux, receivers: [foreign]).exchange(OffloadBed.shipments(seed: 1))
      OffloadBed(sender: linux, receivers: [foreign]).exchange(OffloadBed.longest(), burst: 1)
      bench.expectBalance(.named([foreign, linux]))
    }

    @Test(
      "A driver that wants to hear only once three quarters of its ring are free is interrupted then, and not before",
      arguments: ForeignDriver.all.filter {
        $0.features.contains(.eventIdx) && !$0.features.contains(.ringPacked)
      })
    func postponed(_ driver: ForeignDriver) throws {
      let bench = try Bench()
      let guests = [try bench.attach("g0", driver.options), try bench.attach("g1", driver.options)]
      try introduce(guests)
      let call = guests[0].pairs[0].transmitq.callEvent
      var sequence: UInt64 = 0
      for lap in 0..<20 {
        let wanted = 12 + lap
        let isThere = guests[0].pairs[0].transmitq.postponeInterrupts(by: wanted)
        #expect(!isThere)
        call.drain()
        func send(_ count: Int) throws {
          for _ in 0..<count {
            let frame = TestFrame.make(to: .station(1), from: .station(0), sequence: sequence)
            #expect(guests[0].pairs[0].enqueue(frame))
            guests[0].pairs[0].flush()
            sequence += 1
          }
          var left = count
          #expect(
            eventually {
              left -= guests[1].collect().count
              return left == 0
            })
        }
        try send(wanted - 1)
        // By the end of this burst the worker has looked at what the driver of the one before wants.
        try guests[1].announce(.station(1))
        #expect(!isSignalled(call), "interrupted after \(wanted - 1) of \(wanted)")
        try send(1)
        #expect(eventually { isSignalled(call) }, "not interrupted after \(wanted)")
        guests[0].settle()
        _ = (guests[0].collect(), guests[1].collect())
      }
    }

    private func isSignalled(_ event: EventFD) -> Bool {
      let entry = (descriptor: event.descriptor.raw, interest: Poller.Interest.read)
      return (try? Poller.wait([entry], milliseconds: 0)) == [true]
    }
  }
}
