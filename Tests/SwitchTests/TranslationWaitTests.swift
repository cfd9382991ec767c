import ControlAPI
import Testing
import VirtioDriver

/// What becomes of frames while nobody has told where they lie, or where they are to go.
extension SwitchTests.IOMMUTests {
  static func frame(to receiver: Int, _ sequence: Int, length: Int = 60) -> [UInt8] {
    TestFrame.make(
      to: .station(receiver), from: .station(1 - receiver), stream: 1, sequence: UInt64(sequence),
      length: length)
  }

  @Test(
    "Frames wait for a receiveq whose addresses were taken back, in order, whatever layout (E98)",
    arguments: [1, 2], [false, true])
  func framesWait(workers: Int, packed: Bool) throws {
    let (bench, guests, iommu) = try bed(
      Self.options(packed ? [.ringPacked] : []), patience: Self.forEver, workers: workers)
    try introduce(guests)
    for round in 0..<5 {
      iommu.isSilent = true
      // Ring and buffers.
      try iommu.invalidate(0, size: 0)
      let wanted = (0..<20).map { Self.frame(to: 0, 100 * round + $0, length: 60 + 70 * $0) }
      for frame in wanted { try guests[1].deliver(frame) }
      #expect(guests[0].collect() == [])
      iommu.isSilent = false
      var found: [[UInt8]] = []
      #expect(
        eventually {
          found += guests[0].collect()
          return found.count >= wanted.count
        })
      #expect(found == wanted)
    }
    bench.expectBalance(.named(guests))
    #expect(try bench.port("g0").sent.dropped == 0)
  }

  @Test("Frames that are cut into segments wait as these (E98)")
  func segmentsWait() throws {
    let bench = try Bench(translationPatience: Self.forEver)
    let guests = [
      try bench.attach("g0", Self.options()),
      try bench.attach("g1", OffloadBed.options(OffloadBed.hostAll)),
    ]
    let iommu = try #require(guests[0].iommu)
    try introduce(guests)
    iommu.isSilent = true
    try iommu.invalidate(0, size: 0)
    let packet = TestPacket(
      to: .station(0), from: .station(1), .ipv4(options: 0), .tcp(options: 0), length: 3000, seed: 9
    )
    let mode = TestPacket.Mode.segmented(size: 1000)
    #expect(guests[1].send(packet.frame(mode), header: packet.header(mode)))
    guests[1].settle()
    iommu.isSilent = false
    var found: [QueuePair.Received] = []
    #expect(
      eventually {
        while let one = guests[0].pairs[0].receiveWithHeader() { found.append(one) }
        return found.count >= 3
      })
    #expect(packet.judge(found, mode, features: guests[0].features) == [])
    bench.expectBalance(.named(guests))
  }

  @Test("No more wait than there is room for; the others are dropped by name, and nobody else's")
  func fullRoom() throws {
    let (bench, pair, iommu) = try bed(patience: Self.forEver)
    let guests = pair + [try bench.attach("g2")]
    try introduce(guests)
    iommu.isSilent = true
    try iommu.invalidate(0, size: 0)
    // A mebibyte is some 700 of them.
    for sequence in 0..<1000 {
      try guests[1].deliver(Self.frame(to: 0, sequence, length: 1500))
      if sequence % 100 == 0 {
        let frame = TestFrame.make(
          to: .station(2), from: .station(1), stream: 2, sequence: UInt64(sequence))
        try guests[1].deliver(frame)
        #expect(guests[2].collect() == [frame])
      }
    }
    let lost = bench.drops("address_not_translated")
    #expect((200...500).contains(lost))
    iommu.isSilent = false
    var found: [[UInt8]] = []
    #expect(
      eventually {
        found += guests[0].collect()
        return found.count >= 1000 - Int(lost)
      })
    #expect(found == (0..<(1000 - Int(lost))).map { Self.frame(to: 0, $0, length: 1500) })
    bench.expectBalance(.named(guests))
  }

  @Test("What waits for too long is dropped by name, either way; what comes then goes on (E98)")
  func patienceEnds() throws {
    var options = Self.options()
    options.regionAddresses = [0, 1 << 32, 2 << 32]
    let (bench, guests, iommu) = try bed(options, patience: 200)
    try introduce(guests)
    iommu.isSilent = true
    try iommu.invalidate(0, size: 0)
    for sequence in 0..<5 { try guests[1].deliver(Self.frame(to: 0, sequence)) }
    #expect(eventually { bench.drops("address_not_translated") == 5 })
    // Its own: the ring is known again, its buffers are not.
    iommu.isSilent = false
    #expect(eventually { (try? iotlb(bench).waitingRings) == [] })
    for page in stride(from: 0, to: UInt64(guests[0].memory.regions[2].length), by: 4096) {
      iommu.map(2 << 32 + page, to: 2 << 32 + page, [])
    }
    try iommu.invalidate(2 << 32, size: UInt64(guests[0].memory.regions[2].length))
    for sequence in 5..<10 { #expect(guests[0].send(Self.frame(to: 1, sequence))) }
    guests[0].settle()
    #expect(guests[1].collect() == [])
    #expect(try bench.port("g0").received.drops["address_not_translated"] == 5)
    for page in stride(from: 0, to: UInt64(guests[0].memory.regions[2].length), by: 4096) {
      iommu.map(2 << 32 + page, to: 2 << 32 + page)
    }
    var found: [[UInt8]] = []
    #expect(
      eventually {
        _ = try? guests[0].deliver(Self.frame(to: 1, 10))
        found += guests[1].collect()
        return !found.isEmpty
      })
    #expect(found.first == Self.frame(to: 1, 10))
    try guests[1].deliver(Self.frame(to: 0, 11))
    found = []
    #expect(
      eventually {
        found += guests[0].collect()
        return !found.isEmpty
      })
    #expect(found == [Self.frame(to: 0, 11)])
    bench.expectBalance(.named(guests))
  }

  @Test("A receive buffer that never gets its translation goes back empty, and frames go on (E98)")
  func poisonedBuffer() throws {
    var options = Self.options()
    options.regionAddresses = [0, 1 << 32, 2 << 32]
    let (bench, guests, iommu) = try bed(options, patience: 200)
    try introduce(guests)
    // The page of the first buffers only.
    iommu.map(1 << 32, to: 1 << 32, [])
    try iommu.invalidate(1 << 32, size: IOMMU.page)
    var sent = 0
    func next() -> [[UInt8]] {
      _ = try? guests[1].deliver(Self.frame(to: 0, sent))
      sent += 1
      return guests[0].collect()
    }
    #expect(
      eventually {
        _ = next()
        return bench.drops("address_not_translated") > 0
      })
    #expect(eventually { !next().isEmpty })
  }

  @Test("Frames that wait when their receiver goes are dropped by name (E98)")
  func receiverGoes() throws {
    let (bench, guests, iommu) = try bed(patience: Self.forEver)
    try introduce(guests)
    iommu.isSilent = true
    try iommu.invalidate(0, size: 0)
    for sequence in 0..<5 { try guests[1].deliver(Self.frame(to: 0, sequence)) }
    #expect(bench.drops("address_not_translated") == 0)
    guests[0].disconnect()
    #expect(eventually { bench.drops("address_not_translated") == 5 })
    bench.expectBalance()
  }

  @Test("The last page of all addresses is a page like any other (E98, HP-13)")
  func lastPage() throws {
    let (bench, guests, iommu) = try bed()
    try introduce(guests)
    let page = UInt64.max - 4095
    let own = try #require(guests[0].memory.allocate(4096, alignment: 4096))
    iommu.map(page, to: own.address)
    let frame = Self.frame(to: 1, 1, length: 200)
    own.write(NetHeader().bytes(length: 12) + frame, at: 4096 - 212)
    for _ in 0..<3 {
      // To the very last byte.
      #expect(
        guests[0].pairs[0].transmitq.add(
          Piece(page + (4096 - 212), 212), writable: false) != nil)
      guests[0].pairs[0].flush()
      guests[0].settle()
      #expect(guests[1].collect() == [frame])
      try iommu.invalidate(page, size: 4096)
    }
    #expect(try bench.port("g0").received.dropped == 0)
  }

  @Test("A front-end that moves a page without taking it back is found out, and its port stopped")
  func untold() throws {
    let (bench, guests, iommu) = try bed()
    try introduce(guests)
    try guests[0].deliver(Self.frame(to: 1, 1))
    _ = guests[1].collect()
    // Every page that the device has asked for leads to the next one now.
    let pages = Set(iommu.misses.map { $0.address / IOMMU.page * IOMMU.page })
    for page in pages { iommu.map(page, to: page + IOMMU.page) }
    // A ring is seen to be broken before its port's thread has counted that.
    #expect(
      eventually {
        let port = try? bench.port("g0")
        return port?.state == .broken && port?.faults["invalidations_missing"] != nil
          && port?.vhostUser?.iotlb?.entries == 0
      })
    #expect(try bench.port("g0").explanation.contains("root port"))
    // It moves nothing more: neither its own frames nor those for it.
    #expect(guests[0].send(Self.frame(to: 1, 2)))
    try guests[1].deliver(Self.frame(to: 0, 3))
    #expect(bench.drops("queue_broken") == 1)
    #expect(guests[1].collect() == [] && guests[0].collect() == [])
    // A driver that begins anew may do better.
    for page in pages { iommu.map(page, to: page) }
    try guests[0].stop()
    try guests[0].restart()
    #expect(eventually { (try? bench.port("g0").state) == .running })
    try guests[0].deliver(Self.frame(to: 1, 4))
    #expect(eventually { guests[1].collect().contains(Self.frame(to: 1, 4)) })
  }
}
