import ControlAPI
import Testing

@testable import swivel

/// What people see, on fixed data.
@Suite struct RenderingTests {
  static let vm1 = ControlAPI.Port(
    name: "vm1", kind: .vhostUser, state: .broken, explanation: "ring 1 was stopped",
    lastError: "descriptor 9 of 8", faults: ["head_out_of_range": 1200], mtu: 1500, guestNode: 1,
    macs: 2, macLimit: 1024,
    learning: LearningCounters(learned: 5000, moved: 1, limited: 4997, evicted: 2, deferred: 9),
    status: VhostUserStatus(
      path: "/run/swivel/vm1.sock", mode: .server, queuePairs: 1, frontEndPID: 77, connections: 3,
      features: ["VIRTIO_F_VERSION_1", "VIRTIO_NET_F_MRG_RXBUF"], protocolFeatures: ["MQ"],
      deviceStatus: [],
      memoryRegions: [
        MemoryRegion(guestAddress: 1 << 32, size: 1 << 30, pageSize: 2 << 20, node: 1)
      ]),
    received: Counters(frames: 1_234_567, bytes: 80_000_000, drops: ["noBuffer": 1000]),
    sent: Counters(frames: 89, bytes: 9000),
    queues: [
      Queue(
        index: 0, direction: .receiveq, state: .running, size: 256,
        counters: Counters(frames: 89, bytes: 9000, bursts: 7, notifications: 6)),
      Queue(
        index: 1, direction: .transmitq, state: .broken, size: 256, worker: 0, workerNode: 1,
        error: "descriptor 9 of 8",
        counters: Counters(
          frames: 1_234_567, bytes: 80_000_000, bursts: 50000, replicas: 4,
          drops: ["noBuffer": 1000])),
    ])
  static let uplink = ControlAPI.Port(
    name: "uplink", kind: .tap, state: .waiting, explanation: "the device is down",
    status: TapStatus(device: "swivel0", queues: 2, made: true))

  @Test func ports() {
    #expect(
      PortsCommand.text([RenderingTests.vm1, RenderingTests.uplink], .plain) == """
        NAME    KIND        STATE    QUEUES  NODE  WORKERS  MACS         IN  OUT  DROPS  AT
        vm1     vhost-user  broken      1/2     1  0@1         2  1,234,567   89  1,000  /run/swivel/vm1.sock
        uplink  tap         waiting     0/0     -  -           0          0    0      0  swivel0

        """)
    #expect(PortsCommand.text([], .plain) == "There are no ports.\n")
  }

  @Test func port() {
    #expect(
      PortDescription.text(RenderingTests.vm1, .plain) == """
        vm1: broken
          ring 1 was stopped
          last error: descriptor 9 of 8

          kind               vhost-user
          socket             /run/swivel/vm1.sock (swivel listens)
          queue pairs        1
          front-end          process 77
          connections        3
          MTU                1500 bytes
          guest's NUMA node  1
          addresses          2 of at most 1,024
          learning           5,000 learned, 1 moved here, 4,997 gone by the limit, 2 evicted for these, 9 frames not learned from
          in                 1,234,567 frames, 80,000,000 bytes, 1,000 dropped
          out                89 frames, 9,000 bytes, 0 dropped

          RING  DIRECTION  STATE    SIZE  WORKER  NODE     FRAMES       BYTES  BURSTS  NOTIFICATIONS  REPLICAS  DROPS
             0  receiveq   running   256     any     -         89       9,000       7              6         0      0
             1  transmitq  broken    256       0     1  1,234,567  80,000,000  50,000              0         4  1,000
          ring 1: descriptor 9 of 8

          RING  DROPPED  REASON
             1    1,000  noBuffer

          TIMES  FAULT
          1,200  head_out_of_range

          features:
            VIRTIO_F_VERSION_1 VIRTIO_NET_F_MRG_RXBUF

          protocol features:
            MQ

          device status: none

          GUEST ADDRESS   SIZE  PAGES  NODE
            0x100000000  1 GiB  2 MiB     1

        """)
  }

  @Test func tapPort() {
    #expect(
      PortDescription.text(RenderingTests.uplink, .plain) == """
        uplink: waiting
          the device is down

          kind       tap
          device     swivel0 (made by swivel)
          queues     2
          addresses  0
          learning   0 learned, 0 moved here, 0 gone by the limit, 0 evicted for these, 0 frames not learned from
          in         0 frames, 0 bytes, 0 dropped
          out        0 frames, 0 bytes, 0 dropped

          no rings

        """)
  }

  @Test func longFeatureListsAreBroken() {
    var port = RenderingTests.vm1
    port.vhostUser?.features = (0..<20).map { "VIRTIO_NET_F_FEATURE_\($0)" }
    let lines = PortDescription.text(port, .plain).split(separator: "\n")
    let names = lines.filter { $0.contains("FEATURE_") }
    #expect(names.count > 3)
    #expect(names.allSatisfy { $0.count <= 100 })
    #expect(names.joined().split(separator: " ").count == 20)
  }

  @Test func macs() {
    let entries = [
      MACEntry(mac: "52:54:00:00:00:02", port: "vm2", age: 1234),
      MACEntry(mac: "52:54:00:00:00:01", port: "vm1", age: 0),
      MACEntry(mac: "52:54:00:00:00:03", port: "vm2", age: 0, pinned: true),
    ]
    #expect(
      MACsCommand.text(entries, .plain) == """
        MAC                PORT      AGE
        52:54:00:00:00:01  vm1       0 s
        52:54:00:00:00:02  vm2   1,234 s
        52:54:00:00:00:03  vm2     stays

        """)
  }

  @Test func healthAndReload() {
    let health = Health(
      healthy: false, problems: ["worker 0 is stuck"], ports: ["running": 2, "waiting": 1])
    #expect(
      HealthCommand.text(health)
        == "not healthy; ports: 1 waiting, 2 running\n  worker 0 is stuck\n")
    #expect(HealthCommand.text(Health(healthy: true)) == "healthy; ports: none\n")
    let report = ReloadReport(
      added: ["a", "b"], removed: ["r"], replaced: ["n"], changed: ["c"], unchanged: 3)
    #expect(
      report.description
        == "added: a, b; removed: r; made anew: n; changed in place: c; 3 unchanged")
  }

  @Test func workers() {
    let workers = [
      Worker(
        id: 0, cpu: 2, node: 0, state: "polling", turns: 2000, busyTurns: 500, sleeps: 3,
        memory: "2 MiB hugepages", queues: ["vm1/1", "vm2/1"]),
      Worker(id: 1, cpu: 3, node: 1, state: "sleeping"),
    ]
    #expect(
      WorkersCommand.text(workers, .plain) == """
        WORKER  CPU  NODE  STATE     TURNS   BUSY  SLEEPS  MEMORY           QUEUES
             0    2     0  polling   2,000  25.0%       3  2 MiB hugepages  vm1/1 vm2/1
             1    3     1  sleeping      0   0.0%       0  -                -

        """)
  }

  static func stats(uptime: Double, frames: UInt64, drops: UInt64 = 0) -> Stats {
    let counters = Counters(
      frames: frames, bytes: frames * 1250, drops: drops == 0 ? [:] : ["noBuffer": drops])
    return Stats(
      version: "1.2.3", uptime: uptime, received: counters, sent: Counters(frames: 5),
      macTable: MACTableStats(
        capacity: 16384, entries: 2, learned: 3, moved: 1, limited: 5, evicted: 0, deferred: 7,
        aged: 0),
      ports: [
        PortStats(name: "vm1", state: .running, received: counters, sent: Counters(frames: 5))
      ])
  }

  @Test func stats() {
    #expect(
      StatsCommand.text(RenderingTests.stats(uptime: 90061, frames: 4000, drops: 7), .plain) == """
        swivel 1.2.3, up 1d 01:01:01

        PORT       STATE    IN FRAMES   IN BYTES  IN DROPS  OUT FRAMES  OUT BYTES  OUT DROPS
        vm1        running      4,000  5,000,000         7           5          0          0
        all, ever               4,000  5,000,000         7           5          0          0

        DROP REASON  IN  OUT
        noBuffer      7    0

        MAC table: 2 of 16,384 entries; 3 learned, 1 moved, 5 gone by their ports' limits, 0 evicted, 0 aged, 7 frames not learned from

        """)
  }

  @Test func top() throws {
    let old = RenderingTests.stats(uptime: 10, frames: 1000)
    let new = RenderingTests.stats(uptime: 12, frames: 2_001_000, drops: 10)
    let rates = try #require(PortRate.rates(from: old, to: new))
    #expect(
      TopCommand.text(rates, new, .plain) == """
        swivel 1.2.3, up 00:00:12, 2 addresses

        PORT  STATE    IN FRAMES/S  GBIT/S  DROPS/S  OUT FRAMES/S  GBIT/S  DROPS/S
        vm1   running    1,000,000  10.000        5             0   0.000        0

        """)
  }

  @Test func ratesSurviveARestartAndANewPort() throws {
    let old = RenderingTests.stats(uptime: 1000, frames: 1_000_000)
    // The daemon was started again two seconds ago.
    let new = RenderingTests.stats(uptime: 2, frames: 100)
    #expect(try #require(PortRate.rates(from: old, to: new))[0].received.framesPerSecond == 50)
    // The port was removed and made again.
    let again = RenderingTests.stats(uptime: 1001, frames: 30)
    #expect(try #require(PortRate.rates(from: old, to: again))[0].received.framesPerSecond == 30)
    #expect(PortRate.rates(from: old, to: old) == nil)
  }

  @Test func colourDoesNotDisturbTheColumns() {
    let coloured = PortsCommand.text(
      [RenderingTests.vm1, RenderingTests.uplink], Style(terminal: true, colour: true))
    #expect(coloured.contains("\u{1b}[31mbroken\u{1b}[0m"))
    let stripped = coloured.replacing(/\u{1b}\[[0-9]+m/, with: "")
    #expect(stripped == PortsCommand.text([RenderingTests.vm1, RenderingTests.uplink], .plain))
    #expect(!PortsCommand.text([RenderingTests.vm1], .plain).contains("\u{1b}"))
  }

  @Test func figures() {
    #expect(Figures.grouped(0) == "0")
    #expect(Figures.grouped(999) == "999")
    #expect(Figures.grouped(1000) == "1,000")
    #expect(Figures.grouped(-1_234_567) == "-1,234,567")
    #expect(Figures.grouped(UInt64.max) == "18,446,744,073,709,551,615")
    #expect(Figures.grouped(Double.infinity) == "?")
    #expect(Figures.memory(4097) == "4097 B")
    #expect(Figures.memory(2 << 20) == "2 MiB")
    #expect(Figures.memory(3 << 40) == "3 TiB")
    #expect(Figures.duration(3661.9) == "01:01:01")
    #expect(Figures.duration(-.infinity) == "?")
  }
}
