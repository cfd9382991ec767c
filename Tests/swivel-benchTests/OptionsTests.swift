import ArgumentParser
import Linux
import Testing
import VirtioDriver

@testable import swivel_bench

@Suite struct OptionsTests {
  @Test("Without options: a short series between two ports of a switch of its own")
  func usual() throws {
    let plan = try SwivelBench.parse([]).options.plan()
    #expect(plan.mode == .throughput && plan.sizes == Sizes.usual)
    #expect(plan.ports == 2 && plan.pattern == .pairs && plan.rate == nil)
    #expect(plan.mergeable && !plan.indirect && plan.ring == .split)
    #expect(plan.idlePorts == 0 && plan.allPorts == 2 && plan.poll == .busy)
  }

  @Test("What is asked for is what is planned")
  func planned() throws {
    let plan = try SwivelBench.parse([
      "latency", "--rate", "2M", "--size", "imix", "--ring", "packed", "--in-order", "--macs", "64",
      "--no-mergeable", "--indirect", "--ring-size", "1024", "--queues", "2", "--cpu", "0",
      "--socket", "/a", "--socket", "/b",
    ]).options.plan()
    #expect(plan.mode == .latency && plan.rate == 2e6 && plan.sizes == [.imix])
    #expect(plan.ring == .packed && plan.inOrder && plan.macs == 64 && !plan.mergeable)
    #expect(plan.indirect && plan.ringSize == 1024 && plan.queues == 2 && plan.cpu == 0)
  }

  @Test("Idle ports are further ones; of the sockets given they are the last")
  func idlePorts() throws {
    let own = try SwivelBench.parse(["--idle-ports", "1000", "--poll", "adaptive"]).options.plan()
    #expect(own.ports == 2 && own.idlePorts == 1000 && own.allPorts == 1002)
    #expect(own.poll == .adaptive)
    let sockets = (0..<70).flatMap { ["--socket", "/\($0)"] }
    let given = try SwivelBench.parse(sockets + ["--idle-ports", "66"]).options.plan()
    #expect(given.ports == 4 && given.allPorts == 70)
  }

  @Test("A mixed pair is two ports more, and what it is beside is large if nobody says how large")
  func mixed() throws {
    let usual = try SwivelBench.parse(["--mixed", "--idle-ports", "3"]).options.plan()
    #expect(usual.mixed && usual.segmented && usual.sizes == [.one(65226)])
    #expect(usual.bufferSize == 4096 && usual.ports == 2 && usual.watchedPorts == 2)
    #expect(usual.allPorts == 7)
    #expect(usual.watched.sizes == [.one(64)] && !usual.watched.segmented)
    #expect(usual.watched.bufferSize == 2048 && usual.watched.queues == 1)
    let sockets = (0..<7).flatMap { ["--socket", "/\($0)"] }
    let small = try SwivelBench.parse(
      sockets + ["--mixed", "--size", "64", "--idle-ports", "3"]
    ).options.plan()
    #expect(!small.segmented && small.sizes == [.one(64)] && small.ports == 2)
  }

  @Test("The first of the idle ports gets the frames of the others")
  func cold() throws {
    let plan = try SwivelBench.parse(["cold", "--idle-ports", "100", "--every", "2"]).options.plan()
    #expect(plan.mode == .cold && plan.interval == 0.002 && plan.watchedPorts == 1)
    #expect(plan.allPorts == 102 && plan.sizes == [.one(64)])
  }

  @Test("Workers have CPUs of their own, the last ones if nobody says which")
  func workers() throws {
    let cpus = Affinity.current
    let one = try SwivelBench.parse([]).options.plan()
    #expect(one.workerCPUs == cpus.suffix(1))
    let all = try SwivelBench.parse(["--workers", "\(cpus.count)"]).options.plan()
    #expect(all.workerCPUs == cpus && all.cpu == cpus.first)
    let told = try SwivelBench.parse(["--workers", "3", "--worker-cpu", "5,4,9"]).options.plan()
    #expect(told.workerCPUs == [5, 4, 9])
    let shared = Report(all, ownDaemon: true, results: [])
    #expect(shared.remarks.contains("shares CPU"))
    #expect(Report(all, ownDaemon: false, results: []).remarks == "")
  }

  @Test("CPUs are a list of numbers", arguments: ["", "1,", "-1", "a", "1,1", "0-3"])
  func cpus(text: String) {
    #expect(CPUList(argument: text) == nil)
    #expect(CPUList(argument: "3")?.cpus == [3] && CPUList(argument: "2,0")?.cpus == [2, 0])
  }

  @Test("Fan-in is another name for many-to-one")
  func fanIn() throws {
    let plan = try SwivelBench.parse(["--pattern", "fan-in", "--ports", "9"]).options.plan()
    #expect(plan.pattern == .manyToOne && plan.ports == 9)
  }

  @Test("More idle guests than there can be descriptors for are refused, by numbers")
  func descriptors() {
    let error = #expect(throws: BenchError.self) {
      try IdleGuests.makeRoom(for: 1_000_000_000)
    }
    #expect(error?.description.contains("open files") == true)
  }

  @Test(
    "Usage errors",
    arguments: [
      ["--socket", "/a"], ["--size", "12"], ["--ring-size", "100"], ["--macs", "0"], ["latency"],
      ["zero-loss", "--rate", "1M"], ["--seconds", "0"], ["--ports", "3"], ["nonsense"],
      ["--rate", "fast"], ["burst", "--verify"],
      ["--socket", "/a", "--socket", "/b", "--ports", "2"],
      ["--idle-ports", "1001"], ["--idle-ports", "-1"], ["generator", "--idle-ports", "1"],
      ["--socket", "/a", "--socket", "/b", "--idle-ports", "1"],
      ["--pattern", "flood", "--idle-ports", "1"],
      ["--workers", "0"], ["--workers", "4097"], ["--workers", "2", "--worker-cpu", "1"],
      ["--workers", "1", "--socket", "/a", "--socket", "/b"], ["--control", "/c"],
      ["memcpy", "--size", "imix"], ["--memcpy"], ["ping", "--memcpy"],
      ["--memcpy", "--size", "64", "--pattern", "flood"], ["memcpy", "--idle-ports", "1"],
      ["cold"], ["cold", "--idle-ports", "1"], ["--every", "5"],
      ["cold", "--idle-ports", "2", "--every", "0"],
      ["--mixed", "--rate", "1M"], ["--mixed", "--verify"], ["ping", "--mixed"],
      ["--mixed", "--pattern", "flood"], ["--mixed", "--socket", "/a", "--socket", "/b"],
      ["--mixed", "--ring", "packed"],
      [
        "--socket", "/a", "--socket", "/b", "--socket", "/c", "--socket", "/d", "--idle-ports", "1",
      ],
    ])
  func refused(arguments: [String]) {
    #expect(throws: (any Error).self) { try SwivelBench.parse(arguments) }
  }

  @Test("Features asked for are needed; others would do without")
  func features() {
    var plan = Plan()
    #expect(Bed.features(plan).needed == [.mrgRxbuf])
    plan.mergeable = false
    plan.ring = .packed
    plan.inOrder = true
    plan.indirect = true
    plan.queues = 2
    #expect(
      Bed.features(plan).needed
        == [.ringPacked, .version1, .inOrder, .indirectDesc, .mq, .protocolFeatures])
  }
}
