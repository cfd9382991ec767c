public import ControlAPI
internal import Dataplane
public import Linux
public import Logging

/// The switch: its ports, its data plane, and the operations on them. One of it lives in a daemon.
///
/// Everything here is control: it may block, allocate and log, and never touches a ring. Each vhost-user
/// port has a thread of its own, so that a front-end that stalls keeps nobody waiting but itself.
///
/// With what a daemon adds, it is what the control interface asks (`SwitchService`).
public final class Switch: Sendable {
  /// What a switch is made with.
  public struct Configuration: Sendable {
    /// One worker for each CPU.
    public var cpus: [Int]
    /// Whether workers are pinned to those CPUs; tests that share two CPUs do without.
    public var pinned: Bool
    /// Workers never sleep.
    public var busy: Bool
    public var macEntries: Int
    /// Seconds of silence after which an address is forgotten.
    public var macAge: Double
    /// Most addresses of a vhost-user port that says nothing else.
    public var macsPerPort: Int
    /// Most bytes of guest memory, and most regions of it, of a vhost-user port that says nothing else.
    public var memoryPerPort: UInt64
    public var regionsPerPort: Int
    /// Whether guests' memory may lie in files on disks.
    public var memoryOnDisks: Bool
    /// Milliseconds for which frames wait for an IOMMU's translations. A front-end that lives answers within one; one that is
    /// busy for some seconds is not to cost its guest frames, nor is one that is silent to hold up others for ever.
    public var translationPatience: Int
    /// Whether of two uplinks that are a loop one is cut off.
    public var cutsLoops: Bool
    /// Whether queues go to other workers without anybody having asked.
    public var balances: Bool
    public var hugepages: Bool
    public var topology: Topology
    /// CPUs that this process may use: workers may come on those, and what is no worker stays on those that they leave. `nil`:
    /// nobody cares.
    public var usableCPUs: [Int]?

    public init(
      cpus: [Int], pinned: Bool = true, busy: Bool = false, macEntries: Int = 16384,
      macAge: Double = 300, macsPerPort: Int = 1024, memoryPerPort: UInt64 = 1 << 40,
      regionsPerPort: Int = 64, memoryOnDisks: Bool = false, translationPatience: Int = 4000,
      cutsLoops: Bool = false, balances: Bool = false, hugepages: Bool = true,
      topology: Topology = NUMA.topology(),
      usableCPUs: [Int]? = nil
    ) {
      self.cpus = cpus
      self.pinned = pinned
      self.busy = busy
      self.macEntries = macEntries
      self.macAge = macAge
      self.macsPerPort = macsPerPort
      self.memoryPerPort = memoryPerPort
      self.regionsPerPort = regionsPerPort
      self.memoryOnDisks = memoryOnDisks
      self.translationPatience = translationPatience
      self.cutsLoops = cutsLoops
      self.balances = balances
      self.hugepages = hugepages
      self.topology = topology
      self.usableCPUs = usableCPUs
    }
  }

  let configuration: Configuration
  let dataplane: Dataplane
  let logger: Logger
  let placement: Lock<Placement>
  let portList = Lock<[any SwitchPort]>([])
  /// Held while a port is made or taken out of the list, so that no two have a name or a path in common.
  /// What it holds is their number: a lock around nothing has no address for the thread sanitizer to watch.
  let changes = Lock(0)
  /// Held while workers come and go; before `changes`, if both are.
  let workerChanges = Lock(0)
  /// The CPU of each worker, by its number.
  let workerCPUs: Lock<[Int: Int]>
  /// Ports that are part of a loop, or were.
  let loops = Lock<[ObjectIdentifier: LoopNote]>([:])
  /// Where the state is left for a successor; `nil`: nowhere.
  let stateFile: StateFile?
  /// Where packed rings are: in that file, or in memory of this process, for front-ends that come back.
  let positions: RingPositions?
  /// What the front-ends of a predecessor's ports were offered, by the ports' names.
  let offered: [String: SavedState.FrontEnd]
  let saving: Lock<Saving>
  private let log = Lock(LogLimit())
  private let started = ContinuousClock.now
  private let housekeeping: Lock<Housekeeping?>
  /// How often housekeeping has gone round.
  let housekeepingRounds = Lock<UInt64>(0)

  /// Starts the workers; fails when a CPU can't be used or there is no memory.
  ///
  /// - Parameters:
  ///   - state: where what a successor needs is kept.
  ///   - predecessor: what one left.
  public convenience init(
    _ configuration: Configuration, logger: Logger, state: StateFile? = nil,
    predecessor: SavedState? = nil
  ) throws {
    let dataplane = try Dataplane(
      .init(
        workers: configuration.cpus.map { cpu in
          .init(
            cpu: configuration.pinned ? cpu : nil, node: configuration.topology.node(ofCPU: cpu))
        }, poll: configuration.busy ? .busy : .adaptive, macEntries: configuration.macEntries,
        hugepages: configuration.hugepages))
    try self.init(
      configuration, dataplane, logger: logger, state: state, predecessor: predecessor)
  }

  /// - Parameter dataplane: has a worker for each CPU of the configuration.
  init(
    _ configuration: Configuration, _ dataplane: Dataplane, logger: Logger,
    state: StateFile? = nil, predecessor: SavedState? = nil
  ) throws {
    stateFile = state
    positions =
      state?.positions ?? (try? Mapping.own(RingPositions.byteCount)).map(RingPositions.init)
    offered = (predecessor?.ports ?? []).reduce(into: [:]) { $0[$1.request.name] = $1.frontEnd }
    self.configuration = configuration
    self.dataplane = dataplane
    self.logger = logger
    let nodes = configuration.cpus.map { configuration.topology.node(ofCPU: $0) }
    placement = Lock(Placement(nodes: nodes))
    saving = Lock(Saving(cpus: Set(configuration.cpus)))
    workerCPUs = Lock(
      Dictionary(uniqueKeysWithValues: configuration.cpus.enumerated().map { ($0, $1) }))
    housekeeping = Lock(nil)
    for (index, sample) in dataplane.workerSamples().enumerated() {
      let cpu = configuration.cpus[index]
      logger.info("worker \(index) runs on CPU \(cpu), node \(nodes[index]), with \(sample.pages)")
    }
    if dataplane.workerSamples().contains(where: { !$0.pages.isReserved }) {
      logger.notice(
        "no reserved hugepages: the workers use \(dataplane.workerSamples()[0].pages); for speed, reserve 2 MiB pages (vm.nr_hugepages), 4 for each worker"
      )
    }
    // What control signals error eventfds by is made at its first use: that is now, and no front-end's to choose.
    Notifier.signal(try EventFD().descriptor)
    if let lack = dataplane.notifierLack {
      logger.notice(
        "no asynchronous I/O for this process (\(lack)): a front-end that fills its call eventfd and makes it block can hold up a worker"
      )
    }
    let keeper = try Housekeeping(self)
    housekeeping.withLock { $0 = keeper }
  }

  /// Ends every port and worker; removes the sockets and TAPs that were made.
  public func stop() {
    housekeeping.withLock { keeper in
      keeper?.stop()
      keeper = nil
    }
    endSaving()
    // The workers first: without them each port goes at once, with no plan to rebuild and no turn to await.
    dataplane.stop()
    let all = changes.withLock { _ in
      portList.withLock { ports in
        defer { ports = [] }
        return ports
      }
    }
    for port in all { port.stop() }
  }

  // ---- Readings ----

  /// The ports in the order they were added.
  var allPorts: [any SwitchPort] { portList.withLock { $0 } }

  /// The requests of all ports, for comparing with a new configuration.
  public var requests: [PortRequest] { allPorts.map(\.request) }

  public func ports() -> [Port] {
    let macs = addressCounts
    return allPorts.map { shown($0, macs: macs) }
  }

  public func port(named name: String) -> Port? {
    allPorts.first { $0.request.name == name }.map { shown($0, macs: addressCounts) }
  }

  public func macs() -> [MACEntry] {
    let names = Dictionary(
      allPorts.map { ($0.number, $0.request.name) }, uniquingKeysWith: { first, _ in first })
    let step = configuration.macAge / Double(Dataplane.lifetime)
    return dataplane.addresses().compactMap { entry in
      names[entry.port].map {
        MACEntry(
          mac: entry.mac.description, port: $0, age: Int(Double(entry.age) * step),
          pinned: entry.isPinned)
      }
    }.sorted { ($0.port, $0.mac) < ($1.port, $1.mac) }
  }

  public func stats() -> Stats {
    let macs = addressCounts
    let ports = allPorts.map { $0.snapshot(macs: macs) }
    let totals = dataplane.totals
    let addresses = dataplane.addressCounts
    let uptime = started.duration(to: .now)
    return Stats(
      version: swivelVersion,
      uptime: Double(uptime.components.seconds) + Double(uptime.components.attoseconds) / 1e18,
      received: Counters(totals.transmitq), sent: Counters(totals.receiveq),
      macTable: MACTableStats(
        capacity: addresses.capacity, entries: macs.values.reduce(0, +),
        learned: addresses.learning.learned, moved: addresses.learning.moved,
        limited: addresses.learning.limited, evicted: addresses.learning.evicted,
        deferred: addresses.learning.deferred, aged: addresses.aged),
      ports: ports.map {
        PortStats(name: $0.name, state: $0.state, received: $0.received, sent: $0.sent)
      })
  }

  // ---- For the ports ----

  /// Whether a line about something that concerns all ports may be logged now.
  func allowsLine(_ message: String) -> Bool { log.withLock { $0.allows(message) } }

  /// Announces a guest's address to everyone else, as if it had done so itself (vhost-user: VHOST_USER_SEND_RARP): a RARP
  /// request, as a host's own after a migration. Uplinks lead to switches that must learn it, and guests may be bridges.
  func announce(_ mac: [UInt8], from port: Int) throws {
    dataplane.learn(MACAddress(mac), port: port)
    // RFC 903: hardware Ethernet, protocol IPv4, operation 3, sender and target hardware address `mac`.
    let frame: [UInt8] =
      [UInt8](repeating: 0xFF, count: 6) + mac + [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3] + mac
      + [0, 0, 0, 0] + mac + [UInt8](repeating: 0, count: 4 + 18)
    try dataplane.announce(frame, from: port)
  }
}
